"""The `[train]` section: how a model is optimised."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from di4c_cli.core.component import Config as _Config
from di4c_cli.core.component import number_as
from di4c_cli.core.schedule import LearningRate

_Decay = Annotated[float, Field(ge=0, lt=1)]


def _false_is_none(value: Any) -> Any:
    return 0.0 if value is False else value


class Config(_Config):
    """Optimisation."""

    steps: int = Field(1000, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(64, ge=1)
    """Data points of one optimiser step, of all processes together."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a batch is computed, of all processes together (then at least one each); the gradient is
    that of the whole batch."""
    shard: bool = False
    """With several processes: each keeps a piece of weights, average and moments; whole only in a step."""
    rows_at_once: int | None = Field(None, ge=1)
    """Rows (data points times draws of lambda) whose activations are kept, others recomputed; unset: all."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of networks' bodies, by autocast; weights, heads and losses stay float32. auto: bfloat16 on a GPU."""
    compile: bool = False
    """Compile the networks' bodies (torch.compile); what cannot be compiled runs as it is."""
    lr: Annotated[
        LearningRate, BeforeValidator(number_as("peak"), json_schema_input_type=LearningRate | float)
    ] = LearningRate()
    """Learning rate; a plain number is the peak of a cosine."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's averaging."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decay."""
    label_drop: float = Field(0.0, ge=0, le=1)
    """Share of class labels that is hidden, from teacher and student alike: guidance needs models without."""
    promote_every: int = Field(0, ge=0)
    """Steps after which the student's weights become the teacher's (SDTT's rounds); 0: never."""
    clip: float = Field(1.0, ge=0)
    """Largest gradient norm; 0 for no clipping."""
    ema: Annotated[
        _Decay, BeforeValidator(_false_is_none, json_schema_input_type=_Decay | Literal[False])
    ] = 0.998
    """Decay of the weight average that is sampled from; false: no average, as with 0."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of data order, times, noise and initial weights."""
    log_every: int = Field(20, ge=1)
    """Steps between lines of metrics.jsonl."""
    save_every: int = Field(500, ge=1)
    """Steps between resumable checkpoints."""
    keep: int = Field(2, ge=1)
    """How many of them are kept."""
    max_skipped: int = Field(10, ge=0)
    """Steps that may be left out because their loss or gradient is not finite, before the run stops."""
    warn_after: int = Field(400, ge=1)
    """Steps after which a lambda that is ignored, or does harm, is worth a warning."""
