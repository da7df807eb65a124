"""`di4c doctor`: what is here to work with."""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from di4c_cli import __version__
from di4c_cli.cli import arguments, console
from di4c_cli.runs import runs_root

app = typer.Typer(add_completion=False)

PACKAGES = (
    *("torch", "torchvision", "torchmetrics", "numpy", "pillow", "matplotlib"),
    *("safetensors", "tiktoken", "pydantic", "typer", "rich", "textual", "psutil"),
)
GPT2_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"


@app.command()
def doctor(json: arguments.Json = False) -> None:
    """Versions, devices, the torchvision build, data and vocabulary found, the terminal's abilities."""
    facts = {
        "di4c": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "torch": _torch(),
        "torchvision": _torchvision(),
        "data": _data(),
        "gpt2_vocabulary": _gpt2_vocabulary(),
        "runs": str(runs_root()),
        "terminal": _terminal(),
    }
    if json:
        console.print_json(facts)
    else:
        console.print_facts(_for_people(facts))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    import torch

    devices = [{"name": "cpu", "what": platform.processor() or platform.machine(), "cores": os.cpu_count()}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(
            {
                "name": f"cuda:{index}",
                "what": properties.name,
                "memory_gib": round(properties.total_memory / 2**30, 1),
            }
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "what": "Apple GPU"})
    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "devices": devices,
    }


def _torchvision() -> dict[str, Any]:
    from di4c_cli.core import _vision

    try:
        return {
            "version": _vision.import_torchvision().__version__,
            "compiled": _vision.has_compiled_operators(),
        }
    except (
        ImportError,
        RuntimeError,
    ) as error:  # a broken pair of builds is what this command is asked about
        return {"version": _version("torchvision"), "compiled": False, "error": str(error).splitlines()[0]}


def _data() -> dict[str, Any]:
    root = os.environ.get("DI4C_DATA")
    folder = Path(root) if root else None
    found = (
        sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder and folder.is_dir() else []
    )
    return {"root": root, "exists": bool(folder and folder.is_dir()), "sets": found}


def _gpt2_vocabulary() -> str | None:
    """The merges file, in $DI4C_DATA or in tiktoken's cache (named there by the hash of its address)."""
    cache = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    cached = Path(cache or Path(tempfile.gettempdir()) / "data-gym-cache")
    places = [cached / hashlib.sha1(GPT2_URL.encode()).hexdigest()]
    if root := os.environ.get("DI4C_DATA"):
        places.insert(0, Path(root) / "gpt2-bpe" / "vocab.bpe")
    return next((str(path) for path in places if path.is_file()), None)


def _terminal() -> dict[str, Any]:
    columns, rows = shutil.get_terminal_size()
    return {
        "interactive": sys.stdout.isatty(),
        "columns": columns,
        "rows": rows,
        "colours": console.colours(),
        "unicode": console.can_print("▀⣿↓"),
        "term": os.environ.get("TERM"),
    }


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """The same facts, a line each."""
    torch, vision, data, terminal = (facts[key] for key in ("torch", "torchvision", "data", "terminal"))
    operators = "yes" if vision["compiled"] else "no (stubbed; image I/O uses Pillow)"
    if "error" in vision:
        operators = f"no: {vision['error']}"
    devices = [
        " ".join(
            [
                device["name"],
                device["what"],
                *([f"{device['memory_gib']} GiB"] if "memory_gib" in device else []),
            ]
        )
        for device in torch["devices"]
    ]
    if data["root"] is None:
        found = "DI4C_DATA is not set"
    else:
        found = ", ".join(data["sets"]) if data["exists"] else "no such folder"
        found = f"{data['root']}: {found or 'empty'}"
    shown = {key: facts[key] for key in ("di4c", "python", "platform")}
    return {
        **shown,
        "packages": ", ".join(
            f"{name} {version or 'missing'}" for name, version in facts["packages"].items()
        ),
        "torch": f"{torch['version']}, CUDA {torch['cuda_build'] or 'no'}, {torch['threads']} threads",
        "devices": "; ".join(devices),
        "torchvision": f"{vision['version']}, C++ ops: {operators}",
        "data": found,
        "GPT-2 vocabulary": facts["gpt2_vocabulary"] or "not found",
        "runs": facts["runs"],
        "terminal": (
            f"{'yes' if terminal['interactive'] else 'no'}, {terminal['columns']}x{terminal['rows']}, "
            f"colours: {terminal['colours']}, unicode: {'yes' if terminal['unicode'] else 'no'}"
        ),
    }
