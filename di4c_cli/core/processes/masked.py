"""Absorbing ("masked") process: every position turns into the mask independently, with probability m(t).

MaskGIT, MDLM (arXiv 2406.07524), D3PM-absorbing. With alpha_t = 1 - m(t), the reverse step keeps a mask with
probability m(s) / m(t) and otherwise reveals a draw of x_0; what is visible is frozen.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from di4c_cli.core import processes
from di4c_cli.core.processes._schedule import Schedule, corrupted, rate
from di4c_cli.core.space import NEVER, StateSpace, uniform


class MaskedProcess(processes.ForwardProcess):
    """x_t^d = mask with probability m(t), else x_0^d."""

    def __init__(self, space: StateSpace, schedule: Schedule = "linear") -> None:
        """`space` is the data's; the process adds the mask as its last state."""
        self.space = space.with_mask()
        self.schedule = schedule
        self.mask_id = space.num_states

    def mask_prob(self, t: Tensor) -> Tensor:
        """m(t) of the schedule."""
        return corrupted(self.schedule, t)

    def mask_rate(self, t: Tensor) -> Tensor:
        """dm/dt."""
        return rate(self.schedule, t)

    def sample_prior(
        self, n: int, generator: torch.Generator, device: torch.device | str
    ) -> Int[Tensor, "n D"]:
        return torch.full((n, self.space.num_dims), self.mask_id, device=device)

    def prior_probs(self) -> Float[Tensor, " S"]:
        """q_1 of one position: all on the mask."""
        return torch.eye(self.space.num_states, dtype=torch.float64)[self.mask_id]

    def sample_forward(
        self, x_0: Int[Tensor, "N D"], t: Float[Tensor, " N"], generator: torch.Generator
    ) -> Int[Tensor, "N D"]:
        u = uniform(*x_0.shape, generator=generator, device=x_0.device)
        return x_0.masked_fill(u < self.mask_prob(t)[:, None], self.mask_id)

    def sample_posterior(
        self,
        x_0: Int[Tensor, "N D"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
        generator: torch.Generator,
    ) -> Int[Tensor, "N D"]:
        return torch.where(self.revealed(x_t, t, s, generator), x_0, x_t)

    def open(self, x_t: Int[Tensor, "N D"]) -> Bool[Tensor, "N D"]:
        return x_t == self.mask_id

    def revealed(
        self,
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
        generator: torch.Generator,
    ) -> Bool[Tensor, "N D"]:
        u = uniform(*x_t.shape, generator=generator, device=x_t.device)
        return self.open(x_t) & (u >= self._stay(t, s)[:, None])

    def finish(self, x_0: Int[Tensor, "N D"], x_t: Int[Tensor, "N D"]) -> Int[Tensor, "N D"]:
        return torch.where(self.open(x_t), x_0, x_t)

    def log_likelihood(self, x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        m = self.mask_prob(t)[:, None, None]
        seen = x_t[..., None]
        shape = (*x_t.shape, self.space.num_states)
        masked = m.log().clamp(min=NEVER).expand(shape).clone()
        masked[..., self.mask_id] = NEVER  # data holds no mask
        kept = torch.log1p(-m).clamp(min=NEVER).expand(*x_t.shape, 1)
        visible = masked.new_full(shape, NEVER).scatter(-1, seen, kept)
        return torch.where(seen == self.mask_id, masked, visible)

    def log_transition(
        self,
        log_p: Float[Tensor, "N D S"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
    ) -> Float[Tensor, "N D S"]:
        stay = self._stay(t, s).to(log_p.dtype)[:, None, None]
        revealed = log_p + torch.log1p(-stay).clamp(min=NEVER)
        # A parameterization may leave the mask itself some probability: revealed as a mask, a mask it stays.
        stays = torch.logaddexp(revealed[..., self.mask_id], stay[..., 0].log().clamp(min=NEVER))
        revealed = revealed.index_copy(-1, torch.tensor([self.mask_id], device=x_t.device), stays[..., None])
        seen = x_t[..., None]
        frozen = log_p.new_full(log_p.shape, NEVER).scatter(-1, seen, 0.0)
        return torch.where(seen == self.mask_id, revealed, frozen)

    def log_posterior(
        self,
        x_s: Int[Tensor, "N D"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
    ) -> Float[Tensor, "N D S"]:
        stay = self._stay(t, s)[:, None].expand(x_t.shape)
        stays, reveals = stay.log().clamp(min=NEVER), torch.log1p(-stay).clamp(min=NEVER)
        open_, unchanged = self.open(x_t), x_s == x_t
        unmoved = torch.where(unchanged, stays.where(open_, 0.0), NEVER)  # whatever x_0 is
        # x_0 = x_s explains a position that was open: a reveal, and for certain where x_0 is a mask itself.
        explained = torch.where(open_, reveals.where(~unchanged, 0.0), unmoved)
        every = unmoved[..., None].repeat(1, 1, self.space.num_states)
        return every.scatter_(-1, x_s[..., None], explained[..., None])

    def reverse_rates(
        self, log_p: Float[Tensor, "N D S"], x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        rates = log_p.double().exp() * (self.mask_rate(t) / self.mask_prob(t))[:, None, None]
        rates[..., self.mask_id] = 0
        return rates * (x_t == self.mask_id)[..., None]

    def forward_rates(self, x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        rates = torch.zeros(*x_t.shape, self.space.num_states, dtype=torch.float64, device=x_t.device)
        rates[..., self.mask_id] = (self.mask_rate(t) / (1 - self.mask_prob(t)))[:, None]
        return rates * (x_t != self.mask_id)[..., None]

    def _stay(self, t: Tensor, s: Tensor) -> Tensor:
        """Probability that a mask at t is still one at s."""
        return self.mask_prob(s) / self.mask_prob(t)


class Config(processes.Config):
    """Masked process."""

    schedule: Schedule = "linear"
    """How the masked share grows with t: linear, loglinear (MDLM), arccos or cosine (MaskGIT)."""

    def build(self, space: StateSpace) -> MaskedProcess:
        return MaskedProcess(space, self.schedule)
