"""Exponential moving average of a module's parameters, as an object that holds the shadow."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from di4c_cli.core.sharding import fill, held


class EMA:
    """shadow <- d shadow + (1 - d) parameter, d = min(decay, (1 + n) / (10 + n)) after n updates (tauLDR)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in held(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        shadow, current = list(self.shadow.values()), [p.detach() for p in held(module).values()]
        floating = [i for i, p in enumerate(shadow) if p.is_floating_point()]
        torch._foreach_lerp_([shadow[i] for i in floating], [current[i] for i in floating], 1 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with the averaged weights in evaluation mode, for a while."""
        own = held(module)
        backup = {name: p.detach().clone() for name, p in own.items()}
        was_training = module.training
        fill(own, self.shadow)
        module.eval()
        try:
            yield
        finally:
            fill(own, backup)
            module.train(was_training)
