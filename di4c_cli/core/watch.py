"""What goes wrong in training, told while there is time to act: with lambda, and with the loss."""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any

MEMORY = 0.8  # of the running means over log lines
NOTICEABLE = 0.1  # nats
RECENT = 20  # log lines that a loss is compared with
SPIKE = 20.0  # median absolute deviations above their median


@dataclass
class LambdaWatch:
    """Reads lines of metrics; gives each warning once.

    Ignored: the correlation term stays at 0, so the student equals its teacher. Overdone: the marginals
    suffer more than the correlations gain, so the student is worse than one that ignores lambda.
    """

    after: int
    """Steps before which nothing is said: lambda wakes up after a plateau."""
    correlation: float = 0.0
    total: float = 0.0
    told: set[str] = field(default_factory=set)

    def __call__(self, row: dict[str, Any]) -> list[str]:
        """The warnings that this line gives rise to."""
        self.correlation = MEMORY * self.correlation + (1 - MEMORY) * row["correlation"]
        self.total = MEMORY * self.total + (1 - MEMORY) * row["marginal_plus_correlation"]
        if row["step"] < self.after:
            return []
        found = {}
        if self.correlation > -NOTICEABLE:
            found["ignored"] = (
                f"lambda is being ignored (correlation {self.correlation:.3f} nats): the student equals its "
                "teacher; raise network.lam_std or student.num_latents, or the datapoint loss's weight "
                "(a windowed one: student.components, or start it from data)"
            )
        elif self.total > NOTICEABLE:
            found["overdone"] = (
                f"marginal + correlation is {self.total:.3f} nats: the student is worse than one that "
                "ignores lambda; lower network.lam_std or train.lr, or raise the marginal loss's weight"
            )
        new = [name for name in found if name not in self.told]
        self.told.update(new)
        return [f"warning: step {row['step']}: {found[name]}" for name in new]


@dataclass
class SpikeWatch:
    """Tells of a logged loss far above the recent ones: above their median by many times their spread."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    high: bool = False

    def __call__(self, row: dict[str, Any]) -> list[str]:
        """One warning for each rise; the next can come when the loss has been down again."""
        loss = row.get("loss")
        if loss is None:
            return []
        middle = median(self.recent) if len(self.recent) == RECENT else math.inf
        spread = median(abs(value - middle) for value in self.recent) if math.isfinite(middle) else 0.0
        before, self.high = self.high, loss > middle + max(SPIKE * spread, NOTICEABLE)
        self.recent.append(loss)
        if not self.high or before:
            return []
        return [
            f"warning: step {row['step']}: the loss jumped to {loss:.3g} (median of the last {RECENT} lines "
            f"{middle:.3g}); if it stays up, lower train.lr or train.clip"
        ]
