"""How many samples have all their positions equal."""

from di4c_cli.core import metrics


class Agreement:
    def __init__(self) -> None:
        self.directions = {"agreement": "higher"}

    def __call__(self, trial) -> dict[str, metrics.PerItem]:
        same = (trial.samples == trial.samples[:, :1]).all(1)
        return {"agreement": metrics.PerItem.mean(same.double())}

    def judge(self, trial) -> str:
        return f"a vote of {trial.codec.space.num_dims} positions"


class Config(metrics.Config):
    """Share of samples that agree with themselves."""

    def build(self) -> Agreement:
        return Agreement()
