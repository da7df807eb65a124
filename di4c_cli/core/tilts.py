"""What components add to the logits of a base law: c(place, k, j), in full or of low rank."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from di4c_cli.core.by_place import ByPlace


class Tilts(nn.Module, ABC):
    """Tables of tilts: of S states under M components, one for each place of a window."""

    size: tuple[int, int, int]
    """places, S, M."""

    @abstractmethod
    def table(self) -> Float[Tensor, "places S M"]:
        """All of them."""

    @abstractmethod
    def of(self, place: Int[Tensor, " P"], component: Int[Tensor, " P"]) -> Float[Tensor, "P S"]:
        """Those of one component at each of P sites."""

    @abstractmethod
    def score(
        self, place: Int[Tensor, "R n"], x: Int[Tensor, "R n"], counted: Float[Tensor, "R n"]
    ) -> Float[Tensor, "R M"]:
        """sum_i counted_i c(place_i, x_i, .) of each row."""

    @abstractmethod
    def start(self, table: Float[Tensor, "places S M"], weight: Float[Tensor, " S"]) -> None:
        """Become these tables, or what is nearest to them where states weigh that much."""

    @abstractmethod
    def randomize(self, std: float) -> None:
        """Become noise of that size."""

    @property
    @abstractmethod
    def blank(self) -> bool:
        """Whether nothing was learned or set so far."""


class Full(Tilts):
    """A number for each place, state and component."""

    def __init__(self, places: int, num_states: int, num_components: int) -> None:
        super().__init__()
        self.size = places, num_states, num_components
        self.values = nn.Parameter(torch.zeros(self.size))

    def table(self) -> Float[Tensor, "places S M"]:
        return self.values

    def of(self, place: Int[Tensor, " P"], component: Int[Tensor, " P"]) -> Float[Tensor, "P S"]:
        return self.values.transpose(1, 2)[place, component]

    def score(
        self, place: Int[Tensor, "R n"], x: Int[Tensor, "R n"], counted: Float[Tensor, "R n"]
    ) -> Float[Tensor, "R M"]:
        rows = place * self.values.shape[1] + x
        return embedding_bag(rows, self.values.flatten(0, 1), per_sample_weights=counted, mode="sum")

    def start(self, table: Float[Tensor, "places S M"], weight: Float[Tensor, " S"]) -> None:
        self.values.copy_(table)

    def randomize(self, std: float) -> None:
        nn.init.normal_(self.values, std=std)

    @property
    def blank(self) -> bool:
        return not self.values.any()


class LowRank(Tilts):
    """c(place, k, j) = states_k . components_{place, j}: an embedding of the component, seen by all states.

    What a linear head makes of an embedding that is added to its features; with few of them, S times M
    numbers are learned from what states have in common. Tables exist only while a law is read.
    """

    def __init__(self, places: int, num_states: int, num_components: int, rank: int) -> None:
        """Raises ValueError for a rank that tables of this size cannot have."""
        super().__init__()
        most = min(num_states, places * num_components)
        if rank > most:
            raise ValueError(f"rank {rank}: tables of {places} places have at most {most}")
        self.size = places, num_states, num_components
        self.states = nn.Parameter(torch.zeros(num_states, rank))
        self.components = nn.Parameter(torch.zeros(places, rank, num_components))

    def table(self) -> Float[Tensor, "places S M"]:
        return self.states @ self.components

    def of(self, place: Int[Tensor, " P"], component: Int[Tensor, " P"]) -> Float[Tensor, "P S"]:
        return self.components.transpose(1, 2)[place, component] @ self.states.T

    def score(
        self, place: Int[Tensor, "R n"], x: Int[Tensor, "R n"], counted: Float[Tensor, "R n"]
    ) -> Float[Tensor, "R M"]:
        row, offset = counted.nonzero(as_tuple=True)
        site = place[row, offset]
        seen = self.states[x[row, offset]] * counted[row, offset, None]
        score = ByPlace.of(site, len(self.components)).times(seen, self.components)
        return score.new_zeros(len(x), score.shape[1]).index_add(0, row, score)

    def start(self, table: Float[Tensor, "places S M"], weight: Float[Tensor, " S"]) -> None:
        """The best approximation in least squares, by the leading directions of components."""
        rank = self.states.shape[1]
        rows = table.transpose(0, 1).flatten(1)  # (S, places M)
        gram = (rows * weight[:, None]).T @ rows
        leading = torch.linalg.eigh(gram.double()).eigenvectors[:, -rank:].to(rows.dtype)
        states = rows @ leading
        # The product alone is given: both factors take the same size, for one learning rate.
        size = (states.square().mean() / leading.square().mean()).pow(0.25)
        self.states.copy_(states / size)
        self.components.copy_((leading * size).T.unflatten(1, (len(table), -1)).transpose(0, 1))

    def randomize(self, std: float) -> None:
        size = (std / self.states.shape[1] ** 0.5) ** 0.5
        nn.init.normal_(self.states, std=size)
        nn.init.normal_(self.components, std=size)

    @property
    def blank(self) -> bool:
        return not self.components.any()
