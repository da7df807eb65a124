"""One distillation step of the paper's systems at full size on a CPU: its peak of resident memory.

Every position is masked (t near 1), which is the most that a step can need. Minutes to tens of minutes each.
"""

import subprocess
import sys

import pytest

STEP = """
import resource, sys, torch
from di4c_cli import recipe_file, shipped
from di4c_cli.bench.steps import Step, ours
from di4c_cli.bench.subject import Subject, Trial

recipe, size, *overrides = sys.argv[1:]
loaded = recipe_file.load(shipped.find_recipe(recipe), overrides)
subject = Subject.build(loaded, torch.device("cpu"))
usual = subject.trial(int(size))
t = torch.full_like(usual.t, 0.999)
trial = Trial.of(subject.cast, loaded.recipe.losses, usual.batch, t, t - 0.01)
Step(subject.student, loaded.recipe.train)(ours, trial)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("recipe", "size", "latents", "limit"),
    [("cifar10", 8, 16, 8), ("imagenet", 2, 32, 8), ("owt", 1, 16, 14), ("owt", 1, 64, 16)],
)
def test_a_full_size_step_fits(recipe, size, latents, limit):
    """In GiB; the dense formula needs more than 24 for owt."""
    arguments = [recipe, str(size), f"student.num_latents={latents}"]
    done = subprocess.run(
        [sys.executable, "-c", STEP, *arguments], capture_output=True, text=True, check=True
    )
    peak = float(done.stdout)
    print(f"{recipe}: {peak:.2f} GiB")
    assert peak < limit
