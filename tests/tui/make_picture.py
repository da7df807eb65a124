"""The README's picture of the monitor: python tests/tui/make_picture.py RUN OUT.svg [COLUMNS ROWS]."""

import asyncio
import sys
from pathlib import Path

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp


async def picture(run: Path, size: tuple[int, int]) -> str:
    """The monitor on `run` as SVG, `size` in columns and rows."""
    app = MonitorApp(run.parent.parent, first=RunDirectory(run.absolute()))
    async with app.run_test(size=size) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        return app.export_screenshot(title=f"di4c monitor {run.parent.name}/{run.name}")


def main(run: str, out: str, columns: str = "120", rows: str = "40") -> None:
    svg = asyncio.run(picture(Path(run), (int(columns), int(rows))))
    Path(out).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
