"""What a training run would take, found out by a small part of one: sizes, files and memory."""

from typing import Any

import torch
from torch import Tensor, nn

from di4c_cli import recipe_file
from di4c_cli.assembly import build_cast, check_share, first_segment, rehearse
from di4c_cli.core.component import dump
from di4c_cli.core.order import num_parts
from di4c_cli.core.segment import Cast
from di4c_cli.runs import RunDirectory, runs_root
from di4c_cli.sources import House, built
from di4c_cli.starting import disk_bytes

MIB = 2**20


def dry_run(
    loaded: recipe_file.LoadedRecipe,
    role: str,
    teacher: str | None = None,
    processes: int = 1,
    name: str | None = None,
) -> dict[str, Any]:
    """Build everything, train nothing.

    `activations_mb` is measured: what the losses of one data point keep for the backward pass, with two draws
    of lambda, times the rows whose activations one pass of the run keeps. `law_mb` is what never exists: all
    log-probabilities of the student at once. The sum is an estimate, of float32 on a CPU.
    """
    parent = runs_root() / loaded.name
    if name is not None:
        RunDirectory.require_free(parent, name)
    house = House.build(loaded.recipe, loaded.path)
    data = house.dataset()
    device = torch.device("cpu")
    cast, model, folder, settings = build_cast(loaded, role, house, data, device, teacher)
    check_share(loaded, role, settings.train.batch_size, processes)
    rehearse(loaded, role, house, cast, settings, data, device)
    space, config = house.process.space, settings.train
    parts = num_parts(config.batch_size, config.accumulate, processes)
    at_once = -(-config.batch_size // parts)
    # weights, gradients, two moments, average: of one process, where none is in pieces
    weights_mb = 5 * _bytes(model) / MIB
    teacher_mb = _bytes(cast.teacher) / MIB if isinstance(cast.teacher, nn.Module) else 0.0
    rows = at_once * cast.num_latents
    kept = min(rows, config.rows_at_once or rows)
    activations_mb = _kept_for_backward(loaded, cast, settings, data, device) * kept / MIB
    codec = dump(loaded.recipe.codec).get("checkpoint")
    return {
        "recipe": loaded.name,
        "role": role,
        "parameters": _parameters(model),
        "teacher_parameters": _parameters(cast.teacher),
        "state_space": {"num_dims": space.num_dims, "num_states": space.num_states},
        "train_items": len(data.train),
        "test_items": len(data.test),
        "steps": config.steps,
        "batch_size": config.batch_size,
        "accumulate": parts // processes,
        "processes": processes,
        "effective_batch": config.batch_size,
        "num_latents": cast.num_latents,
        "rows_at_once": rows,
        "rows_kept": kept,
        "weights_mb": weights_mb,
        "teacher_mb": teacher_mb,
        "activations_mb": activations_mb,
        "law_mb": 4 * rows * space.num_dims * space.num_states / MIB,
        "memory_mb": weights_mb + teacher_mb + activations_mb,
        "disk_mb": disk_bytes(config, model, cast.teacher) / MIB,
        "teacher": str(folder) if folder else loaded.recipe.teacher.kind,
        "dataset": dump(loaded.recipe.dataset),
        "codec_checkpoint": codec or "none",
        "would_write": str(parent / (name or f"{role}-<n>")),
    }


def _bytes(module: nn.Module) -> int:
    return sum(value.nbytes for value in module.state_dict().values())


def _parameters(module: object) -> int:
    return sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else 0


def _kept_for_backward(
    loaded: recipe_file.LoadedRecipe, cast: Cast, settings: Any, data: Any, device: torch.device
) -> float:
    """Bytes that one row (a data point under one draw of lambda) keeps between forward and backward pass."""
    storages: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in cast.student.parameters()}

    def count(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return value

    segment, rows = first_segment(cast, settings, data, device)
    cast.student.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        kept = [
            built(loaded.path, "losses", lambda section=section: section.build()(segment))
            for section in settings.losses
        ]
    del kept
    return sum(storages.values()) / rows
