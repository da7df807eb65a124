"""Where a released file lies, what kind of file it is, and its content."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from di4c_cli.conversion._pickles import read_pickle
from di4c_cli.errors import CheckpointError, UsageError

WEIGHTS = "model.safetensors"
BESIDE = ("config.json", "hparams.json", "model.yaml")
HUB = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(/(?P<path>[^@]+))?(@(?P<revision>.+))?")


@dataclass(frozen=True)
class Released:
    """A file at hand, and where it came from."""

    path: Path
    origin: dict[str, str] = field(default_factory=dict)
    """Repository and revision of a download."""


def find(text: str) -> Released:
    """A file, a Hugging Face folder, or `hf:owner/name[/path][@revision]`.

    Raises:
        UsageError, CheckpointError: nothing there, or it cannot be downloaded.
    """
    if text.startswith("hf:"):
        return _download(text)
    return Released(_weights_in(Path(text)))


def _weights_in(path: Path) -> Path:
    if path.is_dir():
        path = path / WEIGHTS
        if not path.is_file():
            raise CheckpointError(
                f"{path.parent}: holds no {WEIGHTS}", "name the file itself, or a Hugging Face folder"
            )
    elif not path.is_file():
        raise UsageError(f"{path}: no such file", "give a file, a folder, or hf:owner/name@revision")
    return path


def _download(text: str) -> Released:
    match = HUB.fullmatch(text)
    if match is None:
        raise UsageError(f"{text}: not a repository", "write hf:owner/name, hf:owner/name@revision")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UsageError(
            f"{text}: downloads need the package huggingface_hub", "pip install 'di4c[hub]'"
        ) from None
    inside = match["path"] or WEIGHTS
    around = inside.rpartition("/")[0]
    wanted = [inside, *(f"{around}/{name}" if around else name for name in BESIDE)]
    try:
        folder = snapshot_download(match["repository"], revision=match["revision"], allow_patterns=wanted)
    except Exception as error:  # of whatever library it fetches with
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{text}: not downloaded: {reason[:200]}", "check the name and the network, or give a file"
        ) from None
    origin = {"repository": match["repository"], "revision": Path(folder).name}
    try:
        return Released(_weights_in(Path(folder) / inside), origin)
    except UsageError:
        raise CheckpointError(f"{text}: the repository holds no {inside}", "name another path") from None


def read(path: Path) -> Any:
    """The content of a safetensors file or of a torch file: told apart by the first bytes.

    Raises:
        CheckpointError: neither, damaged, or with more in it than data.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if head.startswith(b"PK\x03\x04"):
        return read_pickle(path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        raise CheckpointError(
            f"{path}: a torch file of before version 1.6, whose sizes cannot be checked",
            "save it again with a newer torch, of which the default is the zip format",
        )
    raise CheckpointError(
        f"{path}: neither a torch file nor safetensors", "it is damaged, or not the file it should be"
    )


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}", "it is damaged or cut short") from None
