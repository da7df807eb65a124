"""A codebook's start: mixtures of product laws fitted to windows of data by expectation-maximisation.

What EM finds is the law of data alone (t = 1, nothing visible). As tilts c = log p(. | j) - log p(.) it is
laid over whatever the teacher says. Without it, tables need a far larger learning rate and get half as far.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from di4c_cli.core.codebook import Codebook
from di4c_cli.core.coupling import Chain
from di4c_cli.core.datasets import Split
from di4c_cli.core.space import draw_from, uniform
from di4c_cli.core.windows import Windows

AT_ONCE = 2**23  # responsibilities of a piece of the windows
SHARPNESS = 0.5  # a component's first law: this much of it is the window that it starts from
LONGEST = 8  # positions of the longest context
KNOWN = 1.0  # times that a symbol has to come after a context, or should by chance, to say something
PRIOR = 10.0  # steps by independence that every context is given
PAIRS = 0.1  # neighbours' pairs that independence is given for each pair of components
EVEN = 1e-4  # of a marginal law that is even over all states, so that no state is impossible


@dataclass(frozen=True)
class Mixture:
    """M product laws of n positions."""

    log_p: Float[Tensor, "n S M"]
    log_prior: Float[Tensor, " M"]

    def log_joint(self, x: Int[Tensor, "N n"]) -> Float[Tensor, "N M"]:
        """log p(x, j)."""
        n, S, _ = self.log_p.shape
        rows = x + torch.arange(n, device=x.device) * S
        return embedding_bag(rows, self.log_p.flatten(0, 1), mode="sum") + self.log_prior

    def responsibilities(self, x: Int[Tensor, "N n"]) -> Float[Tensor, "N M"]:
        return self.log_joint(x).softmax(-1)


def marginal_law(x: Int[Tensor, "N n"], num_states: int) -> Float[Tensor, "n S"]:
    """The law of each position alone; every state has a little."""
    counts = torch.stack([column.bincount(minlength=num_states) for column in x.T]).float()
    return (1 - EVEN) * counts / counts.sum(-1, keepdim=True) + EVEN / num_states


def fitted(
    x: Int[Tensor, "N n"],
    num_states: int,
    num_components: int,
    rounds: int,
    smoothing: float,
    generator: torch.Generator,
) -> tuple[Mixture, float]:
    """EM from windows chosen at random, and the mean log-likelihood over the product law's, nats a window.

    Args:
        smoothing: windows of the marginal law that each component is given on top of its own.
    """
    law = marginal_law(x, num_states)
    first = x[draw_from(torch.zeros(len(x)), uniform(num_components, generator=generator, device="cpu"))]
    one_hot = torch.nn.functional.one_hot(first.T, num_states).float().transpose(1, 2)  # (n, S, M)
    log_p = (SHARPNESS * one_hot + (1 - SHARPNESS) * law[..., None]).log()
    mixture = Mixture(log_p, torch.full((num_components,), -math.log(num_components)))
    size, gain = max(1, AT_ONCE // num_components), 0.0
    for _ in range(rounds):
        counts = torch.zeros(x.shape[1], num_states, num_components)
        total, gain = torch.zeros(num_components), 0.0
        for part in x.split(size):
            joint = mixture.log_joint(part)
            gain += joint.logsumexp(-1).double().sum().item()
            shares = joint.softmax(-1)
            total += shares.sum(0)
            for place, column in enumerate(part.T):
                counts[place].index_add_(0, column, shares)
        counts += smoothing * law[..., None]
        mixture = Mixture((counts / (total + smoothing)).log(), (total + 1).log().log_softmax(0))
    product = sum(law[place].log()[column].double().sum().item() for place, column in enumerate(x.T))
    return mixture, (gain - product) / len(x)


@torch.no_grad()
def fit_mixtures(
    codebook: Codebook,
    layouts: list[Windows],
    split: Split,
    rounds: int,
    num: int,
    smoothing: float,
    generator: torch.Generator,
) -> float:
    """Start a codebook from about `num` windows of data; the mean gain over product laws, nats a window."""
    whole = torch.cat([windows.members[(windows.members >= 0).all(1)] for windows in layouts])
    sharing = [whole] if codebook.tied else [row[row >= 0][None] for row in layouts[0].members]
    index = torch.randperm(len(split), generator=generator)[: max(1, num // len(sharing[0]))]
    x, (places, S, M) = split[index.sort().values].x_0, codebook.tilts.size
    table, laws = torch.zeros(places, S, M), torch.zeros(places, S)
    mixtures, gains = [], []
    for number, members in enumerate(sharing):
        windows, place = x[:, members].flatten(0, 1), layouts[0].place[members[0]]
        mixture, gain = fitted(windows, S, M, rounds, smoothing, generator)
        laws[place] = law = marginal_law(windows, S)
        table[place] = mixture.log_p - law.log()[..., None]
        codebook.prior[number] = mixture.log_prior
        mixtures.append(mixture)
        gains.append(gain)
    codebook.start(table, laws)
    if isinstance(codebook.coupling, Chain):
        _fit_links(codebook.coupling, layouts[0], x, mixtures)
    return sum(gains) / len(gains)


def _fit_links(chain: Chain, windows: Windows, x: Int[Tensor, "N D"], mixtures: list[Mixture]) -> None:
    """log p(j, k) / (p(j) p(k)) of neighbouring windows: what a chain adds to their own weights."""
    M, tied = chain.transition.shape[-1], len(mixtures) == 1
    rows = [row[row >= 0] for row in windows.members if not (tied and (row < 0).any())]
    together = torch.zeros(len(rows) - 1, M, M)
    for part in x.split(max(1, AT_ONCE // (M * len(rows)))):
        shares = [mixtures[0 if tied else w].responsibilities(part[:, row]) for w, row in enumerate(rows)]
        together += torch.stack([left.T @ right for left, right in itertools.pairwise(shares)])
    if tied:
        together = together.sum(0, keepdim=True)
    apart = together.sum(2, keepdim=True) * together.sum(1, keepdim=True)
    apart = apart / together.sum((1, 2), keepdim=True)
    # Pairs that hardly occur say little: on top of each come PAIRS of what independence makes of it.
    prior = PAIRS * M * M * apart / together.sum((1, 2), keepdim=True)
    chain.transition.copy_(((together + prior) / (apart + prior)).log())


@torch.no_grad()
def fit_contexts(
    codebook: Codebook, chain: Chain, split: Split, num: int, generator: torch.Generator
) -> None:
    """Start a chain over runs of text as a Markov chain of variable order, by counting `num` windows.

    A component is a context: what the text ends with at a window's end, as far back as one of the M most
    frequent suffixes goes. So neighbouring windows agree on what lies between them.
    """
    n, S, M = codebook.tilts.size
    D = split[torch.arange(1)].x_0.shape[1]
    past = min(LONGEST, D // 2)
    index = torch.randperm(len(split), generator=generator)[: max(1, num // (D - past))]
    x = split[index.sort().values].x_0
    state = context_of(x, M, past)  # of the positions from past - 1 on
    law = marginal_law(x.reshape(-1, 1), S)[0]
    first = max(past, n) - past  # a window needs n positions up to its end
    tables = []
    for place in range(n):
        symbol = x[:, past - n + first + place : D - n + 1 + place]
        pairs = symbol * M + state[:, first:]
        counts = pairs.flatten().bincount(minlength=S * M).view(S, M).float()
        apart = law[:, None] * counts.sum(0)
        tables.append(((counts + KNOWN) / (apart + KNOWN)).log())
    codebook.start(torch.stack(tables), law.expand(n, -1))
    share = (state.flatten().bincount(minlength=M) + 1).float()
    share /= share.sum()
    pairs = (state[:, :-n] * M + state[:, n:]).flatten().bincount(minlength=M * M).view(M, M)
    step = (pairs + PRIOR * share) / (pairs.sum(1, keepdim=True) + PRIOR)
    codebook.prior.copy_(share.log())
    chain.transition.copy_((step / share).log())


def context_of(x: Int[Tensor, "N D"], num: int, past: int) -> Int[Tensor, "N E"]:
    """Which of the `num` most frequent suffixes is the longest at each position from past - 1 on.

    A suffix is at most as frequent as what it ends with, so these are among the chosen themselves; the empty
    one, number 0, is always there.
    """
    own = torch.zeros_like(x[:, past - 1 :])  # numbers the suffixes of the length reached
    numbers, counts = [own], [torch.tensor([own.numel()])]
    for length in range(1, past + 1):
        oldest = x[:, past - length : x.shape[1] - length + 1]
        key = own * (int(x.max()) + 1) + oldest
        _, own, count = torch.unique(key, return_inverse=True, return_counts=True)
        numbers.append(own + sum(len(c) for c in counts))
        counts.append(count)
    chosen = torch.cat(counts).sort(descending=True, stable=True).indices[:num]
    slot = torch.full((sum(len(c) for c in counts),), -1).index_copy(0, chosen, torch.arange(len(chosen)))
    found = torch.zeros_like(own)
    for number in numbers:
        found = torch.where(slot[number] >= 0, slot[number], found)
    return found
