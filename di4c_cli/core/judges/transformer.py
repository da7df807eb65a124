"""A small causal transformer over the codec's tokens, which `di4c train-judge` fits to the training split.

It lies below the cache, named by its sizes and the very text it saw; how long it was trained is not part of
the name, and its weights tell two of them apart.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from di4c_cli.core import checkpoints, judges
from di4c_cli.core.codecs import TextCodec
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.judges import fingerprint
from di4c_cli.core.judges._causal import Causal
from di4c_cli.core.order import data_indices
from di4c_cli.core.progress import report
from di4c_cli.errors import CheckpointError, RecipeError

TRAIN_IT = "train it: di4c train-judge RECIPE, with the same recipe and overrides"
SEEN = 10_000  # training rows that name a text
CHUNK = 2**14  # tokens in one forward pass
HELD_OUT = 2000  # rows, at most
BATCH = 2**11  # tokens in one step
LEARNING_RATE = 2e-3
WARM_UP = 0.05  # of the steps
LONGEST_GRADIENT = 1.0


class Transformer:
    """A trained network; sums of its float32 logarithms in float64."""

    def __init__(self, network: Causal, device: torch.device | str) -> None:
        self.network = network.to(device).eval()
        self.device = device
        size = sum(parameter.numel() for parameter in network.parameters())
        digest = fingerprint(network.state_dict())
        self.name = f"transformer of {size:,} parameters, float32, sha256 {digest}"

    @torch.no_grad()
    def nats(self, rows: Int[Tensor, "N D"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        chunks = rows.split(max(1, CHUNK // rows.shape[1]))
        parts = [self.network.token_nats(part.to(self.device)).cpu().double().sum(1) for part in chunks]
        return torch.cat(parts), torch.full((len(rows),), rows.shape[1], dtype=torch.float64)


@dataclass(frozen=True)
class Fit:
    """What a training gives."""

    judge: Transformer
    held_out: float
    """Nats per token of held-out rows."""


class Config(judges.Config):
    """A causal transformer, trained once on the training split by `di4c train-judge`."""

    width: int = Field(128, ge=4)
    """Width of the residual stream; an even multiple of `heads`."""
    depth: int = Field(4, ge=1)
    """Blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads."""

    @model_validator(mode="after")
    def _rotatable(self) -> "Config":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not an even multiple of {self.heads} heads")
        return self

    def folder(self, dataset: Dataset, codec: TextCodec, cache: Path) -> Path:
        """Where this judge of this text lies, or will."""
        sizes = json.dumps([self.model_dump(), codec.space.num_states, len(dataset.train)])
        digest = hashlib.sha256(sizes.encode())
        digest.update(spread(dataset.train, SEEN).x_0.to(torch.int32).numpy().data)
        return cache / "judges" / f"{self.kind}-{digest.hexdigest()[:12]}"

    def untrained(self, codec: TextCodec) -> Causal:
        return Causal(codec.space.num_states, self.width, self.depth, self.heads)

    def build(
        self, dataset: Dataset, codec: TextCodec, cache: Path, device: torch.device | str
    ) -> Transformer:
        """The trained judge.

        Raises:
            RecipeError: it has not been trained.
            CheckpointError: its files are damaged.
        """
        folder = self.folder(dataset, codec, cache)
        if not folder.is_dir():
            raise RecipeError(f"metrics: perplexity: there is no judge of this text in {folder}", TRAIN_IT)
        try:
            network = checkpoints.loaded(lambda: self.untrained(codec), folder, "raw")
        except CheckpointError as error:
            raise CheckpointError(error.message, TRAIN_IT) from None
        return Transformer(network, device)

    def fit(
        self, dataset: Dataset, codec: TextCodec, steps: int, seed: int, device: torch.device | str
    ) -> Fit:
        """A network trained on the training split: AdamW, linear warm-up, cosine down to 0."""
        torch.manual_seed(seed)
        network = self.untrained(codec).to(device)
        optimizer = torch.optim.AdamW(
            network.parameters(), LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / steps))
        size = max(1, BATCH // codec.space.num_dims)
        for step in range(steps):
            rows = dataset.train[data_indices(len(dataset.train), size, step, seed)].x_0
            loss = network.token_nats(rows.to(device)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), LONGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            report(step + 1, steps, "judge")
        judge = Transformer(network, device)
        nats, count = judge.nats(spread(dataset.test, HELD_OUT).x_0)
        return Fit(judge, (nats.sum() / count.sum()).item())

    def save(self, folder: Path, fit: Fit, source: dict[str, Any], card: str) -> None:
        """The judge as a checkpoint folder, whole or not at all; one that is there is replaced.

        Raises:
            OSError: it cannot be written.
        """
        header = {"role": "judge", "kind": self.kind, "architecture": self.model_dump(), "source": source}
        checkpoints.save(folder, config=header, model=fit.judge.network.state_dict(), ema=None, card=card)


def rate(done: float) -> float:
    """The share of the learning rate, when a share of the steps is done: linear up, then a cosine to 0."""
    return min((done + 1e-3) / WARM_UP, (1 + math.cos(math.pi * done)) / 2)
