"""Which colour is which run, and how far each one is: a line a run."""

from itertools import chain

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from di4c_cli.tui.axis import duration, figure
from di4c_cli.tui.braille import dash_sample
from di4c_cli.tui.messages import RunFacts
from di4c_cli.tui.widgets import LineWidget, inks
from di4c_cli.tui.widgets.plot import legend_lines
from di4c_cli.tui.widgets.status_bar import share_done, state_colour

_DASH = 4  # cells of a pattern
_SHARE = 0.2  # of the screen's height that the legend may take

Entry = tuple[str, int, RunFacts | None]
"""Name, ink and state of a run."""


class RunsLegend(LineWidget):
    """As high as there are runs, within bounds; where it is too low for all, several share a line.

    `dashed`: where there are no colours, the pattern of its curves tells a run.
    """

    DEFAULT_CSS = "RunsLegend { height: auto; padding: 0 1; background: $panel; }"

    def __init__(self, dashed: bool = False) -> None:
        super().__init__()
        self.dashed = dashed
        self._entries: list[Entry] = []
        self._note = ""

    def show(self, entries: list[Entry], note: str = "") -> None:
        if (entries, note) == (self._entries, self._note):
            return
        self.refresh(layout=len(entries) != len(self._entries))
        self._entries, self._note = entries, note
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        most = max(1, int(_SHARE * viewport.height))
        if len(self._entries) <= most:
            return max(1, len(self._entries))
        return len(legend_lines(self._short_entries(), width, most))

    def draw(self) -> list[Strip]:
        width, height = self.content_size
        strips = self._lines_of_all() if len(self._entries) <= height else self._crowded(width, height)
        if self._note and strips:
            strips[0] = Strip([Segment(self._note, Style(reverse=True, bold=True)), Segment(" "), *strips[0]])
        return [strip.crop(0, width) for strip in strips]

    def _lines_of_all(self) -> list[Strip]:
        widest = max((len(name) for name, _, _ in self._entries), default=0)
        return [
            self._line(f"{n} {self._mark(n - 1)} {name:<{widest}}  ", ink, facts)
            for n, (name, ink, facts) in enumerate(self._entries, 1)
        ]

    def _crowded(self, width: int, height: int) -> list[Strip]:
        """Only number, name and share of each run."""
        styles = [self._style(ink) for _, ink, _ in self._entries]
        return [
            Strip(chain(*((Segment(f"{name} ", styles[n]), Segment(f"{told}  ")) for n, name, told in line)))
            for line in legend_lines(self._short_entries(), width, height)
        ]

    def _short_entries(self) -> list[tuple[str, str]]:
        return [(f"{n} {name}", _short(facts)) for n, (name, _, facts) in enumerate(self._entries, 1)]

    def _mark(self, index: int) -> str:
        return dash_sample(index, _DASH) if self.dashed else "━━"

    def _style(self, ink: int) -> Style:
        palette = inks(self)
        return Style(color=palette[ink % len(palette)].rich_color, bold=True)

    def _line(self, head: str, ink: int, facts: RunFacts | None) -> Strip:
        segments = [Segment(head, self._style(ink))]
        if facts is None:
            return Strip(segments)
        segments.append(
            Segment(f"● {facts.state:<11}  ", Style(color=state_colour(facts.state, inks(self)).rich_color))
        )
        if facts.state == "waiting":
            return Strip(segments)
        done = share_done(facts)
        told = [f"step {facts.step:,}/{facts.steps:,}"] if facts.steps else [f"step {facts.step:,}"]
        told += [] if done is None else [f"{100 * done:.0f}%"]
        told += [f"elapsed {duration(facts.elapsed)}"]
        told += [] if facts.loss is None else [f"loss {figure(facts.loss)}"]
        segments.append(Segment("  ".join(told)))
        return Strip(segments)


def _short(facts: RunFacts | None) -> str:
    """How far a run is, or its state."""
    done = None if facts is None else share_done(facts)
    return f"{100 * done:.0f}%" if done is not None else "" if facts is None else facts.state
