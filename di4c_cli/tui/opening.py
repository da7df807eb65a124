"""Handing a file to whatever the system opens such files with."""

import os
import shutil
import subprocess
from pathlib import Path

TOGETHER = ("grid.png", "samples.txt")
"""Files that show all samples of a folder."""


def open_in_viewer(folder: Path) -> str:
    """Show the samples of a folder; what to tell the user instead where there is no viewer."""
    shown = next((folder / name for name in TOGETHER if (folder / name).is_file()), folder)
    opener = shutil.which("xdg-open") or shutil.which("open")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or opener == "/usr/bin/open"
    if opener is None or not screen:
        return f"no viewer here; the samples are in {shown}"
    try:
        subprocess.Popen(
            [opener, str(shown)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"{shown}: cannot be opened: {error.strerror}"
    return ""
