"""What a run directory gets before the first step: afresh, or from its newest sound checkpoint."""

import shutil
import sys
from pathlib import Path

from torch import nn

from di4c_cli import drift, recipe_file
from di4c_cli.core import ranks, training_state
from di4c_cli.core.optimisation import Config
from di4c_cli.core.trainer import Trainer
from di4c_cli.errors import CheckpointError, RunError, UsageError
from di4c_cli.files import writing_to
from di4c_cli.redaction import redacted_toml
from di4c_cli.runs import RunDirectory

MB = 10**6
KEPT = ("teacher", "teacher_sha256")
"""What resolved.json, too, says of what `lineage.kept` tells."""


def check_steps(run: RunDirectory, role: str, steps: int) -> None:
    """A run is resumed from where it is to its last step; it neither goes back nor is trained once more.

    Raises:
        UsageError: there is nothing to train, or nothing to go on from.
    """
    key = "teacher.train.steps" if role == "teacher" else "train.steps"
    status, saved = run.status(), run.checkpoints()
    newest = int(saved[-1].name.removeprefix("step-")) if saved else 0
    if status.state == "finished" and status.step >= steps:
        raise UsageError(f"{run.path}: has finished its {status.step} steps", f"raise {key} to train on")
    if newest > steps:
        raise UsageError(f"{run.path}: is at step {newest}, {key} is {steps}", f"set it to {newest} or more")
    if run.final.is_dir() and not saved:
        hint = "begin a new run, or put one of its step-<N> back"
        raise UsageError(f"{run.path}: has only its finished model, no step-<N> to go on from", hint)


def disk_bytes(config: Config, model: nn.Module, teacher: object, there: int = 0) -> int:
    """What checkpoints take beyond the `there` on the disk: kept, best, being written, and the final one.

    The last step is kept too, to train on from.
    """
    promoted = teacher if config.promote_every else None
    written = min(config.keep + 2, -(-config.steps // config.save_every))
    resumable, final = training_state.nbytes(model, promoted)
    return max(0, written - there) * resumable + final


def require_room(place: Path, needed: int) -> None:
    """Raises RunError where the disk of a folder, which need not be there yet, has less than that."""
    there = next(folder for folder in [place, *place.absolute().parents] if folder.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise RunError(
            f"{place}: {free // MB} MB are free, and the checkpoints of this run need {needed // MB + 1} MB",
            "make room, lower train.keep, or set $DI4C_RUNS to a folder on another disk",
        )


def begin(trainer: Trainer, loaded: recipe_file.LoadedRecipe, resuming: bool) -> None:
    """Everything in the run directory that is there before the first step; the run is this process's own.

    Raises:
        CheckpointError: none of the checkpoints of a resumed run can be read.
        RunError, UsageError: the disk does not take it.
    """
    run, header = trainer.run, trainer.header
    after = recipe_file.resolved(loaded, header["role"], sys.argv) | {key: header[key] for key in KEPT}
    with writing_to(run.path):
        ranks.by_first(run.remove_half_written)
        if resuming:
            continue_from_newest(trainer)
            for difference in drift.changes(run.resolved().get("values", {}), after["values"]):
                run.log(drift.told(difference))
        run.write_recipe(redacted_toml(loaded.text))
        run.write_resolved(after)
        run.write_status(trainer.status)
        run.log(f"{header['role']} of {loaded.name}: {trainer.config.steps} steps on {trainer.device}")
        if header["teacher"]:
            _tell(trainer, f"teacher {header['teacher']}")


def continue_from_newest(trainer: Trainer) -> None:
    """Put a trainer where its run's newest sound checkpoint was; at the start, if there is none at all.

    Damaged ones that are newer are set aside, and that is told.

    Raises:
        CheckpointError: there are some, and none is sound.
    """
    run = trainer.run
    damaged: list[tuple[Path, CheckpointError]] = []
    for folder in ranks.by_first(lambda: run.checkpoints()[::-1]):
        found = [error for error in ranks.gathered(_resumed(trainer, folder)) if error]
        if not found:
            break
        damaged.append((folder, found[0]))
    else:
        if damaged:
            raise damaged[0][1]
    for folder, error in damaged:
        run.set_aside(folder)
        _tell(trainer, f"warning: {error.message}; set aside as {folder.name}.damaged, going back further")
    run.truncate_metrics(trainer.step)
    ranks.by_first(trainer.keeper.forget_old)
    trainer.status.step, trainer.status.elapsed = trainer.step, trainer.elapsed
    _tell(trainer, f"resuming {run.name} at step {trainer.step}")


def _resumed(trainer: Trainer, folder: Path) -> CheckpointError | None:
    """Put a trainer where a checkpoint was; what is wrong with that, if anything."""
    try:
        trainer.resume(folder)
    except CheckpointError as error:
        return error
    return None


def _tell(trainer: Trainer, line: str) -> None:
    trainer.run.log(line)
    trainer.narrate(line)
