"""Evaluations as `di4c eval` would leave them in a run."""

import json
import random
from collections.abc import Sequence
from typing import Any

from di4c_cli.runs import RunDirectory

STEPS = (1, 2, 4)


def evaluation(
    name: str = "",
    *,
    models: Sequence[str] = ("teacher", "student", "hybrid"),
    seeds: Sequence[int] = (0,),
    weights: Sequence[float | None] = (None,),
) -> dict[str, Any]:
    """The content of a results.json. Another `name`, another student; the teacher is always the same.

    A hybrid has no figures at one step.
    """
    rows = []
    for model in models:
        for weight in weights:
            for k in STEPS[model == "hybrid" :]:
                for seed in seeds:
                    noise = random.Random(f"{'' if model == 'teacher' else name} {model} {weight} {k} {seed}")
                    quality = (4 if model == "teacher" else 1) / k + noise.random() / 5
                    metrics = {"fd_test": quality, "fd": 0.9 * quality, "precision": 1 - quality / 8}
                    cell = {"model": model, "steps": k, "nfe": k, "num": 100, "seed": seed}
                    rows.append(cell | {"guidance": weight, "metrics": metrics, "seconds_per_sample": 1e-3})
    return {
        "source": f"{name}/final",
        "reference": {"fd_test": 0.25, "fd": 0.125},
        "directions": {"fd": "lower", "fd_test": "lower", "precision": "higher"},
        "rows": rows,
    }


def write_evaluation(run: RunDirectory, content: dict[str, Any] | str) -> None:
    path = run.path / "eval" / "results.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
