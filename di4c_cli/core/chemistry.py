"""The one door to RDKit: reading SMILES, properties of molecules, and drawings of them.

RDKit is an extra and large: it is imported when the first molecule is read.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from di4c_cli.errors import RecipeError

TILE = (220, 180)  # pixels of a drawing


@lru_cache
def _rdkit(name: str) -> Any:
    """A module of RDKit, which is told not to print what is wrong with strings that are no molecules.

    Raises:
        RecipeError: RDKit is not installed.
    """
    try:
        import_module("rdkit.RDLogger").DisableLog("rdApp.*")
        return import_module(f"rdkit.{name}")
    except ImportError:
        raise RecipeError("molecules are read by RDKit", "pip install 'di4c[molecules]'") from None


def read(smiles: str) -> Any | None:
    """The molecule that a string spells; None if RDKit cannot read it, or it has no atom."""
    molecule = _rdkit("Chem").MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


def canonical(molecule: Any) -> str:
    """The one string of a molecule, however it was spelled."""
    return _rdkit("Chem").MolToSmiles(molecule)


def properties() -> dict[str, Callable[[Any], float]]:
    """What is told of a molecule, by name: drug-likeness (QED, 0 to 1), Crippen's logP, number of rings."""
    return {
        "qed": _rdkit("Chem.QED").qed,
        "logp": _rdkit("Chem.Crippen").MolLogP,
        "rings": _rdkit("Chem.rdMolDescriptors").CalcNumRings,
    }


def write_drawings(smiles: Sequence[str], path: Path) -> None:
    """One picture of all molecules, each above its string; the place of a string that is none stays empty."""
    _rdkit("Chem.Draw").MolsToGridImage(
        [read(text) or _rdkit("Chem").Mol() for text in smiles],
        molsPerRow=math.ceil(math.sqrt(len(smiles))),
        subImgSize=TILE,
        legends=list(smiles),
    ).save(path)
