"""Tensor names: a released file's against ours.

Ours are the released ones, except that whatever belongs to lambda has "lam" in its name (`core/networks`),
and that the prefixes of training wrappers are gone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Naming:
    """How one family of released files names its tensors."""

    prefix: str = ""
    """What the released names begin with, our names without."""
    wrappers: tuple[str, ...] = ("module.", "_orig_mod.")
    """More that may stand before a name, any number of times and in any order."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Parts of released names (between dots), and ours."""

    def bare(self, released: str) -> str:
        """A released name without prefixes."""
        known = "|".join(re.escape(prefix) for prefix in (self.prefix, *self.wrappers) if prefix)
        return re.sub(rf"^({known})+", "", released)

    def ours(self, bare: str) -> str:
        return ".".join(self.renamed.get(part, part) for part in bare.split("."))

    def theirs(self, ours: str) -> str:
        """The released name without prefixes."""
        back = {own: released for released, own in self.renamed.items()}
        return ".".join(back.get(part, part) for part in ours.split("."))


_TOKEN = {"latent_projection": "lam_projection"}
_TEXT = Naming(wrappers=("backbone.", "module.", "_orig_mod."), renamed=_TOKEN)
_MASKGIT = Naming(renamed=_TOKEN)
_TAULDR = Naming(
    prefix="net.",
    renamed={"dense1": "lam_dense", "lemb_modules": "lam_modules", "hlemb_modules": "lam_h_modules"},
)

NAMING = {
    "mdlm": _TEXT,
    "sdtt": _TEXT,
    "di4c-sdtt": _TEXT,
    "maskgit": _MASKGIT,
    "di4c-maskgit": _MASKGIT,
    "tauldr": _TAULDR,
    "di4c-tauldr": _TAULDR,
    "vqgan": Naming(),
}
"""By kind."""


def our_name(released: str, kind: str) -> str:
    """Our network's name of a tensor of a released file, wrapped or not."""
    naming = NAMING[kind]
    return naming.ours(naming.bare(released))


def released_name(ours: str, kind: str) -> str:
    """The released name, as published key lists have it, of a tensor of our network."""
    naming = NAMING[kind]
    return naming.prefix + naming.theirs(ours)
