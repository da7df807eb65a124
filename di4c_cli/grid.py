"""A matrix as a picture: a panel for each setting of all axes but the first, a colour for each of that."""

from pathlib import Path
from typing import Any

from di4c_cli.axes import NONE
from di4c_cli.frontier import save, scale
from di4c_cli.matrix_table import MODELS, Line, headings, lines, title

COLOURS = ("#3b6ea8", "#d1495b", "#2e8b57", "#c98a1b", "#8d6a9f", "#111111", "#7a5c3e", "#5bb5b0", "#999999")
STYLES = {"teacher": "--", "student": "-"}
MOST_IN_A_ROW = 4


def write_grid(result: dict[str, Any], path: Path) -> None:
    """Teacher dashed, student whole, over the number of steps; figures share their scale."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

    found = [line for line in lines(result) if line.figures]
    panels = list(dict.fromkeys(line.settings[1:] for line in found))
    colours = dict(
        zip(dict.fromkeys(line.settings[:1] for line in found), COLOURS * len(found), strict=False)
    )
    wide = _wide(panels)
    tall = -(-len(panels) // wide)
    canvas = Canvas(figsize=(3.0 * wide + 1.2, 2.5 * tall + 1.2), layout="constrained")
    grid = canvas.subplots(tall, wide, squeeze=False, sharex=True, sharey=True)
    floor = next(
        (cell["reference"].get(result["figure"]) for cell in result["cells"] if "rows" in cell), None
    )
    for settings, axes in zip(panels, grid.flat, strict=False):
        for line in (line for line in found if line.settings[1:] == settings):
            _draw(axes, line, colours[line.settings[:1]])
        if floor is not None:
            axes.axhline(floor, color="black", linestyle=":", linewidth=1)
        axes.set_title(", ".join(settings), fontsize=10)
    values = [figure.mean - figure.std for line in found for figure in line.figures.values()]
    scale(grid[0, 0], [k for line in found for _, k in line.figures], [*values, floor or values[0]])
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < len(panels))
        axes.grid(alpha=0.25)
        if number + wide >= len(panels):  # nothing stands below
            axes.set_xlabel("steps K")
            axes.tick_params(labelbottom=True)
    canvas.suptitle(f"{result['recipe']}: {title(result)}", fontsize=11)
    name = next(iter(headings(result)), "")
    handles = [
        Line2D([], [], color=colour, label=f"no {name}" if label == NONE.label else label)
        for first, colour in colours.items()
        for label in first
    ]
    handles += [Line2D([], [], color="#555555", linestyle=style, label=m) for m, style in STYLES.items()]
    if floor is not None:
        handles.append(Line2D([], [], color="black", linestyle=":", linewidth=1, label="real data"))
    columns = min(len(handles), 2 * wide + 1)
    canvas.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    save(canvas, path)


def _wide(panels: list[tuple[str, ...]]) -> int:
    """Panels in a row: those of the last axis, where they fit, so that rows and columns have a meaning."""
    last = len({settings[-1:] for settings in panels})
    return last if 1 < last <= MOST_IN_A_ROW and len(panels) % last == 0 else min(len(panels), MOST_IN_A_ROW)


def _draw(axes: Any, line: Line, colour: str) -> None:
    """One cell, or the mean of those of several seeds, and how far they lie apart."""
    for model in MODELS:
        points = sorted((k, f.mean, f.std) for (name, k), f in line.figures.items() if name == model)
        steps, means = [k for k, *_ in points], [mean for _, mean, _ in points]
        axes.plot(steps, means, STYLES[model], color=colour, marker="o", markersize=3.5, linewidth=1.3)
        low, high = [mean - std for _, mean, std in points], [mean + std for _, mean, std in points]
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
