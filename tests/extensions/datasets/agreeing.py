"""All positions agree, except now and then."""

import torch
from pydantic import Field

from di4c_cli.core import datasets
from di4c_cli.core.codecs.states import StateCodec
from di4c_cli.core.datasets import Dataset, TensorSplit
from di4c_cli.core.datasets._codec import expect


class Config(datasets.Config):
    """Points of S^D on the diagonal, and a share of any others."""

    noise: float = Field(0.1, gt=0, lt=1)
    """Share of uniform points."""

    def build(self, codec) -> Dataset:
        space = expect(codec, StateCodec, "states", "agreeing").space
        D, S = space.num_dims, space.num_states
        joint = torch.full((S,) * D, self.noise / S**D, dtype=torch.float64)
        for state in range(S):
            joint[(state,) * D] += (1 - self.noise) / S
        generator = torch.Generator().manual_seed(0)
        flat = torch.multinomial(joint.flatten(), 2000, True, generator=generator)
        points = torch.stack(torch.unravel_index(flat, joint.shape), -1)
        return Dataset(train=TensorSplit(points[:1000]), test=TensorSplit(points[1000:]), joint=joint)
