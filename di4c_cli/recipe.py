"""The recipe: one pydantic model whose sections are the components' own Configs."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from di4c_cli.core.component import Config, Distinct, section
from di4c_cli.core.guidance import Config as Guidance
from di4c_cli.core.hand_over import Config as HandOver
from di4c_cli.core.optimisation import Config as Train
from di4c_cli.core.times import Config as Times

CodecSection = section("codecs")
DatasetSection = section("datasets")
ProcessSection = section("processes")
NetworkSection = section("networks")
TeacherSection = section("teachers")
StudentSection = section("students")
SamplerSection = section("samplers")
LossSection = section("losses")
MetricSection = section("metrics")

Steps = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class SampleSettings(Config):
    """What `di4c sample` draws unless told otherwise."""

    steps: int = Field(4, ge=1)
    """Network calls for one sample (K)."""
    num: int = Field(64, ge=1)
    """How many samples."""
    batch_size: int = Field(500, ge=1)
    """How many at a time; part of what makes files repeatable."""
    seed: Seed = 0
    """Seed of the draws."""


class PreviewSettings(Config):
    """Samples drawn while training, at a fixed seed, teacher beside student."""

    every: int = Field(250, ge=0)
    """Training steps between previews; 0 for none."""
    steps: Annotated[list[Steps], Distinct] = Field([1, 2, 4], min_length=1)
    """Numbers of sampling steps K."""
    num: int = Field(16, ge=1)
    """Samples of each model and K."""


class EvalSettings(Config):
    """What `di4c eval` compares unless told otherwise."""

    steps: Annotated[list[Steps], Distinct] = Field([1, 2, 4, 8], min_length=1)
    """Numbers of sampling steps K."""
    num: int = Field(2000, ge=1)
    """Samples of each model, K and seed."""
    seeds: Annotated[list[Seed], Distinct] = Field([0], min_length=1)
    """Sampling seeds."""
    models: Annotated[list[Literal["teacher", "student", "hybrid"]], Distinct] = Field(
        ["teacher", "student", "hybrid"], min_length=1
    )
    """Which models stand side by side."""
    hybrid_teacher_steps: float = Field(0.25, ge=0, le=1)
    """The hybrid's share of last calls made by the teacher (rounded, at least one, at most K - 1)."""
    batch_size: int = Field(500, ge=1)
    """Samples drawn at a time."""
    guidance: Annotated[list[Annotated[float, Field(ge=0)]], Distinct] = Field([], max_length=16)
    """Guidance weights to compare; none: the recipe's own."""


class Recipe(Config):
    """A whole experiment: data, teacher, student, losses, training, sampling, evaluation."""

    title: str = ""
    """One line for `di4c recipes`."""
    threads: int | None = Field(None, ge=1)
    """CPU threads: small networks are fastest on one, and results repeat exactly only at the same number."""
    parity: bool = False
    """True: with the `defects` of the reference code that the published numbers were made with."""
    defects: dict[str, Any] = Field({})
    """Dotted keys and the values that `parity = true` gives them."""
    classes: int = Field(0, ge=0)
    """Class labels that the models are told; 0: labels are left out."""
    codec: CodecSection
    """What a state means: pixels, characters, ..."""
    dataset: DatasetSection
    """Where the data comes from."""
    process: ProcessSection
    """How the data is corrupted."""
    network: NetworkSection
    """The network that teacher and student share."""
    teacher: TeacherSection
    """The many-step product model that is distilled."""
    student: StudentSection
    """The few-step model."""
    teacher_sampler: SamplerSection
    """How the teacher steps from t to s inside the consistency loss."""
    sampler: SamplerSection
    """How samples are drawn, for teacher and student alike."""
    guidance: Guidance = Guidance()
    """How strongly samples are drawn towards their class, unless told otherwise."""
    times: Times = Times()
    """Which (t, s) the distillation trains on."""
    losses: list[LossSection] = Field(min_length=1)
    """The distillation's loss terms."""
    train: Train = Train()
    """The distillation's optimisation."""
    hand_over: HandOver | None = None
    """Whether, and how, the student is weighed against its teacher call by call at the end."""
    sample: SampleSettings = SampleSettings()
    """Defaults of `di4c sample`."""
    preview: PreviewSettings = PreviewSettings()
    """Samples drawn while training."""
    eval: EvalSettings = EvalSettings()
    """Defaults of `di4c eval`."""
    metrics: list[MetricSection] = Field([])
    """What `di4c eval` measures."""

    @model_validator(mode="after")
    def _guided_by_classes(self) -> "Recipe":
        if not self.classes and (self.guidance.scale or any(self.eval.guidance)):
            raise ValueError("guidance needs models that are told classes: set classes")
        return self
