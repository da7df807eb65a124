"""The picture of an evaluation: quality against network calls, and perplexity against entropy."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from di4c_cli.figures import (
    ARROWS,
    ENTROPY,
    LABELS,
    PERPLEXITY,
    Group,
    Setting,
    aggregate,
    metric_names,
    varied,
)

STYLES = {"teacher": ("#5b7083", "o"), "student": ("#d1495b", "s"), "hybrid": ("#2e8b57", "^")}
OTHER_STYLE = ("#8d6a9f", "D")
MAX_PANELS = 4
DASHES = ("-", "--", "-.", ":")
"""Line styles of the settings."""
DECADE = 10.0  # panels whose figures span more than this factor get a logarithmic axis
LINE: dict[str, Any] = {"markersize": 5}
HOLLOW: dict[str, Any] = {"linestyle": "", "markersize": 5, "markerfacecolor": "white"}
"""Points that are not comparable."""


def write_frontier(result: dict[str, Any], path: Path) -> None:
    """Draw a panel a metric, a line a model, the floor dashed.

    Where temperatures were tried, samples of T = 1 stand there, and the others in panels of their own.
    """
    from matplotlib.figure import Figure as Canvas

    names, groups = metric_names(result), aggregate(result["rows"])
    panels = [name for name in LABELS if name in names][:MAX_PANELS] or names[:MAX_PANELS]
    traded = _traded(names, groups)
    num = max(len(panels) + len(traded), 1)
    canvas = Canvas(figsize=(3.6 * num + 0.4, 3.6), layout="constrained")
    every_axes = canvas.subplots(1, num, squeeze=False)[0]
    plain = [group for group in groups if group.setting.temperature == 1] or groups
    for name, axes in zip(panels, every_axes, strict=False):
        _panel(axes, name, plain, result["reference"].get(name))
    for name, axes in zip(traded, every_axes[len(panels) :], strict=True):
        _trade(axes, name, groups, result["reference"])
    for name, axes in zip([*panels, *traded], every_axes, strict=False):
        arrow = ARROWS.get(result["directions"].get(name, ""), "")
        axes.set_title(LABELS.get(name, name) + arrow, fontsize=10)
    handles = {
        str(h.get_label()): h
        for axes in reversed(canvas.axes)  # the first panel's are kept: filled markers
        for h in axes.get_lines()
        if not str(h.get_label()).startswith("_")
    }
    canvas.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    save(canvas, path)


def save(canvas: Any, path: Path) -> None:
    """Write a matplotlib Figure whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    canvas.savefig(temporary, dpi=150, format="png")
    temporary.replace(path)


def _traded(names: list[str], groups: list[Group]) -> list[str]:
    """The perplexities to draw against entropy."""
    several = len({group.setting.temperature for group in groups}) > 1
    return [name for name in names if name.endswith(PERPLEXITY) and several and ENTROPY in names]


def _panel(axes: Any, name: str, groups: list[Group], floor: float | None) -> None:
    """One metric. `axes` is a matplotlib Axes."""
    known = [group for group in groups if name in group.metrics]
    settings = list(dict.fromkeys(group.setting for group in known))
    for model, setting in dict.fromkeys((group.model, group.setting) for group in known):
        points = sorted(
            (g.nfe, f.mean, f.std, g.not_comparable)
            for g in known
            if (g.model, g.setting) == (model, setting) and (f := g.metrics[name])
        )
        nfe, means = [x for x, *_ in points], [mean for _, mean, *_ in points]
        color, marker = STYLES.get(model, OTHER_STYLE)
        style = DASHES[settings.index(setting) % len(DASHES)]
        axes.plot(
            nfe, means, style, color=color, marker=marker, label=_name(model, setting, settings), **LINE
        )
        for x, mean, _, marked in points:
            if marked:
                axes.plot(x, mean, color=color, marker=marker, **HOLLOW)
        low, high = [mean - std for _, mean, std, _ in points], [mean + std for _, mean, std, _ in points]
        axes.fill_between(nfe, low, high, color=color, alpha=0.2, linewidth=0)
    if floor is not None:
        axes.axhline(floor, color="black", linestyle="--", linewidth=1, label="real data")
    _scale(axes, known, name, floor)


def _name(model: str, setting: Setting, settings: list[Setting]) -> str:
    label = setting.label(varied(settings))
    return f"{model}, {label}" if label else model


def _trade(axes: Any, name: str, groups: list[Group], floor: dict[str, float]) -> None:
    """Perplexity against entropy: a line a model and step count, over temperatures; T = 1 is filled."""
    known = [group for group in groups if name in group.metrics and ENTROPY in group.metrics]
    lines: dict[tuple[str, int, Setting], list[tuple[float, float, float]]] = {}
    for group in known:
        key = (group.model, group.steps, replace(group.setting, temperature=1.0))
        point = (group.metrics[ENTROPY].mean, group.metrics[name].mean, group.setting.temperature)
        lines.setdefault(key, []).append(point)
    for (model, steps, _), points in lines.items():
        line = sorted(points)
        entropy, perplexity = [x for x, *_ in line], [y for _, y, _ in line]
        color, marker = STYLES.get(model, OTHER_STYLE)
        axes.plot(
            entropy, perplexity, color=color, marker=marker, label=model, **LINE | HOLLOW | {"linestyle": "-"}
        )
        for x, y, temperature in line:
            if temperature == 1:
                axes.plot(x, y, color=color, marker=marker, **LINE)
        left = model == "student"  # whose lines lie between those of the others
        axes.annotate(
            str(steps),
            (entropy[0], perplexity[0]) if left else (entropy[-1], perplexity[-1]),
            (-5, 0) if left else (5, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=7,
            color=color,
        )
    if name in floor and ENTROPY in floor:
        axes.plot(floor[ENTROPY], floor[name], "k*", label="real data")
    _logarithmic(axes)
    axes.margins(x=0.15)
    axes.set_xlabel("entropy, nats (numbers: K; filled: T = 1)")
    axes.grid(alpha=0.25)


def _scale(axes: Any, groups: list[Group], name: str, floor: float | None) -> None:
    """Calls on a logarithmic axis with the step counts as ticks; figures too, where they span a decade."""
    values = [group.metrics[name].mean - group.metrics[name].std for group in groups]
    scale(axes, [group.nfe for group in groups], values + ([] if floor is None else [floor]))
    axes.set_xlabel("network calls (NFE)")


def scale(axes: Any, counts: Iterable[int], values: Sequence[float]) -> None:
    """Doubling counts on the one axis, with all of them as ticks; figures logarithmic over a decade."""
    axes.set_xscale("log", base=2)
    ticks = sorted(set(counts))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    if values and min(values) > 0 and max(values) > DECADE * min(values):
        _logarithmic(axes)
    axes.grid(alpha=0.25)


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis of figures, with ticks that are read at a glance."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")  # 0.3, not 3 x 10^-1
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # every minor tick would be a heap of labels
    axes.yaxis.set_minor_formatter(plain)
