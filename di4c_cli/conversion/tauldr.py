"""tauLDR's U-Net on pixels, and Di4C's student of it."""

from typing import Any

from pydantic import Field

from di4c_cli.conversion._beside import Told, agree
from di4c_cli.conversion._design import Design, Tensors, first_known, of_model, refuse, whole
from di4c_cli.conversion._weights import Family
from di4c_cli.core.networks.tauldr import TIME_SCALE

RELEASED_SIDE = 32
RELEASED_STATES = 256
DOWN = "downsampling_modules"
EXTRAS = ("ema_decay", "ema_num_updates", "ema_shadow_params")


class Settings(Told):
    """hparams.json: the released configuration's names."""

    S: int | None = None
    shape: list[int] | None = Field(None, min_length=3, max_length=3)
    """Channels, height, width."""
    data_min_max: list[float] | None = Field(None, min_length=2, max_length=2)
    ch: int | None = None
    ch_mult: list[int] | None = None
    num_res_blocks: int | None = None
    num_scales: int | None = None
    scale_count_to_put_attn: int | None = None
    time_embed_dim: int | None = None
    input_channels: int | None = None
    time_scale_factor: float | None = None
    lam_raw_dim: int | None = None
    do_lam_embed: bool | None = None
    skip_rescale: bool | None = None
    fix_logistic: bool | None = None
    dropout: float | None = None
    rate_sigma: float | None = None
    Q_sigma: float | None = None
    time_base: float | None = None
    time_exponential: float | None = None


def design(tensors: Tensors, settings: Settings, student: bool) -> Design:
    """Sizes are read from the way down; the image's sides and its levels are not in the tensors."""
    channels, colours, _, _ = tensors.shape("input_conv.weight", 4)
    _, features = tensors.shape("temb_modules.0.weight", 2)
    multipliers, blocks, attention = _levels(tensors, channels)
    stated, assumed = settings.model_dump(), dict[str, Any]()
    shape = first_known(assumed, "shape", settings.shape, [colours, RELEASED_SIDE, RELEASED_SIDE])
    levels = first_known(assumed, "S", settings.S, RELEASED_STATES)
    sizes = {
        "ch": channels,
        "input_channels": colours,
        "shape": [colours, *shape[1:]],
        "ch_mult": multipliers,
        "num_res_blocks": blocks,
        "num_scales": len(multipliers),
        "time_embed_dim": features,
        "data_min_max": [0, levels - 1],
        "time_scale_factor": TIME_SCALE,
        "lam_raw_dim": 1,
        "do_lam_embed": student,
    }
    if len(attention) == 1:
        sizes["scale_count_to_put_attn"] = attention[0]
    agree(tensors.path, stated, sizes)
    refuse(tensors, stated, [("skip_rescale", False), ("fix_logistic", True)])
    network = {"channels": channels, "multipliers": multipliers, "blocks": blocks, "attention": attention}
    network |= {"features": features} | _given(dropout=settings.dropout)
    codec = {"kind": "pixels", "channels": colours, "height": shape[1], "width": shape[2], "levels": levels}
    process = _given(
        rate_sigma=settings.rate_sigma,
        target_sigma=settings.Q_sigma,
        time_base=settings.time_base,
        time_exponential=settings.time_exponential,
    )
    return of_model(
        tensors, "cifar10", student=student, codec=codec, network=network, process=process, assumed=assumed
    )


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _levels(tensors: Tensors, channels: int) -> tuple[list[int], int, list[int]]:
    """Multipliers, blocks of the first level, and the levels with attention.

    Raises:
        CheckpointError: levels without blocks, of two widths, or of no whole multiple of the channels.
    """
    widths: list[set[int]] = [set()]
    blocks, attended = [0], [False]
    for number in tensors.numbers(DOWN):
        module = f"{DOWN}.{number}"
        if f"{module}.conv.weight" in tensors.shapes:  # between two levels
            widths.append(set())
            blocks.append(0)
            attended.append(False)
        elif f"{module}.NIN_0.W" in tensors.shapes:
            attended[-1] = True
        else:
            widths[-1].add(tensors.shape(f"{module}.conv0.weight", 4)[0])
            blocks[-1] += 1
    if any(len(level) != 1 for level in widths):
        raise tensors.wrong(f"{DOWN} are no levels of one width each")
    multipliers = [whole(tensors, level.pop(), channels, "channels of a level") for level in widths]
    return multipliers, blocks[0], [level for level, has in enumerate(attended) if has]


def averages(content: dict[str, Any], state: dict[str, Any]) -> Any:
    return state.get("ema_shadow_params")


FAMILY = Family(
    marker="input_conv.weight",
    state="model",
    step="n_iter",
    averages=averages,
    settings=Settings,
    beside=("hparams.json",),
    design=design,
    extras=EXTRAS,
)
