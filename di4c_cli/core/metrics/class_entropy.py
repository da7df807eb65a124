"""Entropy of the predicted classes: low where a model forgot some of them."""

import math

import torch

from di4c_cli.core.metrics import Direction, Trial, _features
from di4c_cli.core.metrics._features import evaluator


class ClassEntropy:
    """`class_entropy`, as a share of its maximum log C, of the evaluator's most probable classes."""

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {"class_entropy": "higher"}

    def __call__(self, trial: Trial) -> dict[str, float]:
        space = evaluator(trial.dataset, trial.codec, trial.cache)
        counts = space.classes(trial.samples).argmax(-1).bincount(minlength=space.num_classes).double()
        entropy = torch.special.entr(counts / counts.sum()).sum().item()
        return {"class_entropy": entropy / math.log(space.num_classes)}


class Config(_features.Config):
    """Entropy of the predicted classes over that of equal classes."""

    def build(self) -> ClassEntropy:
        return ClassEntropy()
