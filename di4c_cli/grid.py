"""A matrix as a picture: a panel for each setting of all axes but the first, a colour for each of that."""

from pathlib import Path
from typing import Any

from di4c_cli.matrix_table import MODELS, lines, title

COLOURS = ("#5b7083", "#d1495b", "#2e8b57", "#8d6a9f", "#c98a1b", "#3b7dd8", "#7a5c3e", "#111111", "#999999")
STYLES = {"teacher": "--", "student": "-"}
MOST_IN_A_ROW = 4


def write_grid(result: dict[str, Any], path: Path) -> None:
    """Teacher dashed, student whole, over the number of steps."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

    found = [line for line in lines(result) if line.figures]
    panels = list(dict.fromkeys(line.settings[1:] for line in found))
    colours = dict(zip(dict.fromkeys(line.settings[:1] for line in found), COLOURS * 9, strict=False))
    wide = min(len(panels), MOST_IN_A_ROW)
    tall = -(-len(panels) // wide)
    canvas = Canvas(figsize=(3.2 * wide + 0.6, 2.8 * tall + 0.9), layout="constrained")
    grid = canvas.subplots(tall, wide, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for settings, axes in zip(panels, grid.flat, strict=False):
        for line in (line for line in found if line.settings[1:] == settings):
            for model in MODELS:
                points = sorted((k, f.mean) for (name, k), f in line.figures.items() if name == model)
                axes.plot(
                    [k for k, _ in points],
                    [mean for _, mean in points],
                    STYLES[model],
                    color=colours[line.settings[:1]],
                    marker="o",
                    markersize=3.5,
                )
        axes.set_title(", ".join(settings), fontsize=10)
        axes.set_xscale("log", base=2)
        ticks = sorted({k for line in found for _, k in line.figures})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    for axes in grid[-1]:
        axes.set_xlabel("steps K")
    canvas.suptitle(f"{result['recipe']}: {title(result)}", fontsize=11)
    handles = [Line2D([], [], color=colour, label=" ".join(name)) for name, colour in colours.items()]
    handles += [
        Line2D([], [], color="black", linestyle=style, label=model) for model, style in STYLES.items()
    ]
    canvas.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    temporary = path.with_name(f".{path.name}")
    canvas.savefig(temporary, dpi=150, format="png")
    temporary.replace(path)
