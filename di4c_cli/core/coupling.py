"""How the components of neighbouring windows come together, in closed form.

`u (B, W, M)` are potentials: unnormalised log-weights of the M components of each of W windows. A coupling
says how probable an assignment of components is, exp(sum_w u_w(j_w)) times what it adds itself; everything
that is asked of it is exact.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core.space import at_least_float32, draw_from, inverse_cdf, uniform


class Coupling(nn.Module, ABC):
    """A law of the components j_1 .. j_W."""

    @abstractmethod
    def log_total(self, u: Float[Tensor, "B W M N"]) -> Float[Tensor, "B N"]:
        """log of the sum over all assignments, for each of N sets of potentials."""

    @abstractmethod
    def log_marginals(self, u: Float[Tensor, "B W M"]) -> Float[Tensor, "B W M"]:
        """log p(j_w) of each window: normalised."""

    @abstractmethod
    def draw(self, u: Float[Tensor, "B W M"], generator: torch.Generator) -> Int[Tensor, "B W"]:
        """One assignment for each row, in float64."""


class Independent(Coupling):
    """Windows that know nothing of each other."""

    def log_total(self, u: Float[Tensor, "B W M N"]) -> Float[Tensor, "B N"]:
        return u.logsumexp(2).double().sum(1)

    def log_marginals(self, u: Float[Tensor, "B W M"]) -> Float[Tensor, "B W M"]:
        return u.log_softmax(-1)

    def draw(self, u: Float[Tensor, "B W M"], generator: torch.Generator) -> Int[Tensor, "B W"]:
        at = uniform(*u.shape[:2], 1, generator=generator, device=u.device)
        return draw_from(u, at).squeeze(-1)


class Chain(Coupling):
    """A hidden Markov chain along the windows: each component weighs the next window's.

    Sums over assignments by the forward algorithm, in probabilities that are scaled at every window.
    """

    def __init__(self, links: int, num_components: int) -> None:
        """
        Args:
            links: 1 for all pairs of neighbours alike, or one for each of W - 1.
        """
        super().__init__()
        self.transition = nn.Parameter(torch.zeros(links, num_components, num_components))

    def _scaled(self, u: Float[Tensor, "B W M"]) -> tuple[list[Tensor], list[Tensor], Float[Tensor, "B W 1"]]:
        """exp(u - top) of each window, exp(transition) of each pair, and top."""
        top, pairs = u.detach().amax(-1, keepdim=True), u.shape[1] - 1
        return list((u - top).exp().unbind(1)), list(self._steps().expand(pairs, -1, -1)), top

    def _steps(self) -> Float[Tensor, "links M M"]:
        return at_least_float32(self.transition).exp()

    def log_total(self, u: Float[Tensor, "B W M N"]) -> Float[Tensor, "B N"]:
        B, W, M, N = u.shape
        own, steps, top = self._scaled(u.permute(0, 3, 1, 2).reshape(B * N, W, M))
        message, total = own[0], top.double().sum((1, 2))
        for step, potential in zip(steps, own[1:], strict=True):
            scale = message.sum(-1, keepdim=True)
            total = total + scale.log().double().squeeze(-1)
            message = ((message / scale) @ step) * potential
        return (total + message.sum(-1).log().double()).view(B, N)

    def log_marginals(self, u: Float[Tensor, "B W M"]) -> Float[Tensor, "B W M"]:
        own, steps, _ = self._scaled(u)
        messages, back = self._forward(own, steps), torch.ones_like(own[0])
        found = [messages[-1]]
        for w in reversed(range(len(steps))):
            back = (back * own[w + 1]) @ steps[w].T
            back = back / back.sum(-1, keepdim=True)
            found.append(messages[w] * back)
        shares = torch.stack(found[::-1], 1)
        shares = shares / shares.sum(-1, keepdim=True)
        return shares.clamp(min=torch.finfo(u.dtype).tiny).log()

    @staticmethod
    def _forward(own: list[Tensor], steps: list[Tensor]) -> list[Float[Tensor, "B M"]]:
        """The law of each window's component, given the windows up to it."""
        messages = [own[0] / own[0].sum(-1, keepdim=True)]
        for step, potential in zip(steps, own[1:], strict=True):
            message = (messages[-1] @ step) * potential
            messages.append(message / message.sum(-1, keepdim=True))
        return messages

    def draw(self, u: Float[Tensor, "B W M"], generator: torch.Generator) -> Int[Tensor, "B W"]:
        at = uniform(*u.shape[:2], 1, generator=generator, device=u.device)
        own, steps, _ = self._scaled(u)
        # Rows of a transposed copy are read much faster than columns.
        into = list(self._steps().transpose(1, 2).contiguous().expand(len(steps), -1, -1))
        law, *before = reversed(self._forward(own, steps))
        drawn = [inverse_cdf(law.double(), at[:, -1])]
        for w, law in zip(reversed(range(len(steps))), before, strict=True):
            weights = law * into[w].index_select(0, drawn[-1].squeeze(-1))
            drawn.append(inverse_cdf(weights.double(), at[:, w]))
        return torch.cat(drawn[::-1], 1)
