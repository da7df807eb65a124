"""Samples on disk: png, npz, txt, jsonl, smi, pictures of them all, and the previews of a run."""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from di4c_cli.core import chemistry, progress
from di4c_cli.core._vision import save_grid, save_image
from di4c_cli.core.codecs import Codec
from di4c_cli.errors import CheckpointError, UsageError
from di4c_cli.files import writing_to

TILE = 32  # pixels: smaller images are enlarged to at least this on grids
PADDING = 2


def write_grid(codec: Codec, tokens: Tensor, path: Path, columns: int | None = None) -> dict[str, Any]:
    """One picture of all samples, and how to find the tiles in it again."""
    images = codec.decode(tokens)
    height, width = images.shape[-2:]
    scale = max(1, math.ceil(TILE / min(height, width)))
    columns = columns or math.ceil(math.sqrt(len(tokens)))
    save_grid(images, path, columns=columns, min_tile=TILE, padding=PADDING)
    return {
        "tile": [height, width],
        "scale": scale,
        "padding": PADDING,
        "columns": columns,
        "num": len(tokens),
    }


def write_molecules(codec: Codec, tokens: Tensor, path: Path) -> None:
    """One picture of all molecules."""
    chemistry.write_drawings(codec.decode(tokens), path)


def write_images(codec: Codec, tokens: Tensor, label: Tensor | None, out: Path) -> list[Path]:
    """`00000.png`, ... at native size, and `grid.png`."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{i:05d}.png" for i in range(len(tokens))]
    for image, path in zip(codec.decode(tokens), files, strict=True):
        save_image(image, path)
    write_grid(codec, tokens, out / "grid.png")
    return [*files, out / "grid.png"]


def remove_surplus(out: Path, files: list[Path]) -> None:
    """Remove what an earlier drawing of more images left in the same folder: `NNNNN.png` that are not new."""
    for path in out.glob("*.png"):
        if re.fullmatch(r"\d{5,}", path.stem) and path not in files:
            path.unlink()


def write_npz(codec: Codec, tokens: Tensor, label: Tensor | None, out: Path) -> list[Path]:
    """One file: `samples` (decoded) and `tokens` (N, D); tokens alone where the codec has no weights."""
    path = out if out.suffix == ".npz" else out / "samples.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"tokens": tokens.numpy()}
    try:
        decoded = codec.decode(tokens)
        arrays["samples"] = decoded.numpy() if isinstance(decoded, Tensor) else np.array(decoded)
    except CheckpointError as error:
        progress.remark(f"{path} holds tokens alone: {error}")
    np.savez(path, **arrays)
    return [path]


def write_txt(
    codec: Codec, tokens: Tensor, label: Tensor | None, out: Path, suffix: str = ".txt"
) -> list[Path]:
    """One sample a line, newlines escaped."""
    path = out if out.suffix == suffix else out / f"samples{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{one_line(text)}\n" for text in codec.decode(tokens)), encoding="utf-8")
    return [path]


write_smi = partial(write_txt, suffix=".smi")


def write_jsonl(codec: Codec, tokens: Tensor, label: Tensor | None, out: Path) -> list[Path]:
    """One object a line: index, the text under its codec's noun (where the data is text), tokens, label."""
    path = out if out.suffix == ".jsonl" else out / "samples.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = codec.decode(tokens) if codec.modality == "text" else None
    with open(path, "w", encoding="utf-8") as file:
        for i, row in enumerate(tokens.tolist()):
            item: dict[str, Any] = {"index": i}
            if texts is not None:
                item[codec.noun] = texts[i]
            item |= {"tokens": row, "label": None if label is None else int(label[i])}
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    return [path]


def one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


Writer = Callable[[Codec, Tensor, Tensor | None, Path], list[Path]]
WRITERS: dict[str, dict[str, Writer]] = {
    "image": {"png": write_images, "npz": write_npz, "jsonl": write_jsonl},
    "text": {"txt": write_txt, "jsonl": write_jsonl, "npz": write_npz},
    "sequence": {"txt": write_txt, "jsonl": write_jsonl, "npz": write_npz},
    "smiles": {"smi": write_smi, "txt": write_txt, "jsonl": write_jsonl, "npz": write_npz},
}
"""By a codec's noun; the first is the default."""
PICTURES: dict[str, Callable[[Codec, Tensor, Path], Any]] = {"image": write_grid, "smiles": write_molecules}
"""What `--grid` draws, by a codec's noun."""


def writer_for(
    codec: Codec, name: str | None, out: Path, *, grid: bool = False, replace: bool = False
) -> Callable[[Tensor, Tensor | None], list[Path]]:
    """What writes tokens and labels: in the format named, else that of `out`'s suffix, else the noun's first.

    Args:
        grid: one picture of them all beside it, where the data has one and the format draws none itself.
        replace: `out` is ours, and holds the images of one drawing alone.

    Raises:
        UsageError: this data has no such format; later on, `out` cannot be written.
    """
    known = WRITERS[codec.noun]
    if name is None and out.suffix[1:] in known:
        name = out.suffix[1:]
    name = name or next(iter(known))
    if name not in known:
        raise UsageError(f"--format {name}: not for {codec.noun} data", f"one of {', '.join(known)}")
    if name == "png" and out.suffix == ".png":
        raise UsageError(f"--out {out}: png is one file per image", "give a folder; its grid.png shows all")
    write, draw_all = known[name], PICTURES.get(codec.noun)

    def written(tokens: Tensor, label: Tensor | None) -> list[Path]:
        with writing_to(out):
            files = write(codec, tokens, label, out)
            if replace and name == "png":
                remove_surplus(out, files)
            if grid and draw_all is not None and name != "png":
                files.append(out.with_suffix(".png") if out.suffix else out / "grid.png")
                draw_all(codec, tokens, files[-1])
        return files

    return written


def write_preview(codec: Codec, drawn: dict[tuple[str, int], Tensor], folder: Path) -> None:
    """Previews of a run: `<role>-<K>.png` or `.txt`, and all together in `grid.png` or `samples.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    if codec.modality == "text":
        for (role, steps), tokens in drawn.items():
            write_txt(codec, tokens, None, folder / f"{role}-{steps}.txt")
        together = [
            f"{role} {steps}\t{one_line(text)}\n"
            for (role, steps), t in drawn.items()
            for text in codec.decode(t)
        ]
        (folder / "samples.txt").write_text("".join(together), encoding="utf-8")
        return
    num = len(next(iter(drawn.values())))
    for (role, steps), tokens in drawn.items():
        layout = write_grid(codec, tokens, folder / f"{role}-{steps}.png", columns=min(8, num))
    (folder / "grid.json").write_text(json.dumps(layout) + "\n", encoding="utf-8")
    rows = torch.cat([tokens[: min(16, num)] for tokens in drawn.values()])
    write_grid(codec, rows, folder / "grid.png", columns=min(16, num))
