"""What metrics of running text have in common: the codec they need, and the real text they compare with."""

from jaxtyping import Int
from torch import Tensor

from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.datasets import spread
from di4c_cli.core.metrics import Trial
from di4c_cli.errors import RecipeError


def text_codec(trial: Trial, metric: str) -> TextCodec:
    """The codec of a trial, known to be of running text.

    Raises:
        RecipeError: it is another one.
    """
    if not isinstance(trial.codec, TextCodec):
        raise RecipeError(f"metrics: {metric} reads running text", "leave it out of this recipe")
    return trial.codec


def real_text(trial: Trial) -> Int[Tensor, "M D"]:
    """As many held-out rows as there are samples, spread evenly (all, if there are fewer).

    For the floor, whose samples are those very rows, training rows: the floor says how far one real text is
    from another, at the same two sizes, and so what the sizes alone cost.
    """
    split = trial.dataset.train if trial.plan is None else trial.dataset.test
    return spread(split, len(trial.samples)).x_0
