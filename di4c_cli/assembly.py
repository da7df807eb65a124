"""Putting a training run together: every piece of input is checked here, before a run directory is made."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from di4c_cli import __version__, lineage, recipe_file
from di4c_cli.cards import model_card
from di4c_cli.core import checkpoints, ranks
from di4c_cli.core.datasets import Dataset, spread
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.held_out import NUM as HELD_OUT
from di4c_cli.core.held_out import HeldOut
from di4c_cli.core.metrics import fitting
from di4c_cli.core.networks import networks_of
from di4c_cli.core.order import num_parts
from di4c_cli.core.processes import ForwardProcess
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.students import init_from
from di4c_cli.core.teachers.network import untrained
from di4c_cli.core.trainer import Trainer
from di4c_cli.core.training_state import same_network
from di4c_cli.drawing import draw, every_class
from di4c_cli.errors import RecipeError, UsageError
from di4c_cli.files import writing_to
from di4c_cli.redaction import redacted
from di4c_cli.runs import RunDirectory, Status, runs_root
from di4c_cli.session import Followed, process_identity
from di4c_cli.sources import House, Models, built, find_teacher, plan_of
from di4c_cli.starting import check_steps, disk_bytes, require_room
from di4c_cli.writing import write_preview

Narrate = Callable[[str], None]
Progress = Callable[[int, int, dict[str, Any]], None]


def prepare(
    loaded: recipe_file.LoadedRecipe,
    role: str,
    device: torch.device,
    name: str | None,
    resume: RunDirectory | None,
    teacher: str | None,
    progress: Progress,
    narrate: Narrate,
    matrix: str = "",
) -> tuple[Trainer, Dataset]:
    """Everything that can be found wrong before there is a run directory, and then an empty one.

    A resumed run keeps its teacher, unless one is named.
    """
    recipe = loaded.recipe

    def supplied() -> tuple[House, Dataset]:
        house = House.build(recipe, loaded.path)
        return house, house.dataset()

    house, data = ranks.after_first(supplied)

    def checked() -> tuple[Cast, torch.nn.Module, dict[str, str | None], Any, bool]:
        wanted = teacher or (lineage.to_resume(resume) if resume else None)
        cast, model, folder, settings = build_cast(loaded, role, house, data, device, wanted)
        check_share(loaded, role, settings.train.batch_size, ranks.size())
        rehearse(loaded, role, house, cast, settings, data, device)
        saved = len(resume.checkpoints()) if resume else 0
        if resume is not None:
            check_steps(resume, role, settings.train.steps)
        room = disk_bytes(settings.train, model, cast.teacher, there=saved)
        require_room(resume.path if resume else runs_root(), room)
        return cast, model, lineage.kept(folder), settings, saved > 0

    cast, model, known, settings, saved = ranks.agreed(checked)
    if role == "student" and not saved:  # also of a run that was stopped before its first checkpoint
        generator = torch.Generator().manual_seed(recipe.train.seed)
        ranks.by_first(lambda: recipe.student.fit(model, data, generator, narrate))
    run = resume or ranks.by_first(lambda: created(loaded.name, role, name))
    run = run if ranks.first() else Followed(run.path)
    status = Status(
        recipe=loaded.name,
        role=role,
        steps=settings.train.steps,
        started=time.time(),
        matrix=matrix or (resume.status().matrix if resume else ""),
        **process_identity(),
    )
    models = Models(cast.teacher, cast.student) if role == "student" else Models(cast.student, None)
    trainer = Trainer(
        cast=cast,
        model=model,
        losses=settings.losses,
        times=settings.times,
        config=settings.train,
        run=run,
        status=status,
        header={
            "di4c": __version__,
            "name": loaded.name,
            "role": role,
            **known,
            "recipe": recipe_file.resolved(loaded)["config"],
        },
        card=lambda step: redacted(model_card(loaded.name, recipe, role, step)),
        preview=Previewer(house, models, run, device, alive=lambda: trainer.breathe()),
        preview_every=recipe.preview.every,
        progress=progress,
        narrate=narrate,
        device=device,
        held_out=held_out(cast, settings, data, device),
    )
    if ranks.size() > 1:
        narrate(told_share(settings.train.batch_size, trainer.parts, ranks.size()))
    return trainer, data


def created(recipe: str, role: str, name: str | None) -> RunDirectory:
    """A new run directory."""
    with writing_to(runs_root()):
        return RunDirectory.create(recipe, role, name)


def check_share(loaded: recipe_file.LoadedRecipe, role: str, batch_size: int, processes: int) -> None:
    """Every process needs data of its own in every step."""
    if batch_size < processes:
        key = "teacher.train.batch_size" if role == "teacher" else "train.batch_size"
        raise RecipeError(
            f"{loaded.path}: {key}: {batch_size} data points for {processes} processes",
            "raise it, or start fewer",
        )


def told_share(batch_size: int, parts: int, processes: int) -> str:
    """How a batch is shared, for people."""
    few, rest = divmod(batch_size, parts)
    size = f"{few} to {few + 1}" if rest else f"{few}"
    return f"{processes} processes: batch of {batch_size}, {parts // processes} part(s) of {size} on each"


def check_classes(loaded: recipe_file.LoadedRecipe, data: Dataset) -> None:
    """A label that the models do not know would read as "no label"; a look at part of the data tells."""
    label, classes = spread(data.train, 1000).label, loaded.recipe.classes
    if classes and label is None:
        raise RecipeError(f"{loaded.path}: classes: the data set has no labels", "set classes = 0")
    if classes and label is not None and int(label.max()) >= classes:
        raise RecipeError(
            f"{loaded.path}: classes: the data set has the label {int(label.max())}", "raise classes"
        )


def build_cast(
    loaded: recipe_file.LoadedRecipe,
    role: str,
    house: House,
    data: Dataset,
    device: torch.device,
    teacher: str | None,
) -> tuple[Cast, torch.nn.Module, Path | None, Any]:
    """The models of a run, the one that is trained, the teacher's folder, and the section to train with."""
    check_classes(loaded, data)
    recipe, process = loaded.recipe, house.process
    if role == "teacher":
        if not recipe.teacher.trained:
            raise UsageError(
                f"{loaded.name}: its teacher is {recipe.teacher.kind}, there is nothing to train",
                "go on with di4c distill",
            )
        torch.manual_seed(recipe.teacher.train.seed)
        model = built(loaded.path, "network", lambda: untrained(recipe.network, process, everywhere=True))
        return Cast(process=process, student=model), model, None, recipe.teacher
    folder = find_teacher(loaded, teacher)
    guide = built(loaded.path, "teacher", lambda: recipe.teacher.build(process, recipe.network, data, folder))
    if folder is not None:
        refuse_contradiction(loaded, process, guide, folder)
    torch.manual_seed(recipe.train.seed)
    model = built(loaded.path, "student", lambda: recipe.student.build(recipe.network, process))
    given = first_weights(recipe.student.init, guide)
    if given is not None:
        built(loaded.path, "student.init", lambda: init_from(model, given))
    if isinstance(guide, torch.nn.Module):
        guide.to(device)
    if recipe.train.promote_every:
        built(loaded.path, "train.promote_every", lambda: same_network(model, guide))
    return distillation_cast(loaded, process, model, guide), model, folder, recipe


def refuse_contradiction(
    loaded: recipe_file.LoadedRecipe, process: ForwardProcess, teacher: Denoiser, folder: Path
) -> None:
    """A teacher must mean by states and times what the recipe means: shapes alone do not tell.

    Raises:
        RecipeError: its own recipe says that it does not.
    """
    network = loaded.recipe.network
    sees_time = any(part.sees_time and getattr(network, "time", True) for part in networks_of(teacher))
    # How soon positions are masked is nothing to a network that sees only which of them are.
    matters = sees_time or process.space.mask_id is None
    config = recipe_file.resolved(loaded)["config"]
    for key, theirs, ours in lineage.contradictions(folder, config, schedule_matters=matters):
        raise RecipeError(
            f"{loaded.path}: {key}: {lineage.shown(ours)}, but the teacher {folder} was trained with"
            f" {lineage.shown(theirs)}",
            "set it so, or name another teacher with --teacher",
        )


def distillation_cast(
    loaded: recipe_file.LoadedRecipe, process: ForwardProcess, student: Denoiser, teacher: Denoiser
) -> Cast:
    """Student and teacher in the parts that the recipe gives them."""
    recipe = loaded.recipe
    return Cast(
        process=process,
        student=student,
        num_latents=recipe.student.draws,
        teacher=teacher,
        teacher_draws=recipe.student.draws if recipe.teacher.mixture else 1,
        noise_ahead=recipe.times.ahead,
        target_dropout=recipe.student.target_dropout,
        teacher_sampler=built(loaded.path, "teacher_sampler", lambda: recipe.teacher_sampler.build(process)),
    )


def first_weights(init: str, teacher: Denoiser) -> Mapping[str, torch.Tensor] | None:
    """What a student starts from; None for fresh weights."""
    if init == "scratch":
        return None
    if init == "teacher":
        return teacher.state_dict() if isinstance(teacher, torch.nn.Module) else {}
    return checkpoints.read_tensors(checkpoints.find(init) or Path(init), "model.safetensors")


def rehearse(
    loaded: recipe_file.LoadedRecipe,
    role: str,
    house: House,
    cast: Cast,
    settings: Any,
    data: Dataset,
    device: torch.device,
) -> None:
    """One data point through every loss, so that pieces that do not fit are found before there is a run.

    With two draws of lambda, however many the run has: full-size laws are gigabytes. One data point is shown,
    too: a codec without its weights would end the run at its first preview. So would a metric at its end.
    """
    house.codec.decode(data.train[torch.arange(1)].x_0)
    segment, _ = first_segment(cast, settings, data, device)
    table = "teacher.losses" if role == "teacher" else "losses"
    with torch.no_grad():
        for number, section in enumerate(settings.losses):
            key = f"{table}.{number}"
            value = built(loaded.path, key, lambda section=section: section.build()(segment))
            if getattr(value, "shape", None) != segment.t.shape:
                given = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise RecipeError(
                    f"{loaded.path}: {key}: {section.kind} gives {given} for a batch of one data point",
                    "a loss is one value a data point, of shape (B,), neither their sum nor their mean",
                )
    if role == "student":  # is evaluated at the end
        built(loaded.path, "metrics", lambda: fitting(loaded.recipe.metrics, house.codec, data))


def first_segment(cast: Cast, settings: Any, data: Dataset, device: torch.device) -> tuple[Segment, int]:
    """One data point with at most two draws of lambda, and the rows that this makes."""
    cast.student.to(device)
    generator = torch.Generator(device).manual_seed(0)
    batch = data.train[torch.arange(1)].to(device).told(cast.process.space.num_classes, 0.0, generator)
    t, s = settings.times.sample(len(batch), generator, device)
    few = min(2, cast.num_latents)
    small = replace(cast, num_latents=few, teacher_draws=min(few, cast.teacher_draws))
    return Segment(small, batch, t, s, generator), few


def held_out(cast: Cast, settings: Any, data: Dataset, device: torch.device) -> HeldOut:
    """Some held-out data, looked at as many points at a time as a part of a training batch has."""
    points = spread(data.test, HELD_OUT).to(device)
    points = points.told(cast.process.space.num_classes, 0.0, torch.Generator(device))
    parts = num_parts(settings.train.batch_size, settings.train.accumulate, ranks.size())
    at_once = max(1, settings.train.batch_size // parts)
    return HeldOut(cast.process, points, settings.times, cast.num_latents, at_once)


class Previewer:
    """Draws previews at a fixed seed; a teacher that the run never changes is drawn once."""

    def __init__(
        self,
        house: House,
        models: Models,
        run: RunDirectory,
        device: torch.device,
        alive: Callable[[], None],
    ) -> None:
        self.house, self.models, self.run, self.device, self.alive = house, models, run, device, alive
        self.kept: dict[tuple[str, int], torch.Tensor] = {}

    def __call__(self, step: int) -> None:
        recipe = self.house.recipe
        drawn = {}
        changing = {"student"}
        if self.models.student is None or recipe.train.promote_every:
            changing.add("teacher")
        for role in ("teacher", "student"):
            if getattr(self.models, role) is None:
                continue
            for steps in recipe.preview.steps:
                key = (role, steps)
                if key not in self.kept or role in changing:
                    self.kept[key] = draw(
                        self.house,
                        plan_of(recipe, self.models, steps, role, 0),
                        recipe.preview.num,
                        recipe.preview.num,
                        0,
                        self.device,
                        label=every_class(recipe, recipe.preview.num),
                        alive=self.alive,
                    )
                drawn[key] = self.kept[key]
        write_preview(self.house.codec, drawn, self.run.path / "samples" / f"step-{step}")
