"""Model cards: the README.md of a checkpoint folder, with the YAML head that model hubs read."""

from di4c_cli import __version__
from di4c_cli.core.component import Config
from di4c_cli.recipe import Recipe


def model_card(name: str, recipe: Recipe, role: str, step: int) -> str:
    """What the model is, how it was made and how to sample it."""
    terms = ", ".join(loss.kind for loss in recipe.losses)
    what = (
        "a product-model denoiser (each position drawn independently at every step)"
        if role == "teacher"
        else f"a {recipe.student.kind} student, distilled with these losses: {terms}"
    )
    process = _settings(recipe.process)
    about = "" if role == "teacher" else f"\n{recipe.student.about}\nSettings: {_settings(recipe.student)}.\n"
    return f"""---
library_name: di4c
license: mit
tags: [discrete-diffusion, few-step-sampling, {role}]
datasets: [{recipe.dataset.kind}]
---
# {name}: {role}

{recipe.title}

This is {what}, after {step} training steps with di4c {__version__}.
Data: {recipe.dataset.kind}. Process: {process}. Network: {recipe.network.kind}.
{about}
    di4c sample THIS_FOLDER --steps {recipe.sample.steps} --num 16 --out samples/

`model.safetensors` holds the last weights, `ema.safetensors` their running average, which is what is sampled
from unless `--weights raw` is given. `config.json` holds the whole recipe and the sha256 of each file.
"""


def _settings(component: Config) -> str:
    return ", ".join([component.kind, *(f"{key} {value}" for key, value in component)])
