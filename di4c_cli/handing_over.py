"""A student weighed against its teacher, call by call; who makes which is kept in its checkpoint."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from di4c_cli.core import checkpoints, progress, ranks
from di4c_cli.core.datasets import between
from di4c_cli.core.hand_over import Config, HandedOver, behind
from di4c_cli.core.metrics import known
from di4c_cli.core.metrics.nll_bound import call_nats
from di4c_cli.core.order import step_seed
from di4c_cli.errors import CheckpointError, UsageError
from di4c_cli.files import writing_to
from di4c_cli.sources import House, Source, load_models, plan_of, resolve

Piece = tuple[int, str, int]
"""K, the model, and which items."""


def hand_over(
    source: str, given: dict[str, Any], device: torch.device, alive: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Find the calls in which a student is behind its teacher, and make them the teacher's from here on.

    The new default is written into the checkpoint's config.json (`sampler.by_teacher`). Settings
    that are given stand in place of the recipe's. It takes minutes, shared by all ranks: `alive` is called
    time and again, and what it raises ends the work with the checkpoint as it was.

    Returns:
        For each K the NLL bound of teacher, student and both together (nats an item; on the items by which
        was chosen), and the calls handed over.

    Raises:
        UsageError: no student.
        CheckpointError: its teacher is gone.
    """
    found = ranks.agreed(lambda: _student(source))
    settings = (found.recipe.hand_over or Config()).model_copy(update=given)
    own = ranks.agreed(lambda: _own_pieces(found, settings, device, alive))
    costs = {piece: nats for part in ranks.gathered(own) for piece, nats in part.items()}

    def cost(model: str, steps: int) -> Float[Tensor, "N K"]:
        return torch.cat([costs[piece] for piece in sorted(costs) if piece[:2] == (steps, model)])

    rows = [chosen(cost("student", steps), cost("teacher", steps)) for steps in settings.steps]
    ranks.by_first(lambda: _keep(found, rows))
    return {"source": found.path, "num": settings.num, "rows": rows}


def _student(source: str) -> Source:
    found = resolve(source, [])
    if found.role != "student" or found.folder is None:
        raise UsageError(f"{source}: not a student", "a teacher has nobody to hand over to")
    return found


@torch.no_grad()
def _own_pieces(
    found: Source, settings: Config, device: torch.device, alive: Callable[[], None]
) -> dict[Piece, Float[Tensor, "B K"]]:
    """What each call costs by either model, for this rank's share of the items and numbers of steps.

    The items of a piece have seeds of their own: it matters not which rank has them.
    """
    alone = found.recipe.sampler.model_copy(update={"by_teacher": []})
    recipe = found.recipe.model_copy(update={"sampler": alone})
    house = House.build(recipe, found.path)
    models = load_models(found, house, device)
    if models.teacher is None:
        raise CheckpointError(
            f"{found.path}: its teacher is not at hand", "its checkpoint was moved or removed"
        )
    items = between(house.dataset().test, settings.num).to(device)
    items = items.told(house.process.space.num_classes, 0.0, torch.Generator(device))
    batches = torch.arange(len(items)).split(settings.batch)

    def cost(steps: int, model: str, number: int) -> Float[Tensor, "B K"]:
        plan = [call for call in plan_of(recipe, models, steps, model, 0) if call.leap is None]
        if not known(plan):
            raise UsageError(f"{found.path}: its law is not known under guidance", "set guidance.scale = 0")
        part = items[batches[number]]
        paths, latents = (torch.Generator(device).manual_seed(step_seed(seed, number)) for seed in (1, 2))
        draws = settings.num_latents
        return call_nats(plan, house.process, part.x_0, paths, latents, draws, part.label).cpu()

    pieces = [
        (steps, model, number)
        for steps in settings.steps
        for model in ("student", "teacher")
        for number in range(len(batches))
    ]
    own = pieces[ranks.rank() :: ranks.size()]
    done, total = 0, sum(steps for steps, _, _ in own)
    costs = {}
    for piece in own:
        costs[piece] = cost(*piece)
        done += piece[0]
        progress.report(done, total, "hand-over")
        alive()
    return costs


def chosen(student: Float[Tensor, "N K"], teacher: Float[Tensor, "N K"]) -> dict[str, Any]:
    """Who makes which of K calls, and the bound of each and of both together."""
    calls = behind(student, teacher)
    both = student.clone()
    both[:, calls] = teacher[:, calls]
    bounds = {"teacher": teacher, "student": student, "both": both}
    nats = {name: part.sum(1).mean().item() for name, part in bounds.items()}
    return {"steps": student.shape[1], "calls": calls, "nll_bound": nats}


def _keep(found: Source, rows: list[dict[str, Any]]) -> None:
    """Write the table of calls into the checkpoint's config.json."""
    table = [HandedOver(steps=row["steps"], calls=row["calls"]) for row in rows]
    header = checkpoints.read_config(found.folder)
    sampler = header["recipe"]["sampler"] | {"by_teacher": [entry.model_dump() for entry in table]}
    header["recipe"] = header["recipe"] | {"sampler": sampler}
    with writing_to(found.folder):
        checkpoints.restate(found.folder, header)
