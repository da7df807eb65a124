"""The README's pictures: they can be made anew, and show what the program looks like now."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from make_pictures import HERE, make_pictures

from di4c_cli.tui.app import MonitorApp
from di4c_cli.tui.screens import compare, run
from di4c_cli.tui.screens.charts import ChartScreen

README = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
SHORT = [
    *("student.num_latents=4", "train.steps=40", "train.batch_size=8", "train.log_every=5"),
    *("preview.every=10", "preview.num=4", "eval.num=50", "eval.steps=[1,2]"),
    *("metrics.5.num=20", "metrics.5.num_latents=4"),
]


def words(svg: str) -> str:
    """All text of an SVG, pieces of a line one behind the other."""
    pieces = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return " ".join(html.unescape("".join(pieces)).replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def fresh(
    tmp_path_factory: pytest.TempPathFactory, share_classifiers: Callable[[Path], None]
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pictures")
    share_classifiers(folder / "runs")
    return {path.name: words(path.read_text()) for path in make_pictures(folder / "runs", folder, SHORT)}


def keys_shown(*owners: type) -> list[str]:
    return [binding.description for owner in owners for binding in owner.BINDINGS if binding.show]


ALWAYS = {
    "monitor.svg": [
        *(f"{digit} {name}" for digit, name in enumerate(run.PANES, 1)),
        *(panel.title for panel in run.PANELS),
        *keys_shown(MonitorApp, ChartScreen, run.RunScreen),
        *("training step", "sampling steps", "teacher", "student", "previews at step", "digits/student-1"),
    ],
    "compare.svg": [
        *(f"{digit} {name}" for digit, name in enumerate(compare.PANES, 1)),
        *keys_shown(MonitorApp, ChartScreen),
        *("marginal + correlation", "effective components", "real data", "no-lambda", "student.kind"),
        *('"mixture"', '"product"', "Fréchet distance to held-out data", "nll_bound"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ALWAYS))
def test_pictures_can_be_made_anew_and_are_not_stale(fresh: dict[str, str], name: str) -> None:
    committed = words((HERE / name).read_text(encoding="utf-8"))
    assert [piece for piece in ALWAYS[name] if piece not in fresh[name]] == []
    assert [piece for piece in ALWAYS[name] if piece not in committed] == []


@pytest.mark.parametrize("name", list(ALWAYS))
def test_the_readme_shows_them(name: str) -> None:
    assert f"tests/tui/{name}" in README


def test_the_first_picture_was_taken_while_it_trained() -> None:
    text = words((HERE / "monitor.svg").read_text(encoding="utf-8"))
    assert "● running" in text
    assert "previews at step 750" in text


def test_pictures_name_no_folder_of_the_machine_that_made_them() -> None:
    for name in ALWAYS:
        assert str(Path.home()) not in (HERE / name).read_text()
        assert "/tmp" not in (HERE / name).read_text()
