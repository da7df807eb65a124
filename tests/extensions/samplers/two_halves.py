"""Each step in two halves with the same law: a compromise between cost and accuracy."""

from di4c_cli.core import samplers
from di4c_cli.core.samplers.ancestral import Ancestral


class TwoHalves(Ancestral):
    def step(self, law, x_t, t, s, generator, num=1):
        middle = super().step(law, x_t, t, (t + s) / 2, generator, num)
        rows = [samplers.per_row(time, x_t).repeat_interleave(num) for time in ((t + s) / 2, s)]
        x_0 = law.draw(generator, num).flatten(0, 1)
        x_s = self.process.sample_posterior(x_0, middle.flatten(0, 1), *rows, generator)
        return x_s.unflatten(0, (-1, num))


class Config(samplers.Config):
    """Ancestral steps by halves."""

    def build(self, process) -> TwoHalves:
        return TwoHalves(process)
