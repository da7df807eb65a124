"""How the components of neighbouring windows come together, in closed form.

`u (B, W, M)` are potentials: unnormalised log-weights of the M components of each of W windows. A coupling
says how probable an assignment of components is, exp(sum_w u_w(j_w)) times what it adds itself; everything
that is asked of it is exact.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from di4c_cli.core.space import draw_from, uniform


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

    Sums over assignments by the forward algorithm. Its messages are scaled to a largest entry of 1, so a step
    is one matrix product; what lies further below than the precision is lost, as it would be in the sum.
    """

    def __init__(self, links: int, num_components: int) -> None:
        """
        Args:
            links: 1 for all pairs of neighbours alike, or one for each of W - 1.
        """
        super().__init__()
        self.transition = nn.Parameter(torch.zeros(links, num_components, num_components))

    def _steps(self, num: int) -> Float[Tensor, "{num} M M"]:
        return self.transition.exp().expand(num, -1, -1)

    def log_total(self, u: Float[Tensor, "B W M N"]) -> Float[Tensor, "B N"]:
        steps = self._steps(u.shape[1] - 1)
        message = u[:, 0]
        total = torch.zeros_like(message[:, 0], dtype=torch.float64)
        for w in range(1, u.shape[1]):
            top = message.detach().amax(1, keepdim=True)
            total = total + top.squeeze(1).double()
            passed = torch.einsum("bmn,mk->bkn", (message - top).exp(), steps[w - 1])
            message = passed.log() + u[:, w]
        return total + message.logsumexp(1).double()

    def _forward(self, u: Float[Tensor, "B W M"]) -> list[Float[Tensor, "B M"]]:
        """Messages up to each window, its own potential included, normalised."""
        steps, messages = self._steps(u.shape[1] - 1), [u[:, 0].log_softmax(-1)]
        for w in range(1, u.shape[1]):
            messages.append(((messages[-1].exp() @ steps[w - 1]).log() + u[:, w]).log_softmax(-1))
        return messages

    def log_marginals(self, u: Float[Tensor, "B W M"]) -> Float[Tensor, "B W M"]:
        messages, back = self._forward(u), torch.zeros_like(u[:, 0])
        steps, found = self._steps(u.shape[1] - 1), []
        for w in reversed(range(u.shape[1])):
            found.append((messages[w] + back).log_softmax(-1))
            if w:
                back = ((back + u[:, w]).log_softmax(-1).exp() @ steps[w - 1].T).log()
        return torch.stack(found[::-1], 1)

    def draw(self, u: Float[Tensor, "B W M"], generator: torch.Generator) -> Int[Tensor, "B W"]:
        at = uniform(*u.shape[:2], 1, generator=generator, device=u.device)
        messages, drawn, weigh = self._forward(u), [], torch.zeros_like(u[:, 0])
        for w in reversed(range(u.shape[1])):
            drawn.append(draw_from(messages[w] + weigh, at[:, w]))
            if w:
                weigh = self.transition.expand(u.shape[1] - 1, -1, -1)[w - 1].T[drawn[-1].squeeze(-1)]
        return torch.cat(drawn[::-1], 1)
