"""Evaluations side by side: a table of all figures, and the frontier of the metric under the cursor."""

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable

from di4c_cli.report import ARROWS, Figure
from di4c_cli.tui.axis import figure
from di4c_cli.tui.evaluation import Evaluation
from di4c_cli.tui.widgets import inks
from di4c_cli.tui.widgets.frontier import MARKS, FrontierLine, FrontierPlot

_FLOOR = "real data"


@dataclass(frozen=True)
class Judged:
    """An evaluation in a comparison. `name` and `ink` of its run; None: it stands alone, its models have the
    colours.
    """

    evaluation: Evaluation
    name: str = ""
    ink: int | None = None

    def columns(self) -> list[tuple[str, str, int, int]]:
        """(model, heading, ink, mark) of each model."""
        return [
            (
                model,
                f"{self.name} {model}".strip(),
                self.ink if self.ink is not None else _INKS.get(model, 3),
                mark,
            )
            for mark, model in enumerate(self.evaluation.models)
        ]


_INKS = {"teacher": 1, "student": 0, "hybrid": 2}


class EvaluationTable(DataTable[Text]):
    """Moving in it chooses the metric that is drawn."""


class EvaluationView(Vertical):
    """The frontier above the table."""

    DEFAULT_CSS = """
    EvaluationView FrontierPlot { height: 2fr; min-height: 6; padding: 0 1; }
    EvaluationView EvaluationTable { height: 3fr; min-height: 4; }
    """

    def __init__(self, id: str = "evaluation") -> None:
        super().__init__(id=id)
        self.border_title = "evaluation: none yet"
        self._judged: list[Judged] = []
        self._metrics: list[str] = []  # of the table's rows
        self.metric: str | None = None

    def compose(self) -> ComposeResult:
        yield FrontierPlot()
        yield EvaluationTable(cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        self._fill()

    def show(self, judged: list[Judged]) -> None:
        self._judged = judged
        if self.is_mounted:
            self._fill()

    def _fill(self) -> None:
        names = list(dict.fromkeys(name for judged in self._judged for name in judged.evaluation.names))
        self._metrics = []
        table = self.query_one(EvaluationTable)
        rows = [row for name in names for row in self._rows(name)]
        headings = [
            "metric",
            "K",
            *(self._heading(*column[1:]) for j in self._judged for column in j.columns()),
        ]
        headings += [_FLOOR] if any(judged.evaluation.reference for judged in self._judged) else []
        table.clear(columns=True)
        for index, heading in enumerate(headings if rows else []):
            width = max(len(heading), *(len(row[index]) for row in rows))
            table.add_column(heading, width=width)
        for row in rows:
            table.add_row(*row)
        if self.metric in self._metrics:
            table.move_cursor(row=self._metrics.index(self.metric))
        self._draw_frontier()

    def _heading(self, heading: str, ink: int, mark: int) -> Text:
        colour = inks(self)[ink % len(inks(self))].rich_color.name
        return Text(f"{MARKS[mark % len(MARKS)]} {heading}", style=f"bold {colour}")

    def _rows(self, name: str) -> list[list[Text]]:
        """The rows of one metric, a number of steps each, the best figure of a row in bold."""
        rows = []
        for steps in sorted({k for judged in self._judged for k in judged.evaluation.steps}):
            cells: list[tuple[Figure | None, str]] = []
            for judged in self._judged:
                direction = judged.evaluation.directions.get(name, "")
                cells += [
                    (judged.evaluation.figure(model, steps, name), direction)
                    for model in judged.evaluation.models
                ]
            if not any(value for value, _ in cells):
                continue
            title = name + ARROWS.get(cells[0][1], "") if name not in self._metrics else ""
            row = [Text(title, style="bold"), Text(str(steps), justify="right"), *_figures(cells)]
            floors = [judged.evaluation.reference.get(name) for judged in self._judged]
            floor = next((value for value in floors if value is not None), None)
            if any(judged.evaluation.reference for judged in self._judged):
                row.append(Text("" if floor is None or title == "" else figure(floor), justify="right"))
            self._metrics.append(name)
            rows.append(row)
        return rows

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.cursor_row < len(self._metrics) and self._metrics[event.cursor_row] != self.metric:
            self.metric = self._metrics[event.cursor_row]
            self._draw_frontier()

    def _draw_frontier(self) -> None:
        plot = self.query_one(FrontierPlot)
        plot.show(*frontier(self._judged, self.metric))
        self.border_title = f"evaluation · {plot.title}" if self._metrics else "evaluation: none yet"


def frontier(
    judged: list[Judged], metric: str | None = None
) -> tuple[str, str, list[FrontierLine], float | None]:
    """What a FrontierPlot shows of a metric (default: the most telling): its name, direction, lines, floor."""
    names = list(dict.fromkeys(name for one in judged for name in one.evaluation.names))
    metric = metric if metric in names else next(iter(names), "")
    lines, floor, direction = [], None, ""
    for one in judged:
        evaluation = one.evaluation
        for model, name, ink, mark in one.columns():
            figures = [(k, evaluation.figure(model, k, metric)) for k in evaluation.steps]
            points = tuple((k, known.mean) for k, known in figures if known is not None)
            lines.append(FrontierLine(name, points, ink, mark))
        floor = evaluation.reference.get(metric, floor)
        direction = evaluation.directions.get(metric, direction)
    return metric, direction, lines, floor


def _figures(cells: list[tuple[Figure | None, str]]) -> list[Text]:
    means = [value.mean for value, _ in cells if value is not None]
    direction = cells[0][1]
    best = {"lower": min(means), "higher": max(means)}.get(direction)
    return [
        Text(
            "–" if value is None else _figure(value),
            style="bold" if value and value.mean == best else "",
            justify="right",
        )
        for value, _ in cells
    ]


def _figure(value: Figure) -> str:
    return f"{figure(value.mean)} ±{figure(value.std)}" if value.std else figure(value.mean)
