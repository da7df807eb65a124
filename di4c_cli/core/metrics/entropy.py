"""Unigram entropy: low where a text model repeats itself."""

import torch

from di4c_cli.core import metrics
from di4c_cli.core.codecs.characters import CharacterCodec
from di4c_cli.core.metrics import Direction, Trial


class Entropy:
    """`entropy` of the pooled states of all samples, nats; padding of fixed-length strings is left out."""

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"entropy": "report"}

    def __call__(self, trial: Trial) -> dict[str, float]:
        counts = trial.samples.flatten().cpu().bincount(minlength=trial.codec.space.num_states).double()
        if isinstance(trial.codec, CharacterCodec):
            counts[trial.codec.padding_id] = 0
        return {"entropy": torch.special.entr(counts / counts.sum().clamp(min=1)).sum().item()}


class Config(metrics.Config):
    """Unigram entropy of the samples."""

    def build(self) -> Entropy:
        return Entropy()
