"""Sites times the tables of their places."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ByPlace:
    """Sites sorted into equally long lists, one for each place, for one batched matrix product."""

    slot: Int[Tensor, " P"]
    """Where a site lies in the lists put behind each other."""
    places: int
    length: int

    @classmethod
    def of(cls, place: Int[Tensor, " P"], places: int) -> "ByPlace":
        counts = place.bincount(minlength=places)
        length = int(counts.max()) if len(place) else 1
        order = place.argsort(stable=True)
        begins = counts.cumsum(0) - counts
        rank = torch.arange(len(place), device=place.device) - begins[place[order]]
        slot = torch.empty_like(order).index_copy_(0, order, place[order] * length + rank)
        return cls(slot, places, length)

    def times(self, rows: Float[Tensor, "P a"], tables: Float[Tensor, "places a b"]) -> Float[Tensor, "P b"]:
        """Each site's row times the table of its place."""
        listed = rows.new_zeros(self.places * self.length, rows.shape[1]).index_copy(0, self.slot, rows)
        product = listed.unflatten(0, (self.places, self.length)) @ tables
        return product.flatten(0, 1).index_select(0, self.slot)
