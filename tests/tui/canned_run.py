"""Run directories as the trainer would leave them, written in milliseconds."""

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image

from di4c_cli.runs import RunDirectory, Status

Tile = list[list[int]]  # rows of grey values, 0..255


def make_run(
    root: Path,
    *,
    recipe: str = "digits",
    role: str = "student",
    step: int = 600,
    steps: int = 1000,
    state: str = "running",
    rows: int = 60,
    previews: tuple[int, ...] = (300, 600),
    tiles: list[Tile] | None = None,
) -> RunDirectory:
    """A run with training-like curves up to `step`, and picture previews at 1, 2 and 4 sampling steps."""
    run = RunDirectory.create(recipe, role, root=root)
    for index in range(1, rows + 1):
        run.append_metrics(training_row(step * index // rows, steps, role))
    for at in previews:
        write_previews(run, at, tiles or [blob(seed) for seed in range(12)], steps)
    eta = 48.0 if step < steps else 0.0
    run.write_status(
        Status(state=state, recipe=recipe, role=role, step=step, steps=steps, elapsed=72.0, eta=eta)
    )
    return run


def training_row(step: int, steps: int, role: str) -> dict[str, Any]:
    """One line of metrics.jsonl at `step`: decaying losses with noise, seeded by the step."""
    noise = random.Random(step)
    done = step / steps
    row: dict[str, Any] = {"step": step, "time": 1.7e9 + step / 10, "elapsed": step / 10}
    if role == "teacher":
        row["loss"] = row["loss/likelihood"] = 30 * math.exp(-5 * done) + 38 + noise.gauss(0, 1.2)
    else:
        gain = 9 * (1 - math.exp(-4 * done))
        row["loss/distillation"] = 3.2 * math.exp(-6 * done) + 0.9 + abs(noise.gauss(0, 0.15))
        row["loss/consistency"] = 6.1 * math.exp(-3 * done) + 1.6 + noise.gauss(0, 0.35)
        row["loss/datapoint"] = -0.6 * gain + noise.gauss(0, 0.4)
        row["marginal"] = 1.4 * math.exp(-5 * done) + 0.4 + abs(noise.gauss(0, 0.1))
        row["correlation"] = -gain + noise.gauss(0, 0.8)
        row["marginal_plus_correlation"] = row["marginal"] + row["correlation"]
        row["effective_components"] = 1 + 5.5 * done + noise.gauss(0, 0.3)
        row["loss"] = row["loss/distillation"] + row["loss/consistency"] + row["loss/datapoint"]
    row["grad_norm"] = 2.0 + noise.random()
    row["lr"] = 1e-3 * min(1.0, step / (0.05 * steps)) * (0.5 + 0.5 * math.cos(math.pi * done))
    row["samples_per_s"] = 1500 + noise.gauss(0, 60)
    row["memory_mb"] = 412.0
    return row


# -- previews ----------------------------------------------------------------------------------


def blob(seed: int) -> Tile:
    """An 8 x 8 ring, somewhere near the middle."""
    x_0, y_0 = 3 + seed % 2, 3 + seed // 2 % 2
    return [[255 if 1 < math.hypot(x - x_0, y - y_0) < 3.2 else 0 for x in range(8)] for y in range(8)]


def read_digits(path: Path) -> list[Tile]:
    """The UCI digits from the gzipped CSV (64 values 0..16 and the label in a row) as 4-level grey tiles."""
    tiles = []
    with gzip.open(path, "rt") as file:
        for line in file:
            values = [min(3, int(float(v)) // 4) * 85 for v in line.split(",")[:64]]
            tiles.append([values[8 * y : 8 * y + 8] for y in range(8)])
    return tiles


def write_grid(path: Path, tiles: list[Tile], *, columns: int = 6, scale: int = 4, padding: int = 2) -> None:
    """Tiles as an enlarged grid with padding, and `grid.json` beside it."""
    height, width = len(tiles[0]), len(tiles[0][0])
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = (columns * (width * scale + padding) + padding, rows * (height * scale + padding) + padding)
    grid = Image.new("L", size, 60)
    for index, tile in enumerate(tiles):
        image = Image.new("L", (width, height))
        image.putdata([value for line in tile for value in line])
        x = padding + index % columns * (width * scale + padding)
        y = padding + index // columns * (height * scale + padding)
        grid.paste(image.resize((width * scale, height * scale), Image.Resampling.NEAREST), (x, y))
    grid.save(path)
    layout = {
        "tile": [height, width],
        "scale": scale,
        "padding": padding,
        "columns": columns,
        "num": len(tiles),
    }
    (path.parent / "grid.json").write_text(json.dumps(layout))


def write_previews(run: RunDirectory, step: int, tiles: list[Tile], steps: int = 1000) -> None:
    """Teacher and student at K = 1, 2, 4: fewer steps and an earlier teacher mean more wrong pixels."""
    folder = run.path / "samples" / f"step-{step}"
    folder.mkdir(parents=True)
    for k in (1, 2, 4):
        for role, error in (("teacher", 0.3 / k), ("student", 0.3 / k * (1.15 - step / steps))):
            noise = random.Random(f"{role} {k} {step}")
            spoilt = [[[spoil(noise, v, error) for v in line] for line in tile] for tile in tiles]
            write_grid(folder / f"{role}-{k}.png", spoilt)


def spoil(noise: random.Random, value: int, error: float) -> int:
    return noise.choice((0, 85, 170, 255)) if noise.random() < error else value


def write_texts(run: RunDirectory, step: int, lines: list[str]) -> None:
    """Text previews: the teacher's lines come reversed, so that the two differ."""
    folder = run.path / "samples" / f"step-{step}"
    folder.mkdir(parents=True)
    for k in (1, 2, 4):
        (folder / f"teacher-{k}.txt").write_text("".join(f"{line[::-1]}\n" for line in lines))
        (folder / f"student-{k}.txt").write_text("".join(f"{line}\n" for line in lines))
