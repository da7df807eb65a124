"""Which colour is which run, and how far each one is: a line a run."""

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from di4c_cli.tui.axis import duration, figure
from di4c_cli.tui.messages import RunFacts
from di4c_cli.tui.widgets import LineWidget, inks
from di4c_cli.tui.widgets.status_bar import share_done, state_colour

Entry = tuple[str, int, RunFacts | None]
"""Name, ink and state of a run."""


class RunsLegend(LineWidget):
    """As high as there are runs, within bounds."""

    DEFAULT_CSS = "RunsLegend { height: auto; max-height: 4; padding: 0 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Entry] = []
        self._note = ""

    def show(self, entries: list[Entry], note: str = "") -> None:
        self._entries, self._note = entries, note
        self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, *_: object) -> int:
        return max(1, len(self._entries))

    def draw(self) -> list[Strip]:
        widest = max((len(name) for name, _, _ in self._entries), default=0)
        strips = [
            self._line(f"{n} ━━ {name:<{widest}}  ", *rest)
            for n, (name, *rest) in enumerate(self._entries, 1)
        ]
        if self._note and strips:
            strips[0] = Strip([Segment(self._note, Style(reverse=True, bold=True)), Segment(" "), *strips[0]])
        return [strip.crop(0, self.content_size.width) for strip in strips]

    def _line(self, head: str, ink: int, facts: RunFacts | None) -> Strip:
        palette = inks(self)
        segments = [Segment(head, Style(color=palette[ink % len(palette)].rich_color, bold=True))]
        if facts is None:
            return Strip(segments)
        segments.append(Segment(f"● {facts.state:<11}  ", Style(color=state_colour(facts.state).rich_color)))
        done = share_done(facts)
        told = [f"step {facts.step:,}/{facts.steps:,}"] if facts.steps else [f"step {facts.step:,}"]
        told += [] if done is None else [f"{100 * done:.0f}%"]
        told += [f"elapsed {duration(facts.elapsed)}"]
        told += [] if facts.loss is None else [f"loss {figure(facts.loss)}"]
        segments.append(Segment("  ".join(told)))
        return Strip(segments)
