"""What metrics of running text have in common: the codec they need, and the real text they compare with."""

from jaxtyping import Int
from torch import Tensor

from di4c_cli.core import metrics
from di4c_cli.core.codecs import Codec, TextCodec
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.metrics import Trial


class Config(metrics.Config):
    """What metrics of running text are told: nothing yet."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if not isinstance(codec, TextCodec):
            raise ValueError("reads running text; leave it out")


def text_codec(trial: Trial) -> TextCodec:
    """The codec of a trial, which `check` knows to be of running text."""
    assert isinstance(trial.codec, TextCodec)
    return trial.codec


def real_text(trial: Trial) -> Int[Tensor, "M D"]:
    """As many held-out rows as there are samples, spread evenly (all, if there are fewer).

    For the floor, whose samples are those very rows, training rows: the floor says how far one real text is
    from another, at the same two sizes, and so what the sizes alone cost.
    """
    split = trial.dataset.train if trial.plan is None else trial.dataset.test
    return spread(split, len(trial.samples)).x_0
