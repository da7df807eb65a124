"""The only loop with an optimiser. Teacher and student go through it alike."""

import math
import resource
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from di4c_cli.core import checkpoints, ranks, training_state
from di4c_cli.core.component import Config as _Config
from di4c_cli.core.datasets import Split
from di4c_cli.core.ema import EMA
from di4c_cli.core.loader import Loader
from di4c_cli.core.losses import evaluated
from di4c_cli.core.networks import half_precision, run_as
from di4c_cli.core.order import num_parts, step_seed
from di4c_cli.core.schedule import LearningRate
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.sharding import Copies, Pieces, fill, held
from di4c_cli.core.space import Batch
from di4c_cli.core.times import Config as Times
from di4c_cli.core.watch import LambdaWatch
from di4c_cli.errors import Interrupted, NonFiniteLossError, RunError
from di4c_cli.runs import RunDirectory, Status

HEARTBEAT = 15.0  # seconds: slow steps must not look like a dead run


def _number_is_peak(value: Any) -> Any:
    return {"peak": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


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
        LearningRate, BeforeValidator(_number_is_peak, json_schema_input_type=LearningRate | float)
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
    ema: float = Field(0.998, ge=0, lt=1)
    """Decay of the weight average that is sampled from."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of data order, times, noise and initial weights."""
    log_every: int = Field(20, ge=1)
    """Steps between lines of metrics.jsonl."""
    save_every: int = Field(500, ge=1)
    """Steps between resumable checkpoints."""
    keep: int = Field(2, ge=1)
    """How many of them are kept."""
    warn_after: int = Field(400, ge=1)
    """Steps after which a lambda that is ignored, or does harm, is worth a warning."""


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory so far, MiB: of the device where there is one, else resident memory of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@dataclass
class Trainer:
    """Trains `cast.student` on weighted losses, and keeps the run directory up to date.

    The randomness of a step depends on the seed and the step alone: a resumed run repeats the uninterrupted
    one.
    """

    cast: Cast
    model: nn.Module
    """`cast.student` as a module."""
    losses: list[Any]
    """The `[[losses]]` sections: each has `kind`, `weight` and `build()`."""
    times: Times
    config: Config
    run: RunDirectory
    status: Status
    header: dict[str, Any]
    """What config.json of the checkpoints says beside the step."""
    card: Callable[[int], str]
    """The model card at a step."""
    preview: Callable[[int], None]
    preview_every: int
    progress: Callable[[int, int, dict[str, Any]], None]
    narrate: Callable[[str], None]
    device: torch.device

    def __post_init__(self) -> None:
        self.model.to(self.device).train()
        for model in (self.model, self.cast.teacher):
            run_as(
                model,
                rows_at_once=self.config.rows_at_once,
                autocast=half_precision(self.config.precision, self.device),
                compiled=self.config.compile,
            )
        spread = self.config.shard and ranks.size() > 1
        self.weights = Pieces(self.model) if spread else Copies(self.model)
        self.names, self.parameters = list(self.weights.trained), list(self.weights.trained.values())
        self.parts = num_parts(self.config.batch_size, self.config.accumulate, ranks.size())
        each = self.parts // ranks.size()
        self.own = slice(ranks.rank() * each, (ranks.rank() + 1) * each)
        self.terms = [(section.kind, section.weight, section.build()) for section in self.losses]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.config.lr.peak,
            betas=self.config.betas,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        self.ema = EMA(self.model, self.config.ema)
        self.step = 0
        self.elapsed = 0.0
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self.watch = LambdaWatch(self.config.warn_after)

    # -- the loop ----------------------------------------------------------------------------

    def fit(self, split: Split, stop: Callable[[], int | None]) -> dict[str, Any]:
        """Train to the last step. `stop()` gives a signal number once the run should save and end.

        Raises:
            NonFiniteLossError: the loss or its gradient became NaN or infinite.
            Interrupted: a signal came; a resumable checkpoint was written first.
            RunError: a checkpoint could not be written.
        """
        config = self.config
        loader = Loader(split, config.batch_size, self.parts, config.seed, self.device, self.own)
        with closing(loader):
            return self._fit(loader, stop)

    def _fit(self, loader: Loader, stop: Callable[[], int | None]) -> dict[str, Any]:
        config, row = self.config, dict[str, Any]()
        started, mark, mark_step = time.monotonic() - self.elapsed, time.monotonic(), self.step
        while self.step < config.steps:
            self.optimise(loader(self.step))
            self.step += 1
            if config.promote_every and self.step % config.promote_every == 0:
                self._promote()
            self.elapsed = time.monotonic() - started
            if not 0 <= time.time() - self.status.heartbeat <= HEARTBEAT:  # below 0: the clock was put back
                self._breathe()
            if self.step % config.log_every == 0 or self.step == config.steps:
                rate = (self.step - mark_step) * config.batch_size / max(1e-9, time.monotonic() - mark)
                row = self._log(rate)
                mark, mark_step = time.monotonic(), self.step
            if self.preview_every and self.step % self.preview_every == 0 and self.step < config.steps:
                self._preview()
            (signal,) = ranks.largest([stop() or 0])
            if signal and self.step < config.steps:
                self.status.step, self.status.elapsed = self.step, self.elapsed
                self.save(self.run.path / f"step-{self.step}", resumable=True)
                raise Interrupted(
                    f"stopped at step {self.step} of {config.steps}; saved",
                    f"continue with --resume {self.run.path}",
                    exit_code=128 + signal,
                )
            if self.step % config.save_every == 0 and self.step < config.steps:
                self.save(self.run.path / f"step-{self.step}", resumable=True)
                self._forget_old()
        self.save(self.run.final, resumable=False)
        self._preview()
        return row

    def _preview(self) -> None:
        with self.ema.applied(self.model), self.weights.whole():
            ranks.by_first(lambda: self.preview(self.step))

    def optimise(self, parts: Sequence[Batch]) -> None:
        """One step of the optimiser on a batch in parts, of which this rank has some."""
        config = self.config
        progress = self.step / config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr.at(self.step, config.steps)
        with self.weights.whole():
            for batch, t, s, generator in self._draws(parts):
                self._segment = Segment(self.cast, batch, self._sent(t), self._sent(s), generator)
                total = self._weighted_loss(self._segment, t, progress).sum() / config.batch_size
                if total.requires_grad:  # not where every weight is 0
                    total.backward()
                self._add("loss", total.detach() * self.parts)
            self.weights.reduce()
        self._add("grad_norm", self.weights.clip(config.clip or math.inf))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model)

    def _draws(self, parts: Sequence[Batch]) -> Iterator[tuple[Batch, Tensor, Tensor, torch.Generator]]:
        """Each part with its (t, s) on the host, and with the generator of all else that is drawn for it.

        Times are stratified over the whole batch: every rank draws all of them, and takes its own. They are
        drawn on the host, which has to know where the weights of losses are 0.
        """
        config = self.config
        host = torch.Generator().manual_seed(step_seed(config.seed, self.step))
        drawn = self.times.sample(config.batch_size, host, "cpu", step=self.step)
        t, s = (values.tensor_split(self.parts)[self.own] for values in drawn)
        for number, batch in enumerate(parts):
            part = self.own.start + number
            torch.manual_seed(step_seed(config.seed, self.step, part))  # dropout
            if part == 0 and self.device.type == "cpu":
                generator = host  # goes on behind the times
            else:  # not the seed of dropout, or both would be the same numbers
                generator = torch.Generator(self.device)
                generator.manual_seed(step_seed(config.seed, self.step, -2 - part))
            yield (
                batch.told(self.cast.process.space.num_classes, config.label_drop, generator),
                t[number],
                s[number],
                generator,
            )

    def _sent(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)

    def _promote(self) -> None:
        """The student's weights become the teacher's: the next round distils what this one learned."""
        training_state.same_network(self.model, self.cast.teacher).load_state_dict(
            self.weights.gathered(held(self.model), everywhere=True)
        )
        self.run.log(f"step {self.step}: the student is the teacher from here on")

    def _weighted_loss(self, segment: Segment, t: Tensor, progress: float) -> Tensor:
        """The weighted sum for each data point; `t` is the segment's, on the host."""
        weighed = []
        for kind, weight, loss in self.terms:
            w = weight.at(t, progress)
            rows = w.nonzero().squeeze(1)
            if len(rows):  # a term is computed only where it has weight
                sent = self._sent(rows)
                weighed.append((kind, self._sent(w[rows]), sent, loss, segment.restricted(sent)))
        values = evaluated([(loss, part) for _, _, _, loss, part in weighed])
        total = torch.zeros_like(segment.t)
        for (kind, w, rows, _, _), value in zip(weighed, values, strict=True):
            self._add(f"loss/{kind}", value.detach().mean())
            total = total.index_add(0, rows, w * value)
        return total

    # -- what the run directory gets ---------------------------------------------------------

    def _add(self, name: str, value: Tensor) -> None:
        """Sums stay on the device until the next log line: no waiting for each figure of each step."""
        value = value.double()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] += 1

    def _log(self, samples_per_s: float) -> dict[str, Any]:
        row: dict[str, Any] = {"step": self.step, "time": time.time(), "elapsed": self.elapsed}
        sums = {name: value.item() for name, value in self._sums.items()}
        row |= means(ranks.gathered((sums, dict(self._counts))))
        self._sums.clear()
        self._counts.clear()
        if not (math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])):
            raise NonFiniteLossError(
                f"{self.run.path}: loss or gradient is not finite at step {self.step}",
                "lower train.lr or the weight of the loss that grew; the newest checkpoint is from before",
            )
        if self.cast.teacher is not None:
            with self.weights.whole():
                row |= ranks.gathered(self._segment.health())[-1]  # of the last part, whoever has it
            self._warn(row)
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        row["samples_per_s"] = samples_per_s
        row["memory_mb"] = max(ranks.gathered(peak_memory_mb(self.device)))
        self.run.append_metrics(row)
        self._breathe()
        self.progress(self.step, self.config.steps, row)
        return row

    def _breathe(self) -> None:
        self.status.step, self.status.elapsed = self.step, self.elapsed
        self.status.eta = self.elapsed / self.step * (self.config.steps - self.step)
        self.run.write_status(self.status)

    def _warn(self, row: dict[str, Any]) -> None:
        for message in self.watch(row) if self.cast.num_latents > 1 else []:
            self.run.log(message)
            self.narrate(message)

    def save(self, folder: Path, *, resumable: bool) -> None:
        """Raises RunError when the disk does not take it; what was there before stays."""
        if ranks.largest([not all(torch.isfinite(p).all() for p in self.parameters)])[0]:
            raise NonFiniteLossError(
                f"{self.run.path}: weights are not finite at step {self.step}",
                "lower train.lr; nothing was saved",
            )
        model, average = (self.weights.gathered(part) for part in (held(self.model), self.ema.shadow))
        training = self.weights.gathered(self._training_state()) if resumable else None
        ranks.by_first(lambda: self._write(folder, model, average, training))

    def _write(
        self,
        folder: Path,
        model: dict[str, Tensor],
        average: dict[str, Tensor],
        training: dict[str, Tensor] | None,
    ) -> None:
        try:
            checkpoints.save(
                folder,
                config={**self.header, "step": self.step},
                model=model,
                ema=average,
                card=self.card(self.step),
                training=training,
            )
        except OSError as error:
            raise RunError(
                f"{folder}: cannot save the checkpoint: {error.strerror or error}",
                f"make room, then continue with --resume {self.run.path}",
            ) from error

    def _forget_old(self) -> None:
        for old in self.run.checkpoints()[: -self.config.keep] if ranks.first() else []:
            shutil.rmtree(old, ignore_errors=True)

    # -- resume ------------------------------------------------------------------------------

    def _training_state(self) -> dict[str, Tensor]:
        counters = {"step": self.step, "ema_updates": self.ema.updates, "elapsed": self.elapsed}
        teacher = self.cast.teacher if self.config.promote_every else None
        return training_state.pack(self.names, self.parameters, self.optimizer, counters, teacher)

    def resume(self, folder: Path) -> None:
        """Continue from a `step-<N>` folder, bit for bit.

        Raises:
            CheckpointError: the folder is damaged or belongs to another network.
        """
        own = held(self.model)
        fill(own, self._read(folder, "model.safetensors", own))
        fill(self.ema.shadow, self._read(folder, "ema.safetensors", self.ema.shadow))
        state = self._read(folder, checkpoints.TRAINING, self._training_state())
        teacher = self.cast.teacher if self.config.promote_every else None
        training_state.unpack(state, self.names, self.parameters, self.optimizer, teacher)
        self.step = int(state["counter/step"])
        self.ema.updates = int(state["counter/ema_updates"])
        self.elapsed = float(state["counter/elapsed"])

    def _read(self, folder: Path, name: str, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """This rank's part of a file that holds the whole of what is like this."""
        return self.weights.own(checkpoints.read_like(folder, name, self.weights.outline(like)))


def means(parts: Sequence[tuple[dict[str, float], dict[str, int]]]) -> dict[str, float]:
    """The means of figures from the sums and counts of every rank; not all ranks need have all of them."""
    names = dict.fromkeys(name for sums, _ in parts for name in sums)
    return {
        name: sum(sums.get(name, 0.0) for sums, _ in parts) / sum(counts.get(name, 0) for _, counts in parts)
        for name in names
    }
