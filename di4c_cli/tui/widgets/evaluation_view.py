"""Evaluations side by side: a table of all figures, and the frontier of the metric under the cursor."""

from dataclasses import dataclass, replace

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable

from di4c_cli.figures import ARROWS, Figure
from di4c_cli.tui.axis import figure
from di4c_cli.tui.evaluation import Evaluation
from di4c_cli.tui.widgets import inks, to_the_right
from di4c_cli.tui.widgets.frontier import MARKS, FrontierLine, FrontierPlot

_FLOOR = "real data"
_INKS = {"teacher": 1, "student": 0, "hybrid": 2}  # of models whose run stands alone
_OTHER_INK = 3


@dataclass(frozen=True)
class Judged:
    """An evaluation in a comparison. `name` and `ink` of its run; without an ink it stands alone, and its
    models have the colours.
    """

    evaluation: Evaluation
    name: str = ""
    ink: int | None = None


@dataclass(frozen=True)
class Side:
    """One model of one evaluation, as it is told and drawn. `ink` None: common to several runs."""

    evaluation: Evaluation
    model: str
    name: str
    ink: int | None
    mark: int

    def figure(self, steps: int, metric: str) -> Figure | None:
        return self.evaluation.figure(self.model, steps, metric)

    def same(self, other: "Side") -> bool:
        """Another run's evaluation of the same model, with the same figures: as of a common teacher."""
        ours, theirs = self.evaluation, other.evaluation
        places = [(k, name) for k in {*ours.steps, *theirs.steps} for name in {*ours.names, *theirs.names}]
        return self.model == other.model and all(self.figure(*at) == other.figure(*at) for at in places)


def sides(judged: list[Judged], plain: bool = False) -> list[Side]:
    """Every model once: what is the same in two runs is told without their names.

    A model has its mark in all runs, as a run has its colour; where there are no colours (`plain`), each has
    a mark of its own.
    """
    models = list(dict.fromkeys(model for one in judged for model in one.evaluation.models))
    found: list[Side] = []
    for one in judged:
        for model in one.evaluation.models:
            ink = one.ink if one.ink is not None else _INKS.get(one.evaluation.kind(model), _OTHER_INK)
            mark = len(found) if plain else models.index(model)
            side = Side(one.evaluation, model, f"{one.name} {model}".strip(), ink, mark)
            twin = next((index for index, other in enumerate(found) if side.same(other)), None)
            if twin is None:
                found.append(side)
            else:
                found[twin] = replace(found[twin], name=model, ink=None)
    return found


class EvaluationTable(DataTable[Text]):
    """Moving in it chooses the metric that is drawn."""


class EvaluationView(Vertical):
    """The frontier above the table."""

    DEFAULT_CSS = """
    EvaluationView FrontierPlot { height: 2fr; min-height: 6; padding: 0 1; }
    EvaluationView EvaluationTable { height: 3fr; min-height: 4; }
    """

    def __init__(self, id: str = "evaluation", plain: bool = False) -> None:
        super().__init__(id=id)
        self.plain = plain
        self.border_title = "evaluation: none yet"
        self._judged: list[Judged] = []
        self._places: list[tuple[str, int]] = []  # metric and sampling steps of the table's rows
        self._place: tuple[str, int] = ("", 0)

    @property
    def metric(self) -> str:
        """Of the row under the cursor."""
        return self._place[0]

    def compose(self) -> ComposeResult:
        yield FrontierPlot(dashed=self.plain)
        yield EvaluationTable(cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        self._fill()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._fill())

    def show(self, judged: list[Judged]) -> None:
        self._judged = judged
        if self.is_mounted:
            self._fill()

    def _fill(self) -> None:
        """The table anew; its figures stand right under each other."""
        self._places = []
        shown = sides(self._judged, self.plain)
        names = list(dict.fromkeys(name for one in self._judged for name in one.evaluation.names))
        rows = [row for name in names for row in self._rows(name, shown)]
        headings = [Text("metric"), Text("K"), *map(self._heading, shown), Text(_FLOOR)]
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        table = self.query_one(EvaluationTable)
        table.clear(columns=True)
        for heading, width in zip(headings if rows else [], widths, strict=False):
            table.add_column(heading, width=width)
        for title, *figures in rows:
            aligned = [to_the_right(cell, width) for cell, width in zip(figures, widths[1:], strict=True)]
            table.add_row(title, *aligned)
        same_metric = [row for row, (metric, _) in enumerate(self._places) if metric == self.metric]
        if same_metric:  # the cursor stays where it was, as far as that is still there
            there = self._place in self._places
            table.move_cursor(row=self._places.index(self._place) if there else same_metric[0])
        self._draw_frontier()

    def _heading(self, side: Side) -> Text:
        colour = "" if side.ink is None else inks(self)[side.ink % len(inks(self))].rich_color.name
        return Text(f"{MARKS[side.mark % len(MARKS)]} {side.name}", style=f"bold {colour}")

    def _rows(self, name: str, shown: list[Side]) -> list[list[Text]]:
        """The rows of one metric, a number of steps each, the best figure of a row in bold."""
        direction = next((d for one in self._judged if (d := one.evaluation.directions.get(name))), "")
        floor = next(
            (f for one in self._judged if (f := one.evaluation.reference.get(name)) is not None), None
        )
        rows: list[list[Text]] = []
        for steps in sorted({k for one in self._judged for k in one.evaluation.steps}):
            figures = [side.figure(steps, name) for side in shown]
            if any(figures):
                title = "" if rows else name + ARROWS.get(direction, "")
                real = "" if rows or floor is None else figure(floor)
                rows.append(
                    [Text(title, style="bold"), Text(str(steps)), *_cells(figures, direction), Text(real)]
                )
                self._places.append((name, steps))
        return rows

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.cursor_row < len(self._places):
            before, self._place = self.metric, self._places[event.cursor_row]
            if self.metric != before:
                self._draw_frontier()

    def _draw_frontier(self) -> None:
        plot = self.query_one(FrontierPlot)
        plot.show(*frontier(self._judged, self.metric, self.plain))
        self.border_title = f"evaluation · {plot.title}" if self._places else "evaluation: none yet"


def frontier(
    judged: list[Judged], metric: str = "", plain: bool = False
) -> tuple[str, str, list[FrontierLine], float | None]:
    """What a FrontierPlot shows of a metric, by default the most telling: name, direction, lines, floor."""
    names = list(dict.fromkeys(name for one in judged for name in one.evaluation.names))
    metric = metric if metric in names else next(iter(names), "")
    lines = []
    for side in sides(judged, plain):
        figures = [(k, side.figure(k, metric)) for k in side.evaluation.steps]
        points = tuple((k, known.mean) for k, known in figures if known is not None)
        lines.append(FrontierLine(side.name, points, side.ink, side.mark))
    floors = [one.evaluation.reference[metric] for one in judged if metric in one.evaluation.reference]
    directions = [one.evaluation.directions.get(metric, "") for one in judged]
    return metric, next(iter(directions), ""), lines, next(iter(floors), None)


def _cells(figures: list[Figure | None], direction: str) -> list[Text]:
    means = [known.mean for known in figures if known is not None]
    best = {"lower": min(means), "higher": max(means)}.get(direction)
    return [
        Text("–") if known is None else Text(_figure(known), style="bold" if known.mean == best else "")
        for known in figures
    ]


def _figure(value: Figure) -> str:
    """As results.md has it: two digits of the deviation are plenty."""
    deviation = f" ±{figure(float(f'{value.std:.2g}'))}" if value.std else ""
    return figure(value.mean) + deviation
