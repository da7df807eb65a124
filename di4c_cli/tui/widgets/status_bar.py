"""The line that answers "how far is it?", in whatever width there is."""

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.reactive import reactive
from textual.strip import Strip

from di4c_cli.tui.axis import duration, figure
from di4c_cli.tui.messages import RunFacts
from di4c_cli.tui.widgets import LineWidget, inks

STATE_INKS = {"running": 2, "finished": 0, "interrupted": 4, "stale": 3, "failed": 5, "deleted": 5}
_WAITING = Color.parse("#8a8f98")
_NARROW = 40  # cells below which colour alone tells the state
_BAR = 8  # cells the progress bar has at least
_SPACE = "  "
Piece = tuple[int, str, Style]  # rank (1: goes last when there is no room), text, style


def state_colour(state: str, palette: Sequence[Color]) -> Color:
    """Of the palette that is legible on the theme."""
    return palette[STATE_INKS[state]] if state in STATE_INKS else _WAITING


def share_done(facts: RunFacts) -> float | None:
    """Between 0 and 1; None while the number of steps is not known."""
    return min(1.0, max(0.0, facts.step / facts.steps)) if facts.steps > 0 else None


class StatusBar(LineWidget):
    """State, name, progress and time on one line; speed, memory and loss on a second one."""

    facts: reactive[RunFacts | None] = reactive(None)
    note: reactive[str] = reactive("")  # what the viewer itself is doing, as "paused"

    def watch_facts(self) -> None:
        self.redraw()

    def watch_note(self) -> None:
        self.redraw()

    def draw(self) -> list[Strip]:
        width = self.content_size.width
        return [self._progress(self.facts, width), self._figures(self.facts, width)] if self.facts else []

    def _progress(self, facts: RunFacts, width: int) -> Strip:
        colour = Style(color=state_colour(facts.state, inks(self)).rich_color, bold=True)
        bold, plain = Style(bold=True), Style()
        done = share_done(facts)
        narrow = width < _NARROW
        pieces: list[Piece] = [(1, "●" if narrow else f"● {facts.state}", colour)]
        pieces.append((1, facts.path.name if narrow else facts.name, bold))
        if facts.steps:
            pieces.append((4, f"step {facts.step:,}/{facts.steps:,}", plain))
        if done is not None:
            pieces.append((1, f"{100 * done:.0f}%", bold))
        if facts.state == "running":
            pieces.append((3, f"ETA {duration(facts.eta)}", plain))
        if self.note:
            pieces.append((2, self.note, Style(reverse=True, bold=True)))
        segments = _fit(pieces, width)
        room = width - sum(segment.cell_length for segment in segments) - len(_SPACE)
        if done is not None and room >= _BAR:
            segments += [Segment(_SPACE), *_bar(done, room, state_colour(facts.state, inks(self)))]
        return Strip(segments)

    def _figures(self, facts: RunFacts, width: int) -> Strip:
        plain = Style()
        pieces: list[Piece] = []
        if facts.message:
            pieces.append((1, facts.message, Style(color=state_colour(facts.state, inks(self)).rich_color)))
        pieces.append((2, f"elapsed {duration(facts.elapsed)}", plain))
        if facts.loss is not None:
            pieces.append((2, f"loss {figure(facts.loss)}", plain))
        if facts.samples_per_s is not None:
            pieces.append((3, f"{figure(facts.samples_per_s)} samples/s", plain))
        if facts.memory_mb is not None:
            pieces.append((4, f"{figure(facts.memory_mb)} MB", plain))
        return Strip(_fit(pieces, width))


def _bar(done: float, width: int, colour: Color) -> list[Segment]:
    full = round(done * width)
    faint = Style(color=_WAITING.rich_color, dim=True)
    return [Segment("━" * full, Style(color=colour.rich_color)), Segment("─" * (width - full), faint)]


def _fit(pieces: list[Piece], width: int) -> list[Segment]:
    """The pieces that fit, least important left out first; what is left is cut."""
    while len(pieces) > 1 and sum(len(text) + len(_SPACE) for _, text, _ in pieces) - len(_SPACE) > width:
        worst = max(rank for rank, _, _ in pieces)
        last = max(index for index, piece in enumerate(pieces) if piece[0] == worst)
        pieces = pieces[:last] + pieces[last + 1 :]
    segments = []
    for number, (_, text, style) in enumerate(pieces):
        segments += [Segment(_SPACE)] * bool(number) + [Segment(text, style)]
    return segments
