"""Drawing samples from a plan, in batches, from one stream of a seed."""

import torch
from jaxtyping import Int
from torch import Tensor

from di4c_cli.core import samplers
from di4c_cli.sources import House


def draw(
    house: House, plan: samplers.Plan, num: int, batch_size: int, seed: int, device: torch.device
) -> Int[Tensor, "{num} D"]:
    """`num` samples on the CPU. Teacher and student at the same arguments see the same stream of noise."""
    generator = torch.Generator(device).manual_seed(seed)
    batches = []
    for start in range(0, num, batch_size):
        size = min(batch_size, num - start)
        tokens = samplers.sample(
            house.sampler, plan, house.process, size, generator, device, final=house.recipe.sampler.final
        )
        batches.append(tokens.cpu())
    return torch.cat(batches)
