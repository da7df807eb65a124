"""One frame of the monitor as plain text."""

import asyncio

from textual.pilot import Pilot

from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.screens import FollowScreen


def screen_text(app: MonitorApp) -> str:
    """What stands on the screen, line by line, without colours."""
    # Textual has no public way to the composed lines; its own export_screenshot takes this one too.
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def settle(app: MonitorApp, pilot: Pilot[None]) -> str:
    """Wait until everything on disk is read and drawn; what is on the screen then.

    Widgets put some work off until they are idle, so a frame counts once it comes twice.
    """
    before = None
    while True:
        await app.workers.wait_for_complete()
        await pilot.pause(0.05)
        screen = app.screen
        if isinstance(screen, FollowScreen) and screen.tail.behind:
            screen.poll()
            continue
        text = screen_text(app)
        if text == before:
            return text
        before = text


async def _one_frame(app: MonitorApp, size: tuple[int, int]) -> str:
    async with app.run_test(size=size) as pilot:
        return await settle(app, pilot)


def one_frame(app: MonitorApp, size: tuple[int, int]) -> str:
    """Run the application without a terminal until it has read everything, and take its picture."""
    return asyncio.run(_one_frame(app, size))
