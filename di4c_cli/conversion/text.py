"""MDLM and SDTT: transformers on text, and Di4C's students of them."""

from typing import Any

from pydantic import AliasChoices, Field

from di4c_cli.conversion._beside import Told, agree
from di4c_cli.conversion._design import Design, Tensors, first_known, of_model, refuse, whole
from di4c_cli.conversion._weights import Family
from di4c_cli.core.codecs.gpt2 import NUM_TOKENS

RELEASED_LENGTH = 1024


def _named(*names: str) -> Any:
    return Field(None, validation_alias=AliasChoices(*names))


class Settings(Told):
    """config.json of the two Hugging Face repositories, or a plain table."""

    model_length: int | None = _named("model_length", "length")
    hidden_dim: int | None = _named("hidden_dim", "hidden_size")
    cond_dim: int | None = None
    n_blocks: int | None = None
    n_heads: int | None = _named("n_heads", "heads")
    vocab_size: int | None = _named("vocab_size", "S")
    dropout: float | None = None
    time_conditioning: bool | None = None
    tie_word_embeddings: bool | None = None


def design(tensors: Tensors, settings: Settings, student: bool) -> Design:
    """The mask is the last row of the vocabulary; all but the length is read from the tensors."""
    states, width = tensors.shape("vocab_embed.embedding", 2)
    (pairs,) = tensors.shape("rotary_emb.inv_freq", 1)
    sizes = {
        "hidden_dim": width,
        "cond_dim": tensors.shape("sigma_map.mlp.2.weight", 2)[0],
        "n_blocks": len(tensors.numbers("blocks")),
        "n_heads": whole(tensors, width, 2 * pairs, "width over the width of a head"),
        "vocab_size": states,
    }
    stated = settings.model_dump()
    agree(tensors.path, stated, sizes)
    refuse(tensors, stated, [("time_conditioning", True), ("tie_word_embeddings", True)])
    assumed: dict[str, Any] = {}
    length = first_known(assumed, "length", settings.model_length, RELEASED_LENGTH)
    if states - 1 == NUM_TOKENS:
        codec = {"kind": "gpt2", "length": length}
    else:
        codec = {"kind": "states", "num_dims": length, "num_states": states - 1}
    network = {
        "width": width,
        "depth": sizes["n_blocks"],
        "heads": sizes["n_heads"],
        "cond": sizes["cond_dim"],
        **({} if settings.dropout is None else {"dropout": settings.dropout}),
    }
    return of_model(tensors, "owt", student=student, codec=codec, network=network, assumed=assumed)


def averages(content: dict[str, Any], state: dict[str, Any]) -> Any:
    ema = content.get("ema")
    return ema.get("shadow_params") if isinstance(ema, dict) else None


FAMILY = Family(
    marker="vocab_embed.embedding",
    state="state_dict",
    step="global_step",
    averages=averages,
    settings=Settings,
    beside=("config.json", "hparams.json"),
    design=design,
    buffers=("rotary_emb.inv_freq",),
)
