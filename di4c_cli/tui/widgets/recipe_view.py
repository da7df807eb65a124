"""Values of recipes in a table that can be filtered."""

import json
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import DataTable, Input

from di4c_cli.tui.widgets import inks
from di4c_cli.tui.widgets.filter_line import FilterLine

_ORIGINS = {"override": 1, "default": None}  # inks; what stands in the file gets the first
Row = tuple[Text, ...]


class FilteredTable(Vertical):
    """Rows of text. A filter of words leaves those rows that have all of them, in whatever column."""

    DEFAULT_CSS = """
    FilteredTable DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar = [
        Binding("slash", "filter", "Filter", show=False),
        Binding("escape", "clear_filter", "Close the filter", show=False),
    ]

    def __init__(self, title: str, id: str) -> None:
        super().__init__(id=id)
        self.border_title = title

    def columns(self) -> Sequence[str]:
        raise NotImplementedError

    def rows(self) -> list[Row]:
        """In the colours of the theme as it is now."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield FilterLine("words that a row must have")

    def on_mount(self) -> None:
        self.fill()
        self.app.theme_changed_signal.subscribe(self, lambda _: self.fill())

    def fill(self) -> None:
        """The table anew."""
        words = self.query_one(FilterLine).value.lower().split()
        rows = self.rows()
        shown = [row for row in rows if all(word in _plain(row) for word in words)]
        table = self.query_one(DataTable)
        table.clear(columns=True)
        for index, column in enumerate(self.columns()):
            table.add_column(column, width=max([len(column), *(len(row[index]) for row in shown)]))
        for row in shown:
            table.add_row(*row)
        of = f"{len(shown)} of " if words else ""
        self.border_subtitle = f"{of}{len(rows)} value{'s' if len(rows) != 1 else ''}"

    # -- filter ------------------------------------------------------------------------------

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    def action_clear_filter(self) -> None:
        self.query_one(FilterLine).clear_and_close(self.query_one(DataTable))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.fill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(DataTable).focus()
        self.query_one(FilterLine).display = bool(event.value)


def _plain(row: Row) -> str:
    return " ".join(cell.plain for cell in row).lower()


class RecipeView(FilteredTable):
    """The resolved recipe of a run: each value, and where it came from."""

    def __init__(self) -> None:
        super().__init__("recipe", "recipe")
        self._values: Sequence[tuple[str, str, str]] = ()

    def show(self, values: Sequence[tuple[str, str, str]]) -> None:
        """Key, value and origin of each."""
        self._values = values
        if self.is_mounted:
            self.fill()

    def columns(self) -> Sequence[str]:
        return ("key", "value", "origin")

    def rows(self) -> list[Row]:
        palette = inks(self)

        def style(origin: str) -> str:
            ink = _ORIGINS.get(origin, 0)
            return "dim" if ink is None else f"bold {palette[ink].rich_color.name}"

        return [
            (Text(key), Text(value, style=style(origin)), Text(origin, style="dim"))
            for key, value, origin in self._values
        ]


class DifferencesView(FilteredTable):
    """Recipe values in which runs differ, a column a run."""

    def __init__(self) -> None:
        super().__init__("recipes: none yet", "differences")
        self._names: list[tuple[str, int]] = []
        self._values: list[dict[str, str]] = []

    def show(self, names: list[tuple[str, int]], values: list[dict[str, str]]) -> None:
        """`names` of the runs with their inks, and each one's values as JSON by dotted key: without any, its
        recipe is not known.
        """
        self._names, self._values = names, values
        known = sum(map(bool, values))
        self.border_title = "recipes: none yet" if known < 2 else "recipes: the same values"
        if different_keys(values):
            self.border_title = "recipes: what differs"
        if self.is_mounted:
            self.fill()

    def columns(self) -> Sequence[str]:
        return ("key", *(name for name, _ in self._names))

    def rows(self) -> list[Row]:
        palette = inks(self)
        styles = [palette[ink % len(palette)].rich_color.name for _, ink in self._names]
        return [
            (
                Text(key),
                *(
                    Text(table.get(key, "null") if table else "–", style=style)
                    for style, table in zip(styles, self._values, strict=True)
                ),
            )
            for key in different_keys(self._values)
        ]


def different_keys(values: list[dict[str, str]]) -> list[str]:
    """Keys with different values, as `di4c runs diff` finds them: one that is missing is null, 1 is 1.0."""
    known = [table for table in values if table]
    found = []
    for key in dict.fromkeys(key for table in known for key in table):
        texts = {table.get(key, "null") for table in known}
        first, *others = map(json.loads, texts)
        if any(other != first for other in others):
            found.append(key)
    return found
