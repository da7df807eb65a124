"""MaskGIT's transformer on VQGAN codes, and Di4C's student of it."""

import math
from typing import Any

from pydantic import AliasChoices, Field

from di4c_cli.conversion._beside import Told, agree
from di4c_cli.conversion._design import Design, Tensors, first_known, of_model
from di4c_cli.conversion._weights import Family

RELEASED_HEADS = 16
RELEASED_CODES = 1024
REDUCTION = 16  # pixels a side that one code of the released VQGAN stands for


class Settings(Told):
    """hparams.json: what the tensors cannot tell."""

    heads: int | None = Field(None, validation_alias=AliasChoices("heads", "n_heads"), ge=1)
    S: int | None = Field(None, ge=2)
    """Codes and the mask."""
    classes: int | None = Field(None, ge=1)
    dropout: float | None = None


def design(tensors: Tensors, settings: Settings, student: bool) -> Design:
    """The table holds codes, mask, classes and "no class"; where codes end, it does not tell."""
    _, positions, width = tensors.shape("pos_emb", 3)
    rows, _ = tensors.shape("tok_emb.weight", 2)
    hidden, _ = tensors.shape("transformer.layers.0.1.fn.net.0.weight", 2)
    assumed: dict[str, Any] = {}
    codes = _codes(tensors, settings, rows, assumed)
    classes = rows - codes - 2
    agree(tensors.path, settings.model_dump(), {"S": codes + 1, "classes": classes})
    side = math.isqrt(positions - 1)
    if codes == RELEASED_CODES and side**2 == positions - 1:
        codec = {"kind": "vqgan", "num_codes": codes, "grid": side, "size": REDUCTION * side}
    else:  # of a VQGAN that we know nothing of
        codec = {"kind": "states", "num_dims": positions - 1, "num_states": codes}
    network = {
        "width": width,
        "depth": len(tensors.numbers("transformer.layers")),
        "heads": first_known(assumed, "heads", settings.heads, RELEASED_HEADS),
        "hidden": hidden,
        **({} if settings.dropout is None else {"dropout": settings.dropout}),
    }
    return of_model(
        tensors,
        "imagenet",
        student=student,
        codec=codec,
        network=network,
        top={"classes": classes},
        assumed=assumed,
    )


def _codes(tensors: Tensors, settings: Settings, rows: int, assumed: dict[str, Any]) -> int:
    """As stated, else the largest power of two that leaves a class."""
    if settings.S is not None:
        codes = settings.S - 1
    elif settings.classes is not None:
        codes = rows - 2 - settings.classes
    else:
        codes = 2 ** max(0, (rows - 3).bit_length() - 1)
        assumed |= {"codes": codes, "classes": rows - codes - 2}
    if not 2 <= codes <= rows - 3:
        raise tensors.wrong(f"a table of {rows} rows does not hold codes, a mask, classes and no class")
    return codes


def no_averages(content: dict[str, Any], state: dict[str, Any]) -> None:
    """None were released."""


FAMILY = Family(
    marker="tok_emb.weight",
    state="model_state_dict",
    step="iter",
    averages=no_averages,
    settings=Settings,
    beside=("hparams.json",),
    design=design,
)
