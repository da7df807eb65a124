"""Whether class-conditional samples show the class that was asked for."""

from di4c_cli.core.metrics import Direction, Metric, PerItem, Trial, _features
from di4c_cli.core.metrics._features import evaluator


class ClassAccuracy:
    """`class_accuracy`: share of samples that the evaluation classifier takes for their class."""

    directions: dict[str, Direction] = {"class_accuracy": "higher"}  # noqa: RUF012

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        if trial.label is None:
            return {}
        classes = evaluator(trial.dataset, trial.codec, trial.cache).classes(trial.samples).argmax(-1)
        return {"class_accuracy": PerItem.mean((classes == trial.label.cpu()).double())}


class Config(_features.Config):
    """Share of class-conditional samples recognised as their class."""

    def build(self) -> Metric:
        return ClassAccuracy()
