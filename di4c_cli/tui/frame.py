"""One frame of the monitor as plain text."""

import asyncio

from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.screens import FollowScreen


def screen_text(app: MonitorApp) -> str:
    """What stands on the screen, line by line, without colours."""
    # Textual has no public way to the composed lines; its own export_screenshot takes this one too.
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def _one_frame(app: MonitorApp, size: tuple[int, int]) -> str:
    async with app.run_test(size=size) as pilot:
        while True:
            await app.workers.wait_for_complete()
            await pilot.pause()
            screen = app.screen
            if not (isinstance(screen, FollowScreen) and screen.tail.behind):
                return screen_text(app)
            screen.poll()


def one_frame(app: MonitorApp, size: tuple[int, int]) -> str:
    """Run the application without a terminal until it has read everything, and take its picture."""
    return asyncio.run(_one_frame(app, size))
