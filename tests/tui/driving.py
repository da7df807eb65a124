"""Driving the application without a terminal."""

import asyncio
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot

from di4c_cli.runs import RunDirectory
from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.frame import settle
from di4c_cli.tui.settings import Settings

Act = Callable[[MonitorApp, Pilot[None]], Awaitable[None]]


def drive(app: MonitorApp, act: Act, size: tuple[int, int] = (120, 40)) -> None:
    """Run the application and let `act` use it once everything is on the screen."""
    notify = app.notify
    # On a busy machine a notification may be gone before a test looks.
    app.notify = lambda message, **given: notify(message, **given | {"timeout": 60})  # type: ignore[method-assign]

    async def main() -> None:
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            await act(app, pilot)

    asyncio.run(main())


def watch(*runs: RunDirectory, plain: bool = True, settings: Settings | None = None) -> MonitorApp:
    """The monitor on one run, or on several compared."""
    return MonitorApp(runs[0].path.parent.parent, runs, plain=plain, settings=settings or Settings())


async def refresh(app: MonitorApp, pilot: Pilot[None]) -> str:
    """Poll now rather than in a while, and take the screen."""
    app.screen.poll()
    return await settle(app, pilot)


async def press(app: MonitorApp, pilot: Pilot[None], *keys: str) -> str:
    await pilot.press(*keys)
    return await settle(app, pilot)


def told(app: MonitorApp) -> str:
    """What notifications say that are on the screen (where they are wrapped)."""
    return "\n".join(notification.message for notification in app._notifications)
