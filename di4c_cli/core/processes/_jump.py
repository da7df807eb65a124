"""Processes on the data's own states (no mask), written over rows and columns of the transition kernel."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.space import draw_distinct, sample_categorical

TINY = 1e-300  # below every probability that float64 kernels resolve; keeps logs and quotients finite


class JumpProcess(ForwardProcess):
    """Bayes' rule, sampling and reverse rates from their primitives, all in float64."""

    @abstractmethod
    def rows(
        self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        """q_{t|s}(. | x)."""

    @abstractmethod
    def columns(
        self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"], s: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        """q_{t|s}(x | .)."""

    @abstractmethod
    def push(self, weights: Float[Tensor, "N D S"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        """sum_k weights(k) q_{t|0}(. | k)."""

    @abstractmethod
    def pull(self, weights: Float[Tensor, "N D S"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        """sum_j weights(j) q_{t|0}(j | .)."""

    @abstractmethod
    def rate_columns(self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        """R_t(., x): forward rates into x, the diagonal included."""

    @abstractmethod
    def rate_rows(self, x: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        """R_t(x, .): forward rates out of x, the diagonal included."""

    def sample_prior(
        self, n: int, generator: torch.Generator, device: torch.device | str
    ) -> Int[Tensor, "n D"]:
        log_p = self.prior_probs().to(device).log().expand(n, self.space.num_dims, -1)
        return sample_categorical(log_p, generator).squeeze(-1)

    def sample_forward(
        self, x_0: Int[Tensor, "N D"], t: Float[Tensor, " N"], generator: torch.Generator
    ) -> Int[Tensor, "N D"]:
        S, (times, which) = self.space.num_states, torch.unique(t, return_inverse=True)

        def laws(keys: Int[Tensor, " n"]) -> Float[Tensor, "n S"]:
            own = times[keys // S]
            return self.rows((keys % S)[:, None], own, torch.zeros_like(own)).squeeze(1)

        return draw_distinct(which[:, None] * S + x_0, laws, S, generator)

    def sample_posterior(
        self,
        x_0: Int[Tensor, "N D"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
        generator: torch.Generator,
    ) -> Int[Tensor, "N D"]:
        S = self.space.num_states
        times, which = torch.unique(torch.stack([t, s], 1), dim=0, return_inverse=True)

        def laws(keys: Int[Tensor, " n"]) -> Float[Tensor, "n S"]:
            t, s = times[keys // (S * S)].unbind(1)
            seen, start = (keys // S % S)[:, None], (keys % S)[:, None]
            # Where the model is wrong, x_t may be out of reach from x_0: then any state between is allowed.
            return (self.columns(seen, t, s) * self.rows(start, s, torch.zeros_like(s)) + TINY).squeeze(1)

        # Chains visit few of the S * S pairs of states, most of all near t = 0.
        return draw_distinct((which[:, None] * S + x_t) * S + x_0, laws, S, generator)

    def log_likelihood(self, x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        return self.columns(x_t, t, torch.zeros_like(t)).clamp(min=TINY).log()

    def log_transition(
        self,
        log_p: Float[Tensor, "N D S"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
    ) -> Float[Tensor, "N D S"]:
        # Each x_0 by the normaliser of its own posterior, as in `log_posterior`. The row's largest
        # log-quotient keeps the exponential in range; normalising removes it again.
        seen = self.columns(x_t, t, s)
        quotient = log_p.double() - self.pull(seen, s).clamp(min=TINY).log()
        weight = (quotient - quotient.amax(-1, keepdim=True)).exp()
        step = seen * self.push(weight, s)
        return (step / step.sum(-1, keepdim=True)).clamp(min=TINY).log()

    def log_posterior(
        self,
        x_s: Int[Tensor, "N D"],
        x_t: Int[Tensor, "N D"],
        t: Float[Tensor, " N"],
        s: Float[Tensor, " N"],
    ) -> Float[Tensor, "N D S"]:
        seen, zero = self.columns(x_t, t, s), torch.zeros_like(s)  # q_{t|s}(x_t | .), whatever x_0 is
        # Normalised over x_s, as what `sample_posterior` draws is, and not by q_{t|0}(x_t | k): where k leads
        # to x_t by the kernels' noise alone, these differ by up to a factor of 2.
        taken = seen.gather(-1, x_s[..., None]) * self.columns(x_s, s, zero)
        return (taken / self.pull(seen, s).clamp(min=TINY)).clamp(min=TINY).log()

    def reverse_rates(
        self, log_p: Float[Tensor, "N D S"], x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]
    ) -> Float[Tensor, "N D S"]:
        quotient = (log_p.double() - self.log_likelihood(x_t, t)).exp()
        rates = self.rate_columns(x_t, t) * self.push(quotient, t)
        return rates.scatter(-1, x_t[..., None], 0.0)

    def forward_rates(self, x_t: Int[Tensor, "N D"], t: Float[Tensor, " N"]) -> Float[Tensor, "N D S"]:
        return self.rate_rows(x_t, t).scatter(-1, x_t[..., None], 0.0)
