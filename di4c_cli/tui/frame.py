"""One frame of the monitor as plain text."""

import asyncio
import time

from textual.pilot import Pilot

from di4c_cli.tui.app import MonitorApp

PATIENCE = 0.5  # seconds: of a very long history the frame shows an overview, and says so


def screen_text(app: MonitorApp) -> str:
    """What stands on the screen, line by line, without colours."""
    # Textual has no public way to the composed lines; its own export_screenshot takes this one too.
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def settle(app: MonitorApp, pilot: Pilot[None], patience: float = 30.0) -> str:
    """Wait until everything on disk is read and drawn, at most for `patience` seconds; what is on the screen.

    Widgets put some work off until they are idle, so a frame counts once it comes twice.
    """
    before, end = None, time.monotonic() + patience
    while True:
        while time.monotonic() < end and any(not worker.is_finished for worker in app.workers):
            await pilot.pause(0.02)
        await pilot.pause(0.02)
        text = screen_text(app)
        if text == before or time.monotonic() > end:
            return text
        before = text


async def _one_frame(app: MonitorApp, size: tuple[int, int]) -> str:
    async with app.run_test(size=size) as pilot:
        return await settle(app, pilot, PATIENCE)


def one_frame(app: MonitorApp, size: tuple[int, int]) -> str:
    """Run the application without a terminal until it has read everything, and take its picture."""
    return asyncio.run(_one_frame(app, size))
