"""Molecules: whether samples are any, different ones, new ones, and with properties as held-out ones have."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import chemistry, metrics
from di4c_cli.core.codecs import Codec
from di4c_cli.core.codecs.smiles import SmilesCodec
from di4c_cli.core.component import installed
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.metrics import Direction, PerItem, Trial
from di4c_cli.core.metrics._distances import wasserstein

PROPERTIES = ("qed", "logp", "rings")


@lru_cache(maxsize=2)
def known(dataset: Dataset, codec: Codec) -> frozenset[str]:
    """The training molecules, as canonical SMILES."""
    texts = codec.decode(spread(dataset.train, len(dataset.train)).x_0)
    return frozenset(chemistry.canonical(m) for m in map(chemistry.read, texts) if m is not None)


def of_molecules(molecules: list[object]) -> dict[str, Float[Tensor, " n"]]:
    """Each property of each molecule."""
    told = chemistry.properties()
    return {
        name: torch.tensor([told[name](m) for m in molecules], dtype=torch.float64) for name in PROPERTIES
    }


@lru_cache(maxsize=4)
def of_real(dataset: Dataset, codec: Codec, num: int, *, trained: bool) -> dict[str, Float[Tensor, " n"]]:
    """The properties of as many real molecules, spread evenly over the training split or the held-out one."""
    texts = codec.decode(spread(dataset.train if trained else dataset.test, num).x_0)
    return of_molecules([m for m in map(chemistry.read, texts) if m is not None])


class Molecules:
    """`valid`: the share of samples that RDKit reads as a molecule. Of these, as canonical SMILES: `unique`,
    the share left without repeats, which falls with their number; `novel`, the share not in the training set.
    `qed_distance`, `logp_distance`, `rings_distance`: Wasserstein-1 between the laws of drug-likeness, of
    logP and of the number of rings of valid samples and of held-out molecules, in their units. Where nothing
    is valid, there is one molecule with 0 of everything in their place.
    """

    def __init__(self) -> None:
        self.directions: dict[str, Direction] = {
            "valid": "higher",
            "unique": "higher",
            "novel": "higher",
            **{f"{name}_distance": "lower" for name in PROPERTIES},
        }

    def __call__(self, trial: Trial) -> dict[str, float | PerItem]:
        found = [chemistry.read(text) for text in trial.codec.decode(trial.samples.cpu())]
        valid = torch.tensor([molecule is not None for molecule in found]).double()
        molecules = [molecule for molecule in found if molecule is not None]
        names = [chemistry.canonical(molecule) for molecule in molecules]
        training = known(trial.dataset, trial.codec)
        novel = torch.zeros_like(valid)
        novel[valid.bool()] = torch.tensor([name not in training for name in names]).double()
        # The floor's samples are held-out themselves: it tells how far training molecules are from them.
        real = of_real(trial.dataset, trial.codec, len(found), trained=trial.plan is None)
        ours = of_molecules(molecules) if molecules else {name: torch.zeros(1) for name in PROPERTIES}
        return {
            "valid": PerItem.mean(valid),
            "unique": len(set(names)) / max(1, len(names)),
            "novel": PerItem(novel, valid),
            **{f"{name}_distance": wasserstein(ours[name], real[name]) for name in PROPERTIES},
        }


class Config(metrics.Config):
    """Valid, unique and novel molecules, and their properties beside those of held-out ones; needs RDKit."""

    def check(self, codec: Codec, dataset: Dataset) -> None:
        if not isinstance(codec, SmilesCodec):
            raise ValueError("reads SMILES; leave it out")
        if not installed("rdkit"):
            raise ValueError("molecules are read by RDKit; pip install 'di4c[molecules]'")

    def build(self) -> Molecules:
        return Molecules()
