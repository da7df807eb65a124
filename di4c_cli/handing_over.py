"""A student weighed against its teacher, call by call; who makes which is kept in its checkpoint."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import checkpoints, progress
from di4c_cli.core.datasets import spread
from di4c_cli.core.hand_over import Config, HandedOver, behind
from di4c_cli.core.metrics.nll_bound import call_nats
from di4c_cli.errors import CheckpointError, UsageError
from di4c_cli.files import writing_to
from di4c_cli.sources import House, Source, load_models, plan_of, resolve


def hand_over(
    source: str, given: dict[str, Any], device: torch.device, alive: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Find the calls in which a student is behind its teacher, and make them the teacher's from here on.

    The new default is written into the checkpoint's config.json (`sampler.by_teacher`). Settings
    that are given stand in place of the recipe's. It takes minutes: `alive` is called time and again, and
    what it raises ends the work with the checkpoint as it was.

    Returns:
        For each K the NLL bound of teacher, student and both together (nats an item; on the items by which
        was chosen), and the calls handed over.

    Raises:
        UsageError: no student.
        CheckpointError: its teacher is gone.
    """
    found = resolve(source, [])
    if found.role != "student" or found.folder is None:
        raise UsageError(f"{source}: not a student", "a teacher has nobody to hand over to")
    settings = (found.recipe.hand_over or Config()).model_copy(update=given)
    rows = weighed(found, settings, device, alive)
    table = [HandedOver(steps=row["steps"], calls=row["calls"]) for row in rows]
    header = checkpoints.read_config(found.folder)
    sampler = header["recipe"]["sampler"] | {"by_teacher": [entry.model_dump() for entry in table]}
    header["recipe"] = header["recipe"] | {"sampler": sampler}
    with writing_to(found.folder):
        checkpoints.restate(found.folder, header)
    return {"source": found.path, "num": settings.num, "rows": rows}


@torch.no_grad()
def weighed(
    found: Source, settings: Config, device: torch.device, alive: Callable[[], None]
) -> list[dict[str, Any]]:
    """What each call of a run costs by either model, for each number of steps."""
    alone = found.recipe.sampler.model_copy(update={"by_teacher": []})
    recipe = found.recipe.model_copy(update={"sampler": alone})
    house = House.build(recipe, found.path)
    models = load_models(found, house, device)
    if models.teacher is None:
        raise CheckpointError(
            f"{found.path}: its teacher is not at hand", "its checkpoint was moved or removed"
        )
    chain = torch.Generator(device).manual_seed(0)
    items = spread(house.dataset().test, settings.num).to(device)
    items = items.told(house.process.space.num_classes, 0.0, chain)

    done, total = 0, 2 * sum(settings.steps) * len(items)

    def cost(model: str, steps: int) -> Float[Tensor, "N K"]:
        nonlocal done
        plan = [call for call in plan_of(recipe, models, steps, model, 0) if call.leap is None]
        paths, latents = (torch.Generator(device).manual_seed(seed) for seed in (1, 2))
        costs = []
        for rows in torch.arange(len(items)).split(settings.batch):
            part, draws = items[rows], settings.num_latents
            costs.append(call_nats(plan, house.process, part.x_0, paths, latents, draws, part.label).cpu())
            done += steps * len(part)
            progress.report(done, total, "hand-over")
            alive()
        return torch.cat(costs)

    rows = []
    for steps in settings.steps:
        student, teacher = cost("student", steps), cost("teacher", steps)
        calls = behind(student, teacher)
        both = student.clone()
        both[:, calls] = teacher[:, calls]
        bounds = {"teacher": teacher, "student": student, "both": both}
        nats = {name: part.sum(1).mean().item() for name, part in bounds.items()}
        rows.append({"steps": steps, "calls": calls, "nll_bound": nats})
    return rows
