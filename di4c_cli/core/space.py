"""The state space S^D, batches of points in it, and the one categorical draw."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Log-probability of the impossible: exp gives exactly 0, and 0 * (x - NEVER) is 0 where -inf would give NaN.
NEVER = -1e6
# float64 entries of one piece of a draw (2 MiB): it should stay in a processor's cache.
DRAWN_AT_ONCE = 2**18


@dataclass(frozen=True, kw_only=True)
class StateSpace:
    """S^D with the grid its positions came from; states are flat tokens, networks reshape for themselves."""

    shape: tuple[int, ...]
    """The grid of positions: (channels, height, width) of an image, (length,) of text; its product is D."""
    num_states: int
    """S, the mask counted where there is one."""
    mask_id: int | None = None
    """The absorbing state: the last one, or none."""
    num_classes: int = 0
    """Class labels 0..num_classes-1; label == num_classes means "no label"."""

    @property
    def num_dims(self) -> int:
        """D."""
        return math.prod(self.shape)

    def with_mask(self) -> "StateSpace":
        """The same space with one more state, the mask, as the last."""
        return StateSpace(
            shape=self.shape,
            num_states=self.num_states + 1,
            mask_id=self.num_states,
            num_classes=self.num_classes,
        )


@dataclass(frozen=True)
class Batch:
    """Data points, with their class labels where the data set has them."""

    x_0: Int[Tensor, "B D"]
    label: Int[Tensor, " B"] | None = None

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(
            self.x_0.to(device, non_blocking=True),
            None if self.label is None else self.label.to(device, non_blocking=True),
        )

    def pinned(self) -> "Batch":
        """In page-locked memory, from which a GPU copies by itself."""
        return Batch(self.x_0.pin_memory(), None if self.label is None else self.label.pin_memory())

    def __getitem__(self, rows: Int[Tensor, " n"]) -> "Batch":
        return Batch(self.x_0[rows], None if self.label is None else self.label[rows])

    def told(self, num_classes: int, drop: float, generator: torch.Generator) -> "Batch":
        """With labels as models are to see them: none at all, or a share of them hidden."""
        if not num_classes or self.label is None:
            return Batch(self.x_0)
        hidden = uniform(len(self), generator=generator, device=self.x_0.device) < drop if drop else None
        label = self.label if hidden is None else self.label.masked_fill(hidden, num_classes)
        return Batch(self.x_0, label)

    def __len__(self) -> int:
        return len(self.x_0)


def uniform(*shape: int, generator: torch.Generator, device: torch.device | str) -> Float[Tensor, "..."]:
    """float64 uniforms on [0, 1), drawn on the generator's own device."""
    return torch.rand(*shape, generator=generator, device=generator.device, dtype=torch.float64).to(device)


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision is off by hundredths of a nat at the size of logits; likelihoods add that up."""
    return logits.float() if logits.dtype.itemsize < 4 else logits


def stratified(
    n: int, num: int, generator: torch.Generator, device: torch.device | str
) -> Float[Tensor, "n num"]:
    """Rows of `num` stratified uniforms: entry j is (j + U_j) / num, so each row covers [0, 1) evenly."""
    offset = torch.arange(num, dtype=torch.float64, device=device)
    return (offset + uniform(n, num, generator=generator, device=device)) / num


def sample_categorical(
    log_p: Float[Tensor, "*rows S"], generator: torch.Generator, num: int = 1
) -> Int[Tensor, "*rows {num}"]:
    """`num` independent draws from each row, by inverse CDF in float64.

    float32 races undersample rare states (their noise is a multiple of 2^-24), which acts like a lower
    temperature; a float64 cumulative sum keeps probabilities down to about 1e-16.

    Args:
        log_p: log-probabilities; rows need not be normalised.
    """
    u = uniform(*log_p.shape[:-1], num, generator=generator, device=log_p.device)
    return draw_from(log_p, u)


def draw_from(log_p: Float[Tensor, "*rows S"], u: Float[Tensor, "*rows num"]) -> Int[Tensor, "*rows num"]:
    """The states at the given uniforms of the rows' inverse CDFs, in float64, some rows at a time."""
    S, num = log_p.shape[-1], u.shape[-1]
    size = max(1, DRAWN_AT_ONCE // S)
    rows, uniforms = log_p.reshape(-1, S).split(size), u.reshape(-1, num).split(size)
    pieces = [inverse_cdf(_weights(p), v) for p, v in zip(rows, uniforms, strict=True)]
    return torch.cat(pieces).view(u.shape)


def draw_distinct(
    keys: Int[Tensor, "*rows"],
    weights: Callable[[Int[Tensor, " n"]], Float[Tensor, "n S"]],
    num_states: int,
    generator: torch.Generator,
) -> Int[Tensor, "*rows"]:
    """One draw for each entry from a law that depends on its key alone: one CDF for each distinct key.

    Args:
        weights: the laws of some keys in float64; they need not be normalised.
    """
    u = uniform(*keys.shape, generator=generator, device=keys.device).flatten()
    ordered, order = keys.flatten().sort()
    distinct, which = torch.unique_consecutive(ordered, return_inverse=True)
    size = max(1, DRAWN_AT_ONCE // num_states)
    # Entries of a piece of the keys follow each other: where they begin, and where the last ones end.
    begins = torch.searchsorted(which, torch.arange(0, len(distinct), size, device=keys.device)).tolist()
    drawn = torch.empty_like(order)
    for number, (begin, end) in enumerate(itertools.pairwise([*begins, len(order)])):
        cdf = weights(distinct[number * size : (number + 1) * size]).cumsum(-1)
        entries = order[begin:end]
        drawn[entries] = _bisected(cdf, which[begin:end] - number * size, u[entries])
    return drawn.view(keys.shape)


def _bisected(cdf: Float[Tensor, "n S"], row: Int[Tensor, " m"], u: Float[Tensor, " m"]) -> Int[Tensor, " m"]:
    """For each entry the first state of its row of `cdf` that lies above the uniform."""
    S = cdf.shape[1]
    total = cdf[row, -1]
    threshold, flat, start = _below_total(u * total, total), cdf.flatten(), row * S
    below, above = torch.zeros_like(row), torch.full_like(row, S - 1)
    for _ in range((S - 1).bit_length()):
        middle = (below + above) // 2
        beyond = flat[start + middle] > threshold
        above = torch.where(beyond, middle, above)
        below = torch.where(beyond, below, middle + 1)
    return above


def _weights(log_p: Float[Tensor, "n S"]) -> Float[Tensor, "n S"]:
    p = log_p.double()
    return (p - p.amax(-1, keepdim=True)).exp_()


def inverse_cdf(p: Float[Tensor, "n S"], u: Float[Tensor, "n num"]) -> Int[Tensor, "n num"]:
    """The states at the given uniforms; `p` in float64, rows of any sum."""
    cdf = p.cumsum(-1)
    total = cdf[..., -1:]
    # A row of NaN would give S: the loss is to tell of a diverged model, not an index out of bounds.
    return torch.searchsorted(cdf, _below_total(u * total, total), right=True).clamp_(max=p.shape[-1] - 1)


def _below_total(threshold: Tensor, total: Tensor) -> Tensor:
    """u * total may round up to total; stay below, so that a trailing state of probability 0 is never met."""
    return torch.minimum(threshold, torch.nextafter(total, torch.zeros_like(total)))
