"""Generative perplexity: how likely a judge, a language model of its own, finds the samples.

Alone it misleads: one good text, given again and again, has the best of all. It stands beside entropies,
n-gram divergence and the NLL bound, which expose that.
"""

from functools import lru_cache
from pathlib import Path

import torch
from pydantic import Field

from di4c_cli.core.codecs import Codec, TextCodec
from di4c_cli.core.component import section
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.judges import Config as JudgeConfig
from di4c_cli.core.judges import Judge, ngram
from di4c_cli.core.metrics import Direction, PerItem, Trial, _text
from di4c_cli.core.metrics._text import text_codec

JudgeSection = section("judges")


class Perplexity:
    """`judge_ppl`, or the name it is given: exp of the judge's nats per token over all samples."""

    def __init__(self, judge: JudgeConfig, name: str) -> None:
        self.directions: dict[str, Direction] = {name: "lower"}
        self.config = judge
        self.name = name

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        total, count = self._judge(trial).nats(trial.samples.cpu())
        return {self.name: PerItem(total, count, exponential=True)}

    def judge(self, trial: Trial) -> str:
        return self._judge(trial).name

    def _judge(self, trial: Trial) -> Judge:
        codec = text_codec(trial)
        return appointed(self.config, trial.dataset, codec, trial.cache, trial.device)


@lru_cache(maxsize=4)
def appointed(
    config: JudgeConfig, dataset: Dataset, codec: TextCodec, cache: Path, device: torch.device | str
) -> Judge:
    """The judge that a section describes, kept for all trials of an evaluation."""
    return config.build(dataset, codec, cache, device)


class Config(_text.Config):
    """Perplexity of the samples under a judge; figures of two judges do not compare."""

    judge: JudgeSection = ngram.Config()  # type: ignore[valid-type]
    """Who judges."""
    name: str = Field("judge_ppl", pattern=r"([a-z][a-z0-9]*_)*judge_ppl")
    """The figure's name; where a recipe has several judges, one of theirs stands before it."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        super().check(codec, dataset)
        self.judge.check()  # type: ignore[attr-defined]

    def build(self) -> Perplexity:
        return Perplexity(self.judge, self.name)
