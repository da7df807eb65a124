"""The only loop with an optimiser. Teacher and student go through it alike."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from di4c_cli.core import checkpoints, ranks, training_state
from di4c_cli.core.averages import Averages
from di4c_cli.core.datasets import Split
from di4c_cli.core.draws import Draws
from di4c_cli.core.ema import EMA
from di4c_cli.core.held_out import HeldOut
from di4c_cli.core.keeping import Keeper
from di4c_cli.core.loader import Loader
from di4c_cli.core.losses import evaluated
from di4c_cli.core.memory import peak_memory_mb
from di4c_cli.core.networks import half_precision, run_as
from di4c_cli.core.optimisation import Config
from di4c_cli.core.order import num_parts
from di4c_cli.core.segment import Cast, Segment
from di4c_cli.core.sharding import Copies, Pieces, fill, held
from di4c_cli.core.skipping import Skipping, write_batch
from di4c_cli.core.space import Batch
from di4c_cli.core.times import Config as Times
from di4c_cli.core.watch import LambdaWatch, SpikeWatch
from di4c_cli.errors import Interrupted, NonFiniteLossError
from di4c_cli.runs import RunDirectory, Status

HEARTBEAT = 15.0  # seconds: slow steps must not look like a dead run


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
    held_out: HeldOut | None = None
    """By what checkpoints are compared; None: no one of them is the best."""

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
        self.draws = Draws(
            self.times, self.cast.process.space, self.config, self.parts, self.own, self.device
        )
        self.terms = [(section.kind, section.weight, section.build()) for section in self.losses]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.config.lr.peak,
            betas=self.config.betas,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        self.ema = EMA(self.model, self.config.ema)
        self.keeper = Keeper(self.run, self.header, self.card, self.config.keep)
        self.step = 0
        self.elapsed = 0.0
        self.averages = Averages()
        self.skipping = Skipping(self.config.max_skipped, self.device)
        self.watch = LambdaWatch(self.config.warn_after)
        self.spikes = SpikeWatch()

    # -- the loop ----------------------------------------------------------------------------

    def fit(self, split: Split, stop: Callable[[], int | None]) -> dict[str, Any]:
        """Train to the last step. `stop()` gives a signal number once the run should save and end.

        Raises:
            NonFiniteLossError: loss or gradient was not finite too often; the batch is written down.
            Interrupted: a signal came; a resumable checkpoint was written first.
            RunError: a checkpoint could not be written.
        """
        config = self.config
        loader = Loader(split, config.batch_size, self.parts, config.seed, self.device, self.own)
        with closing(loader):
            try:
                return self._fit(loader, stop)
            except NonFiniteLossError:
                step = self.skipping.last_step(self.step - 1)
                facts = {**self.skipping.facts(), "seed": config.seed, "step": step}
                parts = [part for own in ranks.gathered(loader(step)) for part in own]
                with suppress(OSError):  # a full disk must not hide the error that is under way
                    if ranks.first():
                        write_batch(self.run.path, parts, facts)
                raise

    def _fit(self, loader: Loader, stop: Callable[[], int | None]) -> dict[str, Any]:
        config, due = self.config, False
        *_, row = {}, *self.run.metrics()  # the last one, where a resume finds all steps done
        started, mark, mark_step = time.monotonic() - self.elapsed, time.monotonic(), self.step
        while self.step < config.steps:
            self.optimise(loader(self.step))
            self.step += 1
            if config.promote_every and self.step % config.promote_every == 0:
                self._promote()
            self.elapsed = time.monotonic() - started
            self.breathe()
            if self.step % config.log_every == 0 or self.step == config.steps:
                rate = (self.step - mark_step) * config.batch_size / max(1e-9, time.monotonic() - mark)
                row = self._log(rate)
                mark, mark_step = time.monotonic(), self.step
            if self.preview_every and self.step % self.preview_every == 0 and self.step < config.steps:
                self._preview()
            (signal,) = ranks.largest([stop() or 0])
            last = self.step == config.steps
            due = due or signal > 0 or last or self.step % config.save_every == 0
            if due and self._counted() and not last:
                self.status.step, self.status.elapsed = self.step, self.elapsed
                self.save()
                due = False
                if signal:
                    raise Interrupted(
                        f"stopped at step {self.step} of {config.steps}; saved",
                        f"continue with --resume {self.run.path}",
                        exit_code=128 + signal,
                    )
        self.save(finished=True)
        if not ranks.largest([stop() or 0])[0]:  # who stops a finished run waits for no pictures
            self._preview()
        return row

    def _counted(self) -> bool:
        """Whether the step just made was not left out: a save waits for one that was not.

        Where weights are lost, no step is finite any more, and the run ends before such weights are saved.

        Raises:
            NonFiniteLossError: too many were left out, or the last of all.
        """
        self.skipping.check(self.run.path)
        if not self.skipping.left_out(self.step - 1):
            return True
        if self.step < self.config.steps:
            return False
        raise NonFiniteLossError(
            f"{self.run.path}: loss or gradient is not finite at step {self.step}, the last; "
            "nothing was saved",
            "lower train.lr; if it is this batch alone, change train.steps by one",
        )

    def _preview(self) -> None:
        with self.ema.applied(self.model), self.weights.whole():
            ranks.by_first(lambda: self.preview(self.step))

    def optimise(self, parts: Sequence[Batch]) -> None:
        """One step of the optimiser on a batch in parts, of which this rank has some."""
        config = self.config
        progress = self.step / config.steps
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr.at(self.step, config.steps)
        loss = torch.zeros((), device=self.device)
        with self.weights.whole():
            for batch, t, s, generator in self.draws(self.step, parts):
                self._segment = Segment(self.cast, batch, self._sent(t), self._sent(s), generator)
                total = self._weighted_loss(self._segment, t, progress).sum() / config.batch_size
                if total.requires_grad:  # not where every weight is 0
                    total.backward()
                loss = loss + total.detach()
                self.averages.add("loss", total.detach() * self.parts)
                self.breathe()
            self.weights.reduce()
        norm = self.weights.clip(config.clip or math.inf)
        self.averages.add("grad_norm", norm)
        ranks.add_up([loss])  # so that all ranks decide alike
        # Where this is 1, fused AdamW changes nothing: the decision needs no answer on the host.
        self.optimizer.found_inf = self.skipping(self.step, loss, norm)  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model)

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
            self.averages.add(f"loss/{kind}", value.detach().mean())
            total = total.index_add(0, rows, w * value)
        return total

    # -- what the run directory gets ---------------------------------------------------------

    def _log(self, samples_per_s: float) -> dict[str, Any]:
        skipped = self.skipping.check(self.run.path)
        row: dict[str, Any] = {"step": self.step, "time": time.time(), "elapsed": self.elapsed}
        row |= self.averages.taken()
        if self.cast.teacher is not None:
            with self.weights.whole():
                row |= ranks.gathered(self._segment.health())[-1]  # of the last part, whoever has it
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        row["samples_per_s"] = samples_per_s
        row["memory_mb"] = max(ranks.gathered(peak_memory_mb(self.device)))
        row |= {"skipped": skipped} if skipped else {}
        row = {name: value for name, value in row.items() if math.isfinite(value)}  # of steps left out
        self._warn(row)
        self.run.append_metrics(row)
        self._write_status()
        self.progress(self.step, self.config.steps, row)
        return row

    def breathe(self) -> None:
        """A sign of life in status.json where the last one is old.

        Called wherever work may take long, not by a thread: one would breathe for a run that hangs.
        """
        if not 0 <= time.time() - self.status.heartbeat <= HEARTBEAT:  # below 0: the clock was put back
            self._write_status()

    def _write_status(self) -> None:
        self.status.step, self.status.elapsed = self.step, self.elapsed
        self.status.eta = self.elapsed / self.step * (self.config.steps - self.step) if self.step else None
        self.run.write_status(self.status)

    def _warn(self, row: dict[str, Any]) -> None:
        messages = self.spikes(row)
        if self.cast.num_latents > 1 and "correlation" in row:
            messages += self.watch(row)
        for message in messages:
            self.run.log(message)
            self.narrate(message)

    def save(self, *, finished: bool = False) -> None:
        """Write `step-<N>`, from which training goes on, and of a finished run the model alone in `final`.

        Raises:
            NonFiniteLossError: the model is none any more; nothing was saved.
            RunError: the disk does not take it; what was there before stays.
        """
        kept = [*self.parameters, *(self.ema.shadow[name] for name in self.names)]
        if ranks.largest([not all(torch.isfinite(p).all() for p in kept)])[0]:
            raise self._diverged("weights are not finite")
        nats = self._held_out()
        if nats is not None and math.isnan(nats):  # weights may be finite, and of no use
            raise self._diverged("what the model makes of held-out data is not a number")
        model, average = (self.weights.gathered(part) for part in (held(self.model), self.ema.shadow))
        training = self.weights.gathered(self._training_state())

        def write() -> None:
            folder = self.run.path / f"step-{self.step}"
            self.keeper.save(folder, self.step, model, average, training, nats)
            if finished:
                self.keeper.save(self.run.final, self.step, model, average, None, nats)
            self.keeper.forget_old()

        ranks.by_first(write)

    def _diverged(self, what: str) -> NonFiniteLossError:
        return NonFiniteLossError(
            f"{self.run.path}: {what} at step {self.step}; nothing was saved",
            "lower train.lr; the newest checkpoint is from before",
        )

    def _held_out(self) -> float | None:
        """What the averaged weights, which are sampled from, make of held-out data."""
        if self.held_out is None:
            return None
        measure = self.held_out
        with self.ema.applied(self.model), self.weights.whole():
            return ranks.by_first(lambda: measure(self.cast.student, self.breathe))

    # -- resume ------------------------------------------------------------------------------

    def _training_state(self) -> dict[str, Tensor]:
        counters = {"step": self.step, "ema_updates": self.ema.updates, "elapsed": self.elapsed}
        counters["skipped"] = self.skipping.check(self.run.path)
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
        self.skipping.count.fill_(int(state["counter/skipped"]))

    def _read(self, folder: Path, name: str, like: dict[str, Tensor]) -> dict[str, Tensor]:
        """This rank's part of a file that holds the whole of what is like this."""
        return self.weights.own(checkpoints.read_like(folder, name, self.weights.outline(like)))
