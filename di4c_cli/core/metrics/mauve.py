"""MAUVE (Pillutla et al. 2021), by its authors' package where the user has installed it."""

import importlib

from di4c_cli.core.codecs import Codec
from di4c_cli.core.component import installed
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.metrics import Direction, Trial, _text
from di4c_cli.core.metrics._text import real_text, text_codec


class Mauve:
    """`mauve`: of samples and as many held-out rows, by the package's own settings and language model."""

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"mauve": "higher"}

    def __call__(self, trial: Trial) -> dict[str, float]:
        codec = text_codec(trial)
        # Its licence is the GPL: it is no dependency of ours, not even an optional one.
        package = importlib.import_module("mauve")
        ours, real = (codec.decode(rows) for rows in (trial.samples.cpu(), real_text(trial)))
        return {"mauve": float(package.compute_mauve(p_text=real, q_text=ours, verbose=False).mauve)}


class Config(_text.Config):
    """Divergence frontier of samples and held-out text in a language model's features."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        super().check(codec, dataset)
        if not installed("mauve"):
            raise ValueError("its package is missing; pip install mauve-text, or leave it out")

    def build(self) -> Mauve:
        return Mauve()
