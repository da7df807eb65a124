"""Values of recipes in a table that can be filtered."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import DataTable, Input

from di4c_cli.tui.widgets import inks

_ORIGINS = {"override": 1, "default": None}  # inks; what stands in the file gets the first


class FilterInput(Input):
    """Escape clears and closes it."""

    BINDINGS: ClassVar = [Binding("escape", "close", "Close the filter", show=False)]

    def action_close(self) -> None:
        self.value = ""
        self.display = False
        if isinstance(self.parent, FilteredTable):
            self.parent.query_one(DataTable).focus()


class FilteredTable(Vertical):
    """Rows of text. A filter of words leaves those rows that have all of them, in whatever column."""

    DEFAULT_CSS = """
    FilteredTable DataTable { height: 1fr; }
    FilteredTable FilterInput { height: 1; border: none; padding: 0; display: none; }
    """
    BINDINGS: ClassVar = [Binding("slash", "filter", "Filter", show=False)]

    def __init__(self, title: str, columns: Sequence[str], id: str) -> None:
        super().__init__(id=id)
        self.title, self.columns = title, columns
        self.border_title = title
        self._rows: list[tuple[Text, ...]] = []

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield FilterInput(placeholder="words that a row must have", compact=True)

    def on_mount(self) -> None:
        self._fill()

    def show_rows(self, rows: list[tuple[Text, ...]], columns: Sequence[str] | None = None) -> None:
        self._rows, self.columns = rows, columns or self.columns
        if self.is_mounted:
            self._fill()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(DataTable).focus()

    def action_filter(self) -> None:
        words = self.query_one(FilterInput)
        words.display = True
        words.focus()

    def _fill(self) -> None:
        words = self.query_one(FilterInput).value.lower().split()
        shown = [row for row in self._rows if all(word in _plain(row) for word in words)]
        table = self.query_one(DataTable)
        table.clear(columns=True)
        for index, column in enumerate(self.columns):
            width = max([len(column), *(len(row[index]) for row in shown)])
            table.add_column(column, width=width)
        for row in shown:
            table.add_row(*row)
        self.border_subtitle = f"{len(shown)} of {len(self._rows)}" if words else f"{len(self._rows)} values"


def _plain(row: tuple[Text, ...]) -> str:
    return " ".join(cell.plain for cell in row).lower()


class RecipeView(FilteredTable):
    """The resolved recipe of a run: each value, and where it came from."""

    def __init__(self) -> None:
        super().__init__("recipe", ("key", "value", "origin"), "recipe")

    def show(self, values: Sequence[tuple[str, str, str]]) -> None:
        palette = inks(self)

        def style(origin: str) -> str:
            ink = _ORIGINS.get(origin, 0)
            return "dim" if ink is None else f"bold {palette[ink].rich_color.name}"

        self.show_rows(
            [
                (Text(key), Text(value, style=style(origin)), Text(origin, style="dim"))
                for key, value, origin in values
            ]
        )


class DifferencesView(FilteredTable):
    """Recipe values in which runs differ, a column a run."""

    def __init__(self) -> None:
        super().__init__("recipes: the same values", ("key",), "differences")

    def show(self, names: list[tuple[str, int]], values: list[dict[str, str]]) -> None:
        """`names` of the runs with their inks, and each one's values as JSON by dotted key."""
        palette = inks(self)
        keys = dict.fromkeys(key for table in values for key in table)
        different = [key for key in keys if len({table.get(key, "null") for table in values}) > 1]
        rows = [
            (
                Text(key),
                *(
                    Text(table.get(key, "null"), style=palette[ink % len(palette)].rich_color.name)
                    for (_, ink), table in zip(names, values, strict=True)
                ),
            )
            for key in different
        ]
        self.border_title = "recipes: what differs" if rows else "recipes: the same values"
        self.show_rows(rows, ("key", *(name for name, _ in names)))
