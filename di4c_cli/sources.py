"""From a SOURCE argument (run, checkpoint folder or recipe) to models ready to sample."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from di4c_cli import recipe_file
from di4c_cli.core import checkpoints, processes, progress
from di4c_cli.core.codecs import Codec
from di4c_cli.core.datasets import Dataset
from di4c_cli.core.denoiser import Denoiser
from di4c_cli.core.hand_over import handed_over
from di4c_cli.core.networks import networks_of
from di4c_cli.core.samplers import Plan, Sampler
from di4c_cli.errors import CheckpointError, RecipeError, UsageError
from di4c_cli.lineage import Stated
from di4c_cli.recipe import Recipe
from di4c_cli.runs import RunDirectory, runs_root
from di4c_cli.shipped import find_recipe, recipe_paths, shipped_teacher

T = TypeVar("T")


def pick_device(text: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu`, `cuda[:n]` or `mps`.

    Raises:
        UsageError: no such device here, or one without float64, in which all draws are made.
    """
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(1, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, TypeError):
        raise UsageError(
            f"--device {text}: not here, or without float64", "use auto or cpu; `di4c doctor` lists devices"
        ) from None
    return device


def built(place: object, key: str, build: Callable[[], T]) -> T:
    """What a section builds; pieces that do not fit together are an error of the recipe, at that section."""
    try:
        return build()
    except ValueError as error:
        raise RecipeError(f"{place}: {key}: {error}") from error


@dataclass(frozen=True)
class House:
    """What a recipe builds before any model: codec, data (on demand), process and sampler."""

    recipe: Recipe
    codec: Codec
    process: processes.ForwardProcess
    sampler: Sampler

    @classmethod
    def build(cls, recipe: Recipe, place: object) -> "House":
        """`place` is where the recipe stands, for complaints."""
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        codec = built(place, "codec", recipe.codec.build)
        space = replace(codec.space, num_classes=recipe.classes)
        process = built(place, "process", lambda: recipe.process.build(space))
        return cls(recipe, codec, process, built(place, "sampler", lambda: recipe.sampler.build(process)))

    def dataset(self) -> Dataset:
        return self.recipe.dataset.build(self.codec)


@dataclass(frozen=True)
class Source:
    """Where a model's weights lie, and the recipe that made it."""

    name: str
    """The recipe's name."""
    recipe: Recipe
    role: str
    """teacher or student."""
    folder: Path | None
    """Its checkpoint; None for a teacher that needs none."""
    teacher_folder: Path | None
    """The checkpoint of its teacher (of itself, for a teacher)."""

    @property
    def path(self) -> str:
        return str(self.folder) if self.folder else self.name


def newest_checkpoint(run: RunDirectory) -> Path:
    """`final/`, else the newest `step-<N>/`.

    Raises:
        CheckpointError: the run has saved nothing yet.
    """
    candidates = [run.final] if (run.final / "config.json").is_file() else run.checkpoints()
    if not candidates:
        raise CheckpointError(
            f"{run.path}: this run has no checkpoint yet", "wait for the first, or see `di4c runs`"
        )
    return candidates[-1]


def newest_finished(recipe: str, role: str) -> Path | None:
    """The `final/` of the newest finished run of a recipe and role below the root.

    A cell of a matrix was made to be compared, with settings of its own: it does not stand for the recipe.
    """
    folders = [
        run.final
        for run in RunDirectory.find_all()
        if run.path.parent.name == recipe
        and (status := run.status()).role == role
        and not status.matrix
        and (run.final / "config.json").is_file()
    ]
    return folders[-1] if folders else None


def find_teacher(loaded: recipe_file.LoadedRecipe, wanted: str | None = None) -> Path | None:
    """The teacher's checkpoint: the one named, else the newest finished teacher run, else the shipped one.

    None for a teacher that needs no checkpoint.

    Raises:
        CheckpointError: there is none.
    """
    name, settings = loaded.name, loaded.recipe.teacher
    if not settings.trained:
        if wanted:
            raise UsageError(f"--teacher {wanted}: this recipe's is {settings.kind}", "leave --teacher out")
        return None
    if wanted:
        return teacher_in(resolve(wanted, []), mixture=settings.mixture)
    if named := getattr(settings, "checkpoint", None):
        return teacher_in(_named(loaded, named), mixture=settings.mixture)
    found = None if settings.mixture else newest_finished(name, "teacher") or shipped_teacher(name)
    if found is None:
        recipe = name if name in recipe_paths() else loaded.path
        raise CheckpointError(f"{name}: no teacher yet", f"train it first: di4c train-teacher {recipe}")
    return found


def _named(loaded: recipe_file.LoadedRecipe, text: str) -> Source:
    """What a recipe's `teacher.checkpoint` means."""
    try:
        return resolve(text, [])
    except UsageError:
        hint = "`di4c convert` makes a released file into one (checkpoints/README.md)"
        raise CheckpointError(
            f"{loaded.path}: teacher.checkpoint: no run or checkpoint folder {text}",
            "give the student of an earlier round" if loaded.recipe.teacher.mixture else hint,
        ) from None


def teacher_in(source: Source, *, mixture: bool) -> Path:
    """The checkpoint that a SOURCE named as teacher stands for.

    A student's run stands for its own teacher, unless a mixture is wanted or the student is a product model
    (a round of SDTT), which can be distilled further.
    """
    if mixture:
        if source.role != "student" or source.recipe.student.kind == "product":
            raise UsageError(f"{source.path}: not a mixture student", "give the student of an earlier round")
        return source.folder
    itself = source.role == "student" and source.recipe.student.kind == "product"
    folder = source.folder if itself else source.teacher_folder
    if folder is None:
        raise CheckpointError(f"{source.path}: the teacher of this student is not at hand", "name it instead")
    return folder


def resolve(text: str, overrides: list[str]) -> Source:
    """What a SOURCE argument means.

    Raises:
        UsageError, CheckpointError, RecipeError: nothing there, or not what it should be.
    """
    path, folder = Path(text), checkpoints.find(text)
    if folder is not None and not RunDirectory.is_run(folder):
        return _of_folder(folder, overrides)
    if text == "latest" or RunDirectory.is_run(path) or RunDirectory.is_run(runs_root() / text):
        return _of_folder(newest_checkpoint(RunDirectory.resolve(text)), overrides)
    if path.is_dir() and text not in recipe_paths():
        raise CheckpointError(
            f"{text}: neither a run nor a checkpoint", "it has no status.json and no config.json"
        )
    loaded = recipe_file.load(_recipe_named(text), overrides)
    made = newest_finished(loaded.name, "student")
    if made is None and getattr(loaded.recipe.teacher, "checkpoint", None) is None:
        made = newest_finished(loaded.name, "teacher")
    if made is not None:
        return _of_folder(made, overrides)
    folder = find_teacher(loaded)
    return Source(loaded.name, loaded.recipe, "teacher", folder, folder)


def _recipe_named(text: str) -> Path:
    try:
        return find_recipe(text)
    except RecipeError as error:
        raise UsageError(f"{text}: no such run, checkpoint or recipe", error.hint) from None


def _of_folder(folder: Path, overrides: list[str]) -> Source:
    header = checkpoints.read_config(folder)
    name, role = str(header.get("name", "")), str(header.get("role", ""))
    if role not in ("teacher", "student"):
        raise CheckpointError(f"{folder / 'config.json'}: role is {role!r}", "expected teacher or student")
    resolved = {"config": header["recipe"], "recipe": name}
    recipe = recipe_file.load_resolved(resolved, overrides, path=folder / "config.json").recipe
    if role == "teacher":
        return Source(name, recipe, role, folder, folder)
    teacher = _teacher_of(folder, name, recipe, Stated.of(header)) if recipe.teacher.trained else None
    return Source(name, recipe, role, folder, teacher)


def _teacher_of(student: Path, name: str, recipe: Recipe, stated: Stated | None) -> Path | None:
    """The teacher that a student was distilled from; None where it is not at hand.

    Where nothing tells which that was (released students, old checkpoints) it is the recipe's.
    """
    if stated is None:
        return next(filter(None, _teachers(name, recipe)), None)
    found = stated.found(_teachers(name, recipe))
    if found is None and stated.sha256 is None:
        found = next(filter(None, _teachers(name, recipe)), None)
        if found is not None:
            progress.remark(f"{student}: its teacher {stated.folder} is gone; {found} stands in for it")
    elif found is None and stated.in_place:
        progress.remark(f"{student}: left out {stated.folder}, which has other weights than its teacher had")
    return found


def _teachers(name: str, recipe: Recipe) -> Iterator[Path | None]:
    """Where a recipe's teacher may lie, looked up as far as it is asked for."""
    if named := getattr(recipe.teacher, "checkpoint", None):
        yield checkpoints.find(named)
    elif not recipe.teacher.mixture:
        yield newest_finished(name, "teacher")
        yield shipped_teacher(name)


@dataclass(frozen=True)
class Models:
    """Denoisers ready to sample."""

    teacher: Denoiser | None
    student: Denoiser | None
    dtype: str = "float32"
    """What their networks run in."""


def load_models(
    source: Source,
    house: House,
    device: torch.device,
    *,
    needed: Collection[str] = ("teacher", "student"),
    weights: str = "ema",
    dtype: str = "float32",
) -> Models:
    """The source's student (if it is one) and its teacher (None where it is gone), those of them needed.

    Raises:
        CheckpointError: damaged, or made for another network.
    """
    precision = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}.get(dtype)
    if precision is None:
        raise UsageError(f"--dtype {dtype}: unknown", "float32, float64 or bfloat16")
    recipe, process = source.recipe, house.process

    def ready(model: Denoiser) -> Denoiser:
        for network in networks_of(model) if recipe.sampler.compile else []:
            network.compile_body(sampling=True)
        return model.to(device, precision).eval() if isinstance(model, nn.Module) else model

    teacher = student = None
    folder, trained = source.teacher_folder, recipe.teacher.trained
    if "teacher" in needed and (folder is not None or not trained):
        data = None if trained else house.dataset()
        teacher = built(
            source.path, "teacher", lambda: recipe.teacher.build(process, recipe.network, data, folder)
        )
        if source.role == "teacher" and folder is not None and weights == "raw":
            checkpoints.load_weights(teacher, folder, weights)
        teacher = ready(teacher)
    if "student" in needed and source.role == "student":
        student = built(
            source.path,
            "student",
            lambda: checkpoints.loaded(
                lambda: recipe.student.build(recipe.network, process), source.folder, weights
            ),
        )
        student = ready(student.requires_grad_(False))
    return Models(teacher, student, dtype)


def plan_of(
    recipe: Recipe,
    models: Models,
    steps: int,
    model: str,
    teacher_steps: int,
    guidance: float | None = None,
) -> Plan:
    """The sampling plan of `teacher`, `student` or `hybrid` at K steps.

    A student hands over to its teacher where its sampler says so; a hybrid's last `teacher_steps` calls are
    the teacher's. `guidance` is a weight in place of the recipe's.

    Raises:
        CheckpointError: a model that the plan calls is not at hand.
        RecipeError: the sampler cannot make that plan.
    """
    leading = models.teacher if model == "teacher" else models.student
    by_teacher: Collection[int] = range(steps - teacher_steps, steps)
    if model == "student":
        by_teacher = handed_over(recipe.sampler.by_teacher, steps)
    for name, needed in (
        ("teacher", model == "teacher" or len(by_teacher) > 0),
        ("student", model != "teacher"),
    ):
        if needed and getattr(models, name) is None:
            lost = "its checkpoint was moved or removed, or never made"
            alone = "; sampler.by_teacher=[] does without" if model == "student" and name == "teacher" else ""
            raise CheckpointError(f"{model}: the {name} is not at hand", lost + alone)
    try:
        plan = recipe.sampler.plan(steps, leading, models.teacher, by_teacher)
    except ValueError as error:
        raise RecipeError(f"sampler: {error}") from error
    scale = recipe.guidance.scale if guidance is None else guidance
    return recipe.guidance.model_copy(update={"scale": scale}).over(plan, recipe.classes)
