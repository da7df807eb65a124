"""MAUVE (Pillutla et al. 2021), by its authors' package where the user has installed it."""

import importlib

from di4c_cli.core import metrics
from di4c_cli.core.metrics import Direction, Trial
from di4c_cli.core.metrics._text import real_text, text_codec
from di4c_cli.errors import RecipeError


class Mauve:
    """`mauve`: of samples and as many held-out rows, by the package's own settings and language model."""

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"mauve": "higher"}

    def __call__(self, trial: Trial) -> dict[str, float]:
        codec = text_codec(trial, "mauve")
        try:
            # Its licence is the GPL: it is no dependency of ours, not even an optional one.
            package = importlib.import_module("mauve")
        except ImportError:
            raise RecipeError(
                "metrics: mauve: the package is missing", "pip install mauve-text, or leave it out"
            ) from None
        ours, real = (codec.decode(rows) for rows in (trial.samples.cpu(), real_text(trial)))
        return {"mauve": float(package.compute_mauve(p_text=real, q_text=ours, verbose=False).mauve)}


class Config(metrics.Config):
    """Divergence frontier of samples and held-out text in a language model's features."""

    def build(self) -> Mauve:
        return Mauve()
