"""One hidden layer over one-hot positions, and a table of lambda."""

import torch
from pydantic import Field
from torch import nn

from di4c_cli.core import networks
from di4c_cli.core.space import StateSpace


class Table(networks.Network):
    def __init__(self, space: StateSpace, hidden: int, bins: int) -> None:
        super().__init__()
        self.space, self.bins = space, bins
        size = space.num_dims * space.num_states
        self.inner = nn.Linear(size, hidden)
        self.outer = nn.Linear(hidden, size)
        self.lam = nn.Embedding(bins, hidden) if bins else None

    def body(self, x, t, label=None, lam=None):
        one_hot = nn.functional.one_hot(x, self.space.num_states).flatten(1)
        h = self.inner(one_hot.to(self.inner.weight.dtype))[:, None]
        if lam is not None:
            h = h + self.lam((lam * self.bins).long().clamp(max=self.bins - 1))
        return torch.tanh(h)

    def head(self, h, sites):
        logits = self.outer(h).unflatten(-1, (self.space.num_dims, self.space.num_states))
        return sites.features(logits)


class Config(networks.Config):
    """Table of lambda."""

    hidden: int = Field(32, ge=1)
    """Hidden units."""
    bins: int = Field(8, ge=1)
    """Values of lambda that are told apart."""

    def build(self, space: StateSpace, *, lam: bool) -> Table:
        return Table(space, self.hidden, self.bins if lam else 0)
