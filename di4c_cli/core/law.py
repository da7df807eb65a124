"""What a denoiser hands out: a law of x_0 given x_t, read whole or by slices of positions.

A product law is what a sampler reads; a mixture law is what losses and likelihoods read. Both are lazy:
nothing of size S exists before somebody reads it, so callers that need few positions pay for few.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core import mixture
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.space import sample_categorical

Reader = Callable[[slice], Tensor]
ALL = slice(None)


class ProductLaw:
    """p(x_0 | x_t) = prod_d p^d(x_0^d | x_t) for N rows."""

    def __init__(self, read: Reader, num_dims: int) -> None:
        """`read(positions)` gives normalised log-probabilities (N, d, S) of a slice of positions."""
        self.read = read
        self.num_dims = num_dims

    @classmethod
    def dense(cls, log_p: Float[Tensor, "N D S"]) -> "ProductLaw":
        return cls(lambda positions: log_p[:, positions], log_p.shape[1])

    @cached_property
    def log_p(self) -> Float[Tensor, "N D S"]:
        """All positions at once."""
        return self.read(ALL)

    def chunks(self, size: int) -> Iterator[tuple[slice, Float[Tensor, "N d S"]]]:
        """Slices of at most `size` positions with their log-probabilities."""
        for start in range(0, self.num_dims, size):
            positions = slice(start, min(start + size, self.num_dims))
            yield positions, self.read(positions)

    def draw(self, generator: torch.Generator, num: int = 1) -> Int[Tensor, "N {num} D"]:
        """`num` independent points x_0 for each row, in float64."""
        return sample_categorical(self.log_p, generator, num).transpose(1, 2)

    def mode(self) -> Int[Tensor, "N D"]:
        """The most probable state of each position."""
        return self.log_p.argmax(-1)


@runtime_checkable
class Law(Protocol):
    """A joint law of x_0 given x_t for B data points, whatever its structure."""

    def log_marginal(self) -> Float[Tensor, "B D S"]:
        """One-position marginals."""
        ...

    def log_joint(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """log p(x | x_t), nats."""
        ...

    def correlation(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """log p(x | x_t) - sum_d log p^d(x^d | x_t): what a product law cannot express."""
        ...

    def log_step(
        self,
        process: ForwardProcess,
        x_t: Int[Tensor, "B D"],
        x_s: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        s: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """log p_{s|t}(x_s | x_t) with x_0 integrated out by the forward posterior."""
        ...

    def components_kl(self, log_p: Float[Tensor, "B D S"]) -> Float[Tensor, " B"]:
        """Mean over components of KL(p || component): each component held to a product law."""
        ...

    def effective_components(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        """exp(entropy) of the components' responsibilities at x: all of them where latents are ignored."""
        ...

    def subset(self, rows: Int[Tensor, " b"]) -> "Law":
        """The law of some of the data points, sharing what is computed."""
        ...


class MixtureLaw:
    """(1/L) sum_l prod_d p^d(x_0^d | x_t; lam_l) for B data points; L = 1 is a product law."""

    def __init__(self, read: Reader, num_dims: int) -> None:
        """`read(positions)` gives the components' log-probabilities (B, L, d, S)."""
        self.read = read
        self.num_dims = num_dims

    @classmethod
    def dense(cls, log_p: Float[Tensor, "B L D S"]) -> "MixtureLaw":
        return cls(lambda positions: log_p[:, :, positions], log_p.shape[2])

    @cached_property
    def log_p(self) -> Float[Tensor, "B L D S"]:
        """The components, all positions at once."""
        return self.read(ALL)

    def subset(self, rows: Int[Tensor, " b"]) -> "MixtureLaw":
        return MixtureLaw(lambda positions: self.log_p[rows][:, :, positions], self.num_dims)

    def components(self) -> ProductLaw:
        """The components as rows (B L) of a product law, those of one data point together."""
        return ProductLaw(lambda positions: self.log_p[:, :, positions].flatten(0, 1), self.num_dims)

    def log_marginal(self) -> Float[Tensor, "B D S"]:
        return mixture.log_marginal(self.log_p)

    def log_joint(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        return mixture.log_joint(self.log_p, x)

    def correlation(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        return mixture.correlation(self.log_p, x)

    def draw_each(self, generator: torch.Generator) -> Int[Tensor, "B L D"]:
        """One point from each component: together, stratified draws from the mixture."""
        return sample_categorical(self.log_p, generator).squeeze(-1)

    def log_step(
        self,
        process: ForwardProcess,
        x_t: Int[Tensor, "B D"],
        x_s: Int[Tensor, "B D"],
        t: Float[Tensor, " B"],
        s: Float[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        B, L, D, S = self.log_p.shape
        rows = process.log_transition(
            self.log_p.reshape(B * L, D, S),
            x_t.repeat_interleave(L, 0),
            t.repeat_interleave(L),
            s.repeat_interleave(L),
        ).view(B, L, D, -1)
        return mixture.log_joint_of_factors(mixture.log_factors(rows, x_s[:, None])).squeeze(1)

    def components_kl(self, log_p: Float[Tensor, "B D S"]) -> Float[Tensor, " B"]:
        return mixture.kl(log_p[:, None], self.log_p).mean(1)

    def effective_components(self, x: Int[Tensor, "B N D"]) -> Float[Tensor, "B N"]:
        return mixture.effective_components(self.log_p, x)
