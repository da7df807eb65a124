"""The VQGAN whose codes MaskGIT models: an autoencoder, which becomes a codec."""

from typing import Any

import torch
from pydantic import ValidationError

from di4c_cli.conversion._beside import Told, agree
from di4c_cli.conversion._design import Design, Tensors, first_known, refuse, whole
from di4c_cli.conversion._weights import Family
from di4c_cli.conversion.maskgit import no_averages
from di4c_cli.core.codecs.vqgan import Architecture, AutoEncoder

RELEASED_RESOLUTION = 256
DOWN = "encoder.down"


class Settings(Told):
    """model.yaml, or a plain table."""

    resolution: int | None = None
    embed_dim: int | None = None
    n_embed: int | None = None
    z_channels: int | None = None
    in_channels: int | None = None
    out_ch: int | None = None
    ch: int | None = None
    ch_mult: list[int] | None = None
    num_res_blocks: int | None = None
    attn_resolutions: list[int] | None = None
    double_z: bool | None = None


def design(tensors: Tensors, settings: Settings, student: bool) -> Design:
    """All but the resolution is read from the tensors."""
    ch, in_channels, _, _ = tensors.shape("encoder.conv_in.weight", 4)
    n_embed, embed_dim = tensors.shape("quantize.embedding.weight", 2)
    levels = tensors.numbers(DOWN)
    widths = [tensors.shape(f"{DOWN}.{level}.block.0.conv1.weight", 4)[0] for level in levels]
    assumed: dict[str, Any] = {}
    resolution = first_known(assumed, "resolution", settings.resolution, RELEASED_RESOLUTION)
    attended = [level for level in levels if tensors.numbers(f"{DOWN}.{level}.attn")]
    sizes = {
        "ch": ch,
        "ch_mult": [whole(tensors, width, ch, "channels of a level") for width in widths],
        "num_res_blocks": len(tensors.numbers(f"{DOWN}.0.block")),
        "attn_resolutions": [resolution >> level for level in attended],
        "z_channels": tensors.shape("encoder.conv_out.weight", 4)[0],
        "embed_dim": embed_dim,
        "n_embed": n_embed,
        "resolution": resolution,
        "in_channels": in_channels,
        "out_ch": tensors.shape("decoder.conv_out.weight", 4)[0],
    }
    stated = settings.model_dump()
    refuse(tensors, stated, [("double_z", True)])
    if settings.attn_resolutions is not None:  # in any order, also of resolutions that do not occur
        reached = {resolution >> level for level in levels}
        stated["attn_resolutions"] = sorted(reached & set(settings.attn_resolutions), reverse=True)
    agree(tensors.path, stated, sizes)
    try:
        architecture = Architecture.model_validate(sizes)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise tensors.wrong(f"its sizes make no network of ours: {key}: {first['msg']}") from None
    with torch.device("meta"):
        wanted = {name: tuple(p.shape) for name, p in AutoEncoder(architecture).state_dict().items()}
    header = {"role": "codec", "kind": "vqgan", "architecture": architecture.model_dump(mode="json")}
    return Design(header, wanted, "", f"codec of {n_embed} codes", assumed)


FAMILY = Family(
    marker="quantize.embedding.weight",
    state="state_dict",
    step="global_step",
    averages=no_averages,
    settings=Settings,
    beside=("model.yaml", "hparams.json"),
    design=design,
    ignored="loss.",
)
