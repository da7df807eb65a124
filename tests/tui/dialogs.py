"""Dialogs driven by keys and mouse, each over an empty screen."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from di4c_cli.tui.frame import screen_text

Act = Callable[[App[None], Pilot[None]], Awaitable[None]]
SIZES = [(20, 5), (1, 1)]


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it never came:\n{screen_text(pilot.app)}"
        await pilot.pause(0.02)


def drive(
    screen: Screen[Any], act: Act, size: tuple[int, int] = (80, 24), given: list[Any] | None = None
) -> list[Any]:
    """Let `act` use a dialog over an empty screen; what the dialog gave back, put into `given` at once."""
    given = [] if given is None else given

    async def main() -> None:
        app: App[None] = App()
        async with app.run_test(size=size) as pilot:
            await app.push_screen(screen, given.append)
            await app.workers.wait_for_complete()
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(main())
    return given


def fill(app: App[None], field: str, text: str) -> None:
    """What typing comes to, without the time that keys take."""
    app.screen.query_one(f"#{field}", Input).value = text


def pressing(*keys: str) -> Act:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press(*keys)
        await app.workers.wait_for_complete()
        await pilot.pause()

    return act


def clicking(*selectors: str) -> Act:
    async def act(app: App[None], pilot: Pilot[None]) -> None:
        for selector in selectors:
            assert await pilot.click(selector)
        await app.workers.wait_for_complete()
        await pilot.pause()

    return act


def left_by_escape(size: tuple[int, int]) -> Act:
    """Some keys, a storm of sizes, and away."""

    async def act(app: App[None], pilot: Pilot[None]) -> None:
        await pilot.press("tab", "down", "up", "shift+tab", "right")
        await pilot.resize_terminal(200, 3)
        await pilot.resize_terminal(*size)
        assert len(screen_text(app).splitlines()) <= size[1]
        await pilot.press("escape")
        await pilot.pause()

    return act
