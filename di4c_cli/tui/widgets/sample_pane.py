"""Samples of a run: a slider over training steps, one over sampling steps, and what the two choose."""

from dataclasses import dataclass
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from di4c_cli.tui.messages import PreviewsArrived
from di4c_cli.tui.pictures import Preview
from di4c_cli.tui.widgets.pixel_wall import PixelWall
from di4c_cli.tui.widgets.sample_view import SampleView
from di4c_cli.tui.widgets.slider import Slider

_ALL = "all"


@dataclass(frozen=True)
class Drawn:
    """Samples that were drawn on request. `name` for the slider, `title` for the border."""

    name: str
    title: str
    folder: Path
    previews: tuple[Preview, ...]


class SamplePane(Vertical):
    """Shows previews of the run, and behind them on the slider what was drawn since on request."""

    @dataclass
    class Wanted(Message):
        """The previews of another training step are wanted; None: the newest, whichever that is."""

        step: int | None

    def __init__(self, plain: bool = False, pictures: str = "blocks") -> None:
        super().__init__(id="samples")
        self.plain = plain
        self.pictures = pictures
        """How pictures are shown: by half "blocks", or by "kitty" or "sixel" in real pixels."""
        self.border_title = "previews: none yet"
        self.folder: Path | None = None
        """Where what is shown lies on disk."""
        self.shown: tuple[Preview, ...] = ()
        self._arrived: PreviewsArrived | None = None
        self._drawn: list[Drawn] = []
        self._looking: int | None = None  # which of those is shown
        self._previews: tuple[Preview, ...] = ()
        self._sampling = _ALL

    def compose(self) -> ComposeResult:
        yield Slider("training step", id="slider-training")
        yield Slider("sampling steps", id="slider-sampling")
        yield SampleView(self.plain)
        yield PixelWall()

    def on_mount(self) -> None:
        self.query_one(PixelWall).display = False

    @property
    def sampling_steps(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(preview.steps for preview in self._previews))

    @property
    def _steps(self) -> tuple[int, ...]:
        return self._arrived.steps if self._arrived else ()

    def show(self, arrived: PreviewsArrived) -> None:
        """Previews of the run; who looks at samples that he has asked for goes on to do so."""
        self._arrived = arrived
        if self._looking is not None:
            self._place(len(arrived.steps) + self._looking)
            return
        self.border_title = f"previews at step {arrived.step:,}"
        self._place(arrived.steps.index(arrived.step))
        self._show(arrived.previews, arrived.folder)

    def add(self, drawn: Drawn) -> None:
        """Samples just drawn: they come last on the slider, and are shown."""
        self._drawn.append(drawn)
        self._show_drawn(len(self._drawn) - 1)

    def show_by(self, pictures: str) -> None:
        """Show pictures another way from now on."""
        self.pictures = pictures
        self._draw()

    def move(self, slider: str, change: int) -> None:
        """Move the slider `training` or `sampling`."""
        self.query_one(f"#slider-{slider}", Slider).action_move(change)

    def _place(self, index: int) -> None:
        values = [f"{step:,}" for step in self._steps] + [drawn.name for drawn in self._drawn]
        self.query_one("#slider-training", Slider).show(values, index)

    def _show_drawn(self, index: int) -> None:
        self._looking, drawn = index, self._drawn[index]
        self.border_title = drawn.title
        self._place(len(self._steps) + index)
        self._show(drawn.previews, drawn.folder)

    def _show(self, previews: tuple[Preview, ...], folder: Path) -> None:
        self._previews, self.folder = previews, folder
        choices = [_ALL, *map(str, self.sampling_steps)]
        self._sampling = self._sampling if self._sampling in choices else _ALL
        self.query_one("#slider-sampling", Slider).show(choices, choices.index(self._sampling))
        self._draw()

    def _draw(self) -> None:
        self.shown = tuple(p for p in self._previews if self._sampling in (_ALL, str(p.steps)))
        blocks, wall = self.query_one(SampleView), self.query_one(PixelWall)
        wall.display = self.pictures != "blocks" and any(preview.tiles for preview in self.shown)
        blocks.display = not wall.display
        if wall.display:
            wall.show(self.shown, self.pictures)
        else:
            blocks.show(self.shown)

    def on_slider_moved(self, event: Slider.Moved) -> None:
        event.stop()
        if event.slider.id == "slider-sampling":
            self._sampling = event.slider.values[event.index]
            self._draw()
        elif event.index >= len(self._steps):
            self._show_drawn(event.index - len(self._steps))
        elif self._arrived is not None:
            self._looking = None
            if self._steps[event.index] == self._arrived.step:
                self.show(self._arrived)
            newest = event.index == len(self._steps) - 1
            self.post_message(self.Wanted(None if newest else self._steps[event.index]))
