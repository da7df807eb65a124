"""Statistics of pairs of columns: what a product model cannot carry."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


def pair_laws(rows: Int[Tensor, "N D"], num_states: int) -> Float[Tensor, "DS DS"]:
    """Joint shares of state a in column i and b in column j, at (i S + a, j S + b)."""
    hot = one_hot(rows.long(), num_states).flatten(1).float()
    return (hot.T @ hot).double() / len(rows)


def column_laws(rows: Int[Tensor, "N D"], num_states: int) -> Float[Tensor, "D S"]:
    """Shares of each state in each column: the profile."""
    return one_hot(rows.long(), num_states).double().mean(0)


def between(D: int, S: int) -> Tensor:
    """Which entries of (D S, D S) are of two different columns, each pair of columns once."""
    column = torch.arange(D).repeat_interleave(S)
    return column[:, None] < column


def connected(rows: Int[Tensor, "N D"], num_states: int) -> Float[Tensor, " pairs"]:
    """p(a in i, b in j) - p(a in i) p(b in j) of all states of all pairs of columns: 0 where independent."""
    single = column_laws(rows, num_states).flatten()
    return (pair_laws(rows, num_states) - torch.outer(single, single))[between(rows.shape[1], num_states)]


def mutual_information(rows: Int[Tensor, "N D"], num_states: int) -> Float[Tensor, " pairs"]:
    """Of all pairs of columns, nats, as counted: some (S - 1)^2 / 2N too high, so compare at one N."""
    D = rows.shape[1]
    nats = torch.special.entr(column_laws(rows, num_states)).sum(-1)
    joint = torch.special.entr(pair_laws(rows, num_states)).view(D, num_states, D, num_states).sum((1, 3))
    upper = torch.ones(D, D, dtype=torch.bool).triu(1)
    return (nats[:, None] + nats - joint)[upper]


def pearson(x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> float:
    """Correlation coefficient; 0 where one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt((x @ x).item() * (y @ y).item())
    return (x @ y).item() / scale if scale > 0 else 0.0
