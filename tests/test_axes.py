"""What `--over` says, and which cells and teachers come of it."""

import pytest

from di4c_cli import shipped
from di4c_cli.axes import axis, combinations, split
from di4c_cli.cells import planned
from di4c_cli.errors import RecipeError, UsageError


def settings(text):
    return [(setting.label, setting.overrides) for setting in axis(text).settings]


def test_text_is_split_outside_of_quotes_and_brackets():
    assert split("1,2, 3", ",") == ["1", "2", " 3"]
    assert split("""[1,2],{a="},",b=[3,4]},'x,y'""", ",") == ["[1,2]", """{a="},",b=[3,4]}""", "'x,y'"]
    assert split(r'"a\",b",c', ",") == [r'"a\",b"', "c"]
    assert split("it's,so),on", ",") == ["it's", "so)", "on"]
    assert split("", ",") == [""]


@pytest.mark.parametrize("separator", [",", ";", " , ", "; "])
def test_values_of_one_key(separator):
    assert settings(separator.join(["network.width=8", "16", "32"])) == [
        ("8", ("network.width=8",)),
        ("16", ("network.width=16",)),
        ("32", ("network.width=32",)),
    ]
    assert axis("network.width=8,16").name == "network.width"


def test_tables_go_by_their_kind_where_that_tells_them_apart():
    mlp, dit = '{kind="mlp", width=8}', '{kind="dit",depth=2}'
    assert settings(f"network={mlp},{dit}") == [("mlp", (f"network={mlp}",)), ("dit", (f"network={dit}",))]
    small, large = axis('network={kind="mlp",width=8},{kind="mlp",width=16}').settings
    assert (small.label, small.slug) == ('{kind="mlp",width=8}', "kind_mlp_width_8")
    assert large.slug == "kind_mlp_width_16"


def test_keys_that_change_together_and_names():
    assert settings("process.kind=masked a.b='subs'; big: process.kind=uniform a.b=null c=1") == [
        ("masked subs", ("process.kind=masked", "a.b='subs'")),
        ("big", ("process.kind=uniform", "a.b=null", "c=1")),
    ]
    assert settings("eval.steps=[1, 2]; [4]") == [
        ("[1, 2]", ("eval.steps=[1, 2]",)),
        ("[4]", ("eval.steps=[4]",)),
    ]


@pytest.mark.parametrize(
    "text", ["", "a", "a=1;;", "a=1,", "a=1,1", "a=-1,1", "=1", "--a=1", "name: ", "a=b c"]
)
def test_no_axis(text):
    with pytest.raises(UsageError):
        axis(text)


SCHEDULES = axis("process.schedule=linear,cosine")
PROCESSES = axis(
    "process.kind=masked; uniform: process.kind=uniform network.parameterization=free; "
    "gaussian: process.kind=gaussian process.schedule=null network.parameterization=bayes"
)


def labels(axes):
    return [tuple(setting.label for setting in cell) for cell in combinations(axes)]


def test_settings_that_a_later_one_overrules_are_one():
    assert labels([SCHEDULES, PROCESSES]) == [
        ("linear", "masked"),
        ("linear", "uniform"),
        ("-", "gaussian"),
        ("cosine", "masked"),
        ("cosine", "uniform"),
    ]
    assert len(labels([PROCESSES, SCHEDULES])) == 6  # the later one is never overruled


def cells(recipe, over, *overrides):
    return planned(shipped.find_recipe(recipe), [axis(text) for text in over], overrides, "m")


def test_cells_that_differ_in_nothing_of_the_teacher_share_it():
    found = cells("mnist", ["network.width=8,16", "train.seed=0,1", "losses.0.weight=1,2"])
    assert len({cell.student for cell in found}) == 8
    assert [cell.teacher for cell in found] == ["m-8-teacher"] * 4 + ["m-16-teacher"] * 4
    assert found[0].student == "m-8-0-1"
    assert {cell.teacher for cell in cells("mnist", ["train.steps=1,2"])} == {"m-teacher"}
    # One key of it is enough, in any setting of the axis.
    mixed = cells("mnist", ["train.steps=1; train.steps=2 teacher.train.steps=3"])
    assert [cell.teacher for cell in mixed] == ["m-1-teacher", "m-2_3-teacher"]
    given = cells("mnist", ["train.steps=1,2"], "teacher.checkpoint=checkpoints/digits/teacher")
    assert {cell.teacher for cell in given} == {None}
    assert {cell.teacher for cell in cells("shakespeare_round2", ["train.steps=1,2"])} == {None}
    assert {cell.teacher for cell in cells("toy", ["network.width=8,16"])} == {None}


def test_a_cell_that_cannot_be_has_its_reason():
    wrong, right = cells("mnist", ["process.kind=gaussian,uniform"])
    assert isinstance(wrong.loaded, RecipeError)
    assert right.loaded.recipe.process.kind == "uniform"
    assert wrong.told == {"settings": ["gaussian"], "overrides": ["process.kind=gaussian"]}
