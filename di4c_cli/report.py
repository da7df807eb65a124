"""What `di4c eval` leaves behind: results.json, a markdown table, and a picture of quality against calls."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from di4c_cli.runs import write_text_atomic

ARROWS = {"lower": " ↓", "higher": " ↑"}
STYLES = {"teacher": ("#5b7083", "o"), "student": ("#d1495b", "s"), "hybrid": ("#2e8b57", "^")}
OTHER_STYLE = ("#8d6a9f", "D")
LABELS = {
    "tv": "total variation (exact)",
    "fd_test": "Fréchet distance to held-out data",
    "fd": "Fréchet distance to training data",
    "nll_bound": "held-out NLL bound, nats",
    "valid": "share of valid samples",
    "valid_words": "share of valid words",
    "kid": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "class_accuracy": "class accuracy",
    "class_entropy": "class entropy, share of maximum",
    "copies": "share of near copies",
}
"""Metrics worth a panel, the most telling first."""
MAX_PANELS = 4
ERROR = "_se"
"""The end of the name of a figure that is the standard error of another."""
DASHES = ("-", "--", "-.", ":")
"""Line styles of the guidance weights."""
DECADE = 10.0  # panels whose figures span more than this factor get a logarithmic axis


@dataclass(frozen=True)
class Figure:
    """A figure over seeds: mean and sample standard deviation.

    Of one seed: the standard error that came with the figure, 0 if none did.
    """

    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float], error: float = 0.0) -> "Figure":
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else error)


@dataclass(frozen=True)
class Group:
    """One model at one number of steps (and one guidance weight), over its seeds."""

    model: str
    steps: int
    nfe: int
    guidance: float | None
    """None for models that are told no classes."""
    seeds: int
    metrics: dict[str, Figure]
    seconds_per_sample: float


def aggregate(rows: Iterable[dict[str, Any]]) -> list[Group]:
    """Rows of an evaluation grouped by (model, steps, guidance), in order of appearance."""
    grouped: dict[tuple[str, int, float | None], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["model"], row["steps"], row.get("guidance")), []).append(row)
    return [_group(*key, group) for key, group in grouped.items()]


def _group(model: str, steps: int, guidance: float | None, rows: list[dict[str, Any]]) -> Group:
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    values = {name: [row["metrics"][name] for row in rows if name in row["metrics"]] for name in names}
    return Group(
        model=model,
        steps=steps,
        nfe=rows[0]["nfe"],
        guidance=guidance,
        seeds=len(rows),
        metrics={name: Figure.of(v, *values.get(name + ERROR, [])[:1]) for name, v in values.items()},
        seconds_per_sample=statistics.fmean(row["seconds_per_sample"] for row in rows),
    )


def write_report(result: dict[str, Any], out: Path) -> list[Path]:
    """Write results.json, results.md and frontier.png into `out`; gives their paths back.

    Args:
        result: what `di4c eval --json` prints.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "results.json", out / "results.md", out / "frontier.png"]
    write_text_atomic(paths[0], json.dumps(result, indent=1) + "\n")
    write_text_atomic(paths[1], table(result))
    write_frontier(result, paths[2])
    return paths


def metric_names(result: dict[str, Any]) -> list[str]:
    """Every metric of an evaluation, in the order of its directions, then of appearance.

    Standard errors are told with the figures that they belong to.
    """
    found = dict.fromkeys(name for row in result["rows"] for name in row["metrics"])
    ordered = [n for n in result["directions"] if n in found]
    ordered += [n for n in found if n not in result["directions"]]
    return [n for n in ordered if not (n.endswith(ERROR) and n.removesuffix(ERROR) in found)]


def table(result: dict[str, Any]) -> str:
    """The markdown table: a line for each model and step count, the floor of real data last."""
    names = metric_names(result)
    head = [name + ARROWS.get(result["directions"].get(name, ""), "") for name in names]
    groups = aggregate(result["rows"])
    guided = any(group.guidance is not None for group in groups)
    lines = [["model", "K", *["w"] * guided, "NFE", *head, "ms/sample"]]
    for group in groups:
        figures = [_cell(group.metrics.get(name)) for name in names]
        speed = f"{1000 * group.seconds_per_sample:.3g}"
        weight = ["" if group.guidance is None else f"{group.guidance:g}"] * guided
        lines.append([group.model, str(group.steps), *weight, str(group.nfe), *figures, speed])
    if result["reference"]:
        floor = [f"{result['reference'][name]:.4g}" if name in result["reference"] else "" for name in names]
        lines.append(["*real data*", "", *[""] * guided, "", *floor, ""])
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
    return f"# {result['source']}\n\n{body}\n\n{_caption(result, groups)}\n"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.mean:.4g} ± {figure.std:.2g}" if figure.std else f"{figure.mean:.4g}"


def _caption(result: dict[str, Any], groups: list[Group]) -> str:
    seeds = max((group.seeds for group in groups), default=0)
    num = " or ".join(str(n) for n in sorted({row["num"] for row in result["rows"]}))
    known = any(figure.std for group in groups for figure in group.metrics.values())
    one = "One sampling seed, ± standard error" if known else "One sampling seed"
    spread = f"Mean ± standard deviation over {seeds} sampling seeds" if seeds > 1 else one
    return (
        f"{spread}, {num} samples each; K: sampling steps, "
        + ("w: guidance weight, " if any(group.guidance is not None for group in groups) else "")
        + "NFE: network calls. ↓ lower is better, ↑ higher.\n"
        "*real data*: the same figures with real data in place of samples."
    )


def write_frontier(result: dict[str, Any], path: Path) -> None:
    """Draw quality against network calls: a panel a metric, a line a model, the floor dashed."""
    from matplotlib.figure import Figure as Canvas

    names = metric_names(result)
    panels = [name for name in LABELS if name in names][:MAX_PANELS] or names[:MAX_PANELS]
    groups = aggregate(result["rows"])
    canvas = Canvas(figsize=(3.6 * max(len(panels), 1) + 0.4, 3.6), layout="constrained")
    for name, axes in zip(panels, canvas.subplots(1, max(len(panels), 1), squeeze=False)[0], strict=False):
        _panel(axes, name, groups, result["reference"].get(name))
        axes.set_title(
            LABELS.get(name, name) + ARROWS.get(result["directions"].get(name, ""), ""), fontsize=10
        )
    handles = {
        str(h.get_label()): h
        for axes in canvas.axes
        for h in axes.get_lines()
        if not str(h.get_label()).startswith("_")
    }
    canvas.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    temporary = path.with_name(f".{path.name}")
    canvas.savefig(temporary, dpi=150, format="png")
    temporary.replace(path)


def _panel(axes: Any, name: str, groups: list[Group], floor: float | None) -> None:
    """One metric. `axes` is a matplotlib Axes."""
    weights = list(dict.fromkeys(group.guidance for group in groups))
    for model, weight in dict.fromkeys((group.model, group.guidance) for group in groups):
        points = sorted(
            (g.nfe, f.mean, f.std)
            for g in groups
            if (g.model, g.guidance) == (model, weight) and (f := g.metrics.get(name))
        )
        if not points:
            continue
        nfe = [x for x, _, _ in points]
        color, marker = STYLES.get(model, OTHER_STYLE)
        label = model if len(weights) == 1 else f"{model}, w = {weight:g}"
        style = DASHES[weights.index(weight) % len(DASHES)]
        means = [mean for _, mean, _ in points]
        axes.plot(nfe, means, style, color=color, marker=marker, markersize=5, label=label)
        low, high = [mean - std for _, mean, std in points], [mean + std for _, mean, std in points]
        axes.fill_between(nfe, low, high, color=color, alpha=0.2, linewidth=0)
    if floor is not None:
        axes.axhline(floor, color="black", linestyle="--", linewidth=1, label="real data")
    _scale(axes, [g for g in groups if name in g.metrics], name, floor)


def _scale(axes: Any, groups: list[Group], name: str, floor: float | None) -> None:
    """Calls on a logarithmic axis with the step counts as ticks; figures too, where they span a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_xscale("log", base=2)
    ticks = sorted({group.nfe for group in groups})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("network calls (NFE)")
    values = [group.metrics[name].mean - group.metrics[name].std for group in groups]
    values += [] if floor is None else [floor]
    if values and min(values) > 0 and max(values) > DECADE * min(values):
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")  # 0.3, not 3 x 10^-1
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # every minor tick would be a heap of labels
        axes.yaxis.set_minor_formatter(plain)
    axes.grid(alpha=0.25)
