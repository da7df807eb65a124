"""New samples from a run's newest checkpoint, drawn by `di4c sample` in processes of its own.

The monitor itself never loads a model, and the run is only read.
"""

import asyncio
import json
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from di4c_cli import launch
from di4c_cli.errors import RunError
from di4c_cli.runs import RunDirectory
from di4c_cli.tui.pictures import Preview, read_previews


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """What to draw. Every model draws at the same number of sampling steps and from the same seed."""

    steps: int
    seed: int = 0
    num: int = 16
    teacher_steps: int = 0
    """A hybrid as well, whose last calls are the teacher's; 0: none."""
    teacher: bool = True
    """The teacher beside the student."""


class DrawError(RunError):
    """Nothing could be drawn; the message is the command's own complaint."""


async def draw(run: RunDirectory, request: DrawRequest, folder: Path) -> tuple[Preview, ...]:
    """Samples of the run's model, and of the teacher and the hybrid where they are wanted.

    folder: where the samples are written; it must not be the run's. A cancelled draw ends its processes.

    Raises:
        DrawError: the command failed, or what it wrote cannot be read.
    """
    role = (await asyncio.to_thread(run.status)).role
    models = _models(role, request)
    # One after the other: the run that trains beside them needs its memory.
    return tuple([await _sample(run, request, name, calls, folder) for name, calls in models.items()])


def _models(role: str, request: DrawRequest) -> dict[str, int]:
    """The models to draw from, with the calls that are the teacher's: all of them make the teacher itself."""
    if role == "teacher":
        return {"teacher": 0}
    models = {"teacher": request.steps} if request.teacher else {}
    models["student"] = 0
    if request.teacher_steps:
        models["hybrid"] = request.teacher_steps
    return models


async def _sample(
    run: RunDirectory, request: DrawRequest, name: str, teacher_steps: int, folder: Path
) -> Preview:
    options = {"--steps": request.steps, "--seed": request.seed, "--num": request.num}
    options |= {"--teacher-steps": teacher_steps} if teacher_steps else {}
    words = [word for option, value in options.items() for word in (option, str(value))]
    try:
        out = await asyncio.to_thread(tempfile.mkdtemp, prefix=f"{name}-", dir=folder)
        told = await _told(["sample", str(run.path.absolute()), *words, "--out", out, "--json", "--quiet"])
        return await asyncio.to_thread(_read, name, request.steps, told)
    except (OSError, ValueError, LookupError) as error:
        raise DrawError(f"drawing failed: {error}") from error


async def _told(arguments: list[str]) -> bytes:
    """What a command wrote to stdout."""
    process = await asyncio.create_subprocess_exec(
        *launch.command(arguments), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        out, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = complaint.decode("utf-8", errors="replace").split("\n")
        last = [line for line in lines if line.strip()][-1:]
        raise DrawError(last[0] if last else f"di4c sample ended with code {process.returncode}")
    return out


def _read(name: str, steps: int, told: bytes) -> Preview:
    """The samples that `di4c sample --json` tells of."""
    files = [Path(path) for path in json.loads(told)["files"]]
    if files[0].suffix == ".txt":  # read as the previews of a run, so named as one
        files[0].rename(files[0].with_name(f"{name}-{steps}.txt"))
        return read_previews(files[0].parent)[0]
    tiles = []
    for path in files:
        if path.name != "grid.png":
            with Image.open(path) as image:
                tiles.append(image.convert("RGB"))
    return Preview(name, steps, tiles=tuple(tiles))
