"""Small files in the layouts of released checkpoints, made of networks of this house with random weights."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from di4c_cli.conversion.names import released_name
from di4c_cli.core.codecs.vqgan import Architecture, AutoEncoder
from di4c_cli.core.component import config_class
from di4c_cli.core.space import StateSpace

KINDS = ["mdlm", "sdtt", "maskgit", "vqgan", "tauldr", "di4c-tauldr", "di4c-maskgit", "di4c-sdtt"]
AVERAGED = ("tauldr", "di4c-tauldr", "di4c-sdtt")
"""Kinds whose files hold averages beside the last weights."""
SHIFT = 0.5
"""By how much the averages are larger than the last weights."""

TEXT = StateSpace(shape=(6,), num_states=12, mask_id=11)
TEXT_SIZES = {"width": 8, "depth": 2, "heads": 2, "cond": 4}
CODES = StateSpace(shape=(1, 2, 2), num_states=5, mask_id=4, num_classes=3)
CODES_SIZES = {"width": 8, "depth": 1, "heads": 4, "hidden": 16}
PIXELS = StateSpace(shape=(3, 4, 4), num_states=8)
PIXELS_SIZES = {"channels": 4, "multipliers": [1, 2], "blocks": 1, "attention": [1], "features": 4}
VQGAN_SIZES = {"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [4], "resolution": 8}
VQGAN_SIZES |= {"z_channels": 4, "embed_dim": 3, "n_embed": 5, "in_channels": 3, "out_ch": 3}

Change = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Release:
    """A file, or a folder, and what is in it."""

    path: Path
    network: dict[str, Tensor]
    """The last weights, by our names."""
    parameters: list[str]
    """Our names without buffers."""

    @property
    def file(self) -> Path:
        return self.path / "model.safetensors" if self.path.is_dir() else self.path


def network_of(kind: str) -> torch.nn.Module:
    student = kind.startswith("di4c-")
    if kind == "vqgan":
        return AutoEncoder(Architecture(**VQGAN_SIZES))
    if "tauldr" in kind:
        return config_class("networks", "tauldr")(**PIXELS_SIZES).build(PIXELS, lam=student)
    if "maskgit" in kind:
        return config_class("networks", "maskgit")(**CODES_SIZES).build(CODES, lam=student)
    return config_class("networks", "mdlm")(**TEXT_SIZES).build(TEXT, lam=student)


def release(kind: str, folder: Path, change: Change = lambda content: None, **settings: Any) -> Release:
    """A file of that kind below `folder`, `change`d before it is written; `settings` go beside it."""
    torch.manual_seed(0)
    network = network_of(kind)
    buffers = {name for name, _ in network.named_buffers()}
    state = {name: p if name in buffers else torch.randn(p.shape) for name, p in network.state_dict().items()}
    parameters = [name for name, _ in network.named_parameters()]
    content, name, beside = layout(kind, state, parameters)
    changed = change(content)
    content = content if changed is None else changed
    folder.mkdir(parents=True, exist_ok=True)
    if name == "model.safetensors":
        save_file(content, folder / name)
    else:
        torch.save(content, folder / name)
    for file, text in beside.items():
        (folder / file).write_text(text if isinstance(text, str) else json.dumps(text | settings))
    path = folder if name == "model.safetensors" else folder / name
    return Release(path, state, parameters)


def layout(
    kind: str, state: dict[str, Tensor], parameters: list[str]
) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The content of the file, its name, and what lies beside."""
    named = {released_name(name, kind): value for name, value in state.items()}
    averages = [state[name] + SHIFT for name in parameters]
    if kind in ("mdlm", "sdtt"):
        sizes = {"n_blocks": 2, "n_heads": 2, "cond_dim": 4, "dropout": 0.2}
        flat = {"vocab_size": 12, "model_length": 6, "hidden_dim": 8, **sizes, "time_conditioning": False}
        nested = {"model": {"length": 6, "hidden_size": 8, **sizes}, "time_conditioning": False}
        backbone = {f"backbone.{name}": value for name, value in named.items()}
        return backbone, "model.safetensors", {"config.json": flat if kind == "mdlm" else nested}
    if kind == "di4c-sdtt":
        wrapped = {f"backbone.{name}": value for name, value in named.items()}
        ema = {"decay": 0.9999, "num_updates": 7, "shadow_params": averages}
        content = {"global_step": 70, "state_dict": wrapped, "ema": ema, "lr_schedulers": []}
        return content, "sdtt7-di4c2.ckpt", {"hparams.json": {"length": 6}}
    if "maskgit" in kind:
        content = {"iter": 30, "global_epoch": 1, "model_state_dict": named, "optimizer_state_dict": {}}
        return content, "MaskGIT.pth", {"hparams.json": {"heads": 4}}
    if kind == "vqgan":
        content = {"global_step": 1, "state_dict": {**named, "loss.logvar": torch.zeros(())}}
        rows = [f"      {key}: {value}\n" for key, value in VQGAN_SIZES.items() if "embed" not in key]
        yaml = f"model:\n  params:\n    embed_dim: 3\n    n_embed: 5\n    ddconfig:\n{''.join(rows)}"
        return content, "last.ckpt", {"model.yaml": yaml}
    if kind == "tauldr":
        named = {name.replace("net.", "net.module."): value for name, value in named.items()}
    model = {**named, "ema_decay": 0.9999, "ema_num_updates": 9, "ema_shadow_params": averages}
    hparams = {"S": 8, "shape": [3, 4, 4], "ch": 4, "ch_mult": [1, 2], "num_res_blocks": 1}
    hparams |= {"num_scales": 2, "scale_count_to_put_attn": 1, "time_embed_dim": 4, "rate_sigma": 3.0}
    return {"model": model, "optimizer": {}, "n_iter": 99}, "tldr.pt", {"hparams.json": hparams}


def weights_of(content: dict[str, Any]) -> dict[str, Any]:
    """The table of tensors within a file's content."""
    for key in ("model", "model_state_dict", "state_dict"):
        content = content.get(key, content)
    return content


def averages_of(content: dict[str, Any]) -> list[Tensor]:
    """The list of averages within a file's content; one of its own where there is none."""
    found = content.get("ema", {}).get("shadow_params") if isinstance(content.get("ema"), dict) else None
    found = found or weights_of(content).get("ema_shadow_params")
    return found or [torch.zeros(1)]
