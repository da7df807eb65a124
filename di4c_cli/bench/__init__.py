"""What a recipe costs on this machine: latency, throughput and memory of its models and of a training step.

Each thing is run once to warm up (and to count operations), once to see its memory, and then timed in turn
with the others of its group. The training step and its losses stand beside `dense.py`, which computes the
same the way the paper's code does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from di4c_cli import recipe_file
from di4c_cli.bench.dense import foreign
from di4c_cli.bench.growth import fits
from di4c_cli.bench.measuring import Row, Runner
from di4c_cli.bench.steps import Step
from di4c_cli.bench.subject import Subject
from di4c_cli.bench.things import DENSE, LOSSES, POSTERIOR, ROLES, SAMPLING, STEP, inference, training
from di4c_cli.core.networks import half_precision
from di4c_cli.sources import built, pick_device

BATCH_SIZES = (1, 8, 64)


def bench(
    loaded: recipe_file.LoadedRecipe,
    *,
    batch_sizes: Sequence[int] | None = None,
    steps: int | None = None,
    repeats: int | None = None,
    fit: bool = False,
    device: str = "auto",
    progress: Callable[[int, int, dict[str, Any]], None] = lambda done, total, row: None,
    narrate: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a recipe; the contract's JSON result.

    Args:
        batch_sizes: measured as far as memory goes; None: 1, 8 and 64, as far as patience goes.
        steps: K of sampling, by default the recipe's.
        repeats: rounds of timing; None: as many as fit into some seconds.
        fit: also how time and memory of a step grow with L, B, D and S.
    """
    recipe, where = loaded.recipe, pick_device(device)
    steps = steps or recipe.sample.steps
    subject = Subject.build(loaded, where)
    runner = runner_of(subject, repeats, batch_sizes is not None, narrate)
    if kinds := foreign(recipe.losses):
        runner.skip(STEP + DENSE, None, f"no dense form of the losses {', '.join(kinds)}")
    step = Step(subject.student, recipe.train)
    sizes = sorted(set(batch_sizes or BATCH_SIZES))
    for done, size in enumerate(sizes):
        calls = inference(subject, size, steps)
        built(loaded.path, "sampler", lambda calls=calls, size=size: runner.measure(size, calls, {}))
        group = training(subject, step, size)
        built(
            loaded.path,
            "losses",
            lambda group=group, size=size: runner.measure(size, group.calls, group.foreseen),
        )
        progress(done + 1, len(sizes), {})
    return described(loaded.name, subject, runner) | {
        "steps": steps,
        "ratios": ratios(runner, sizes),
        "roofline": roofline(runner, sizes),
        "fits": fits(recipe, where) if fit else [],
    }


def runner_of(subject: Subject, repeats: int | None, patient: bool, narrate: Callable[[str], None]) -> Runner:
    """What measures a recipe's models as they are run."""
    recipe = subject.recipe
    dtype = half_precision(recipe.train.precision, subject.device) or torch.float32
    compiled = recipe.train.compile or recipe.sampler.compile
    return Runner(subject.device, repeats, patient, compiled, dtype, narrate)


def described(name: str, subject: Subject, runner: Runner) -> dict[str, Any]:
    """What was measured and where, and the rows; the sections of other measurements are empty."""
    recipe = subject.recipe
    return {
        "recipe": name,
        "device": str(subject.device),
        "device_name": device_name(subject.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(runner.dtype).removeprefix("torch."),
        "compiled": {"training": recipe.train.compile, "sampling": recipe.sampler.compile},
        "weights": "fresh",
        "data": "random",
        "num_latents": subject.cast.num_latents,
        "rows": runner.json(),
        "skipped": runner.skipped,
        "ratios": [],
        "roofline": None,
        "fits": [],
        "savings": [],
    }


def device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )


def ratios(runner: Runner, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """How many times as much the dense way takes."""
    found = []
    for what in (STEP, LOSSES, *(f"{role} {SAMPLING}" for role in ROLES), POSTERIOR):
        for size in sizes:
            own, dense = runner.row(what, size), runner.row(what + DENSE, size)
            if own is not None and dense is not None:
                found.append({"what": what, "batch_size": size} | compared(own, dense))
    return found


def compared(own: Row, dense: Row) -> dict[str, float | None]:
    """Ratios; None where ours is nothing."""
    pairs = {
        "time": (dense.median_ms, own.median_ms),
        "extra_mb": (dense.extra_mb, own.extra_mb),
        "gflop": (dense.gflop, own.gflop),
        "gb": (dense.gb, own.gb),
    }
    return {name: more / less if less else None for name, (more, less) in pairs.items()}


def roofline(runner: Runner, sizes: Sequence[int]) -> dict[str, Any] | None:
    """The distillation step at the largest batch size measured, beside what the device can do."""
    rows = [row for size in sizes if (row := runner.row(STEP, size)) is not None]
    if not rows:
        return None
    row = rows[-1]
    reached = row.gflop / (row.median_ms / 1000)
    return {
        "what": STEP,
        "batch_size": row.batch_size,
        "gflop": row.gflop,
        "gb": row.gb,
        "gflop_per_s": reached,
        "matmul_gflop_per_s": row.matmul_gflop_per_s,
        "share": reached / row.matmul_gflop_per_s,
    }
