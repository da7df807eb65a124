"""The line map against documents that know their own lines."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from di4c_cli.recipe_file._lines import key_lines, without_entry

NAMES = st.sampled_from(["a", "b", "kind", "step-size", "x_1", "0"])
SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e-3",
        "true",
        "inf",
        '"plain"',
        "'lit # eral'",
        '"a ] # \\" ["',
        '""',
        "1979-05-27 07:32:00",
        "[]",
        "{}",
    ]
)
MULTILINE = st.sampled_from(
    [
        '"""\nx = 1\n[not.a.table]\n"""',
        "'''\n# no\n'quoted''\n'''",
        '"""a \\""" b"""',
        '"""it "ends"""""',
        '""""""',
    ]
)


class Page:
    """A document that grows by whole values and notes the line of each key."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: dict[tuple[str | int, ...], int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def pair(self, draw, table, name, depth=0) -> None:
        key = (*table, name)
        self.lines[key] = self.line
        self.text += draw(st.sampled_from([name, f'"{name}"'])) + draw(st.sampled_from(["=", " = "]))
        self.value(draw, key, depth)

    def value(self, draw, key, depth) -> None:
        shape = draw(
            st.sampled_from(["scalar", "scalar", "text", "list", "table"] if depth < 2 else ["scalar"])
        )
        if shape == "list":
            self.text += "["
            for index in range(draw(st.integers(0, 3))):
                self.text += draw(st.sampled_from(["", "\n  ", " # why\n"]))
                self.lines[(*key, index)] = self.line
                self.value(draw, (*key, index), depth + 1)
                self.text += draw(st.sampled_from([",", ", ", ",\n"]))
            self.text += "]"
        elif shape == "table":
            self.text += "{ "
            for number, name in enumerate(draw(st.lists(NAMES, unique=True, max_size=3))):
                self.text += ", " if number else ""
                self.pair(draw, key, name, depth + 1)
            self.text += " }"
        else:
            self.text += draw(MULTILINE if shape == "text" else SCALARS)

    def body(self, draw, table) -> None:
        for name in draw(st.lists(NAMES, unique=True, max_size=3)):
            self.pair(draw, table, name)
            self.text += draw(st.sampled_from(["\n", "  # a comment = 3\n", "\r\n", "\n\n"]))


@st.composite
def pages(draw) -> Page:
    page = Page()
    page.body(draw, ())
    for table in draw(st.lists(st.sampled_from(["t", "u", "v"]), unique=True)):
        page.lines[(table,)] = page.line
        page.text += f"[{table}] # {table} = 1\n"
        page.body(draw, (table,))
    for index in range(draw(st.integers(0, 3))):
        page.lines.setdefault(("many",), page.line)
        page.lines[("many", index)] = page.line
        page.text += "[[ many ]]\n"
        page.body(draw, ("many", index))
        if draw(st.booleans()):
            page.lines[("many", index, "sub")] = page.line
            page.text += "[many.sub]\n"
            page.body(draw, ("many", index, "sub"))
    return page


@given(pages())
def test_every_key_has_its_line(page):
    tomllib.loads(page.text)  # the page itself is sound
    assert key_lines(page.text) == page.lines


def test_dotted_keys_and_headers_name_the_tables_on_their_way():
    lines = key_lines("a.b.c = 1\n[d . 'e']\nf = 2\n[d]\n")
    assert lines == {
        ("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("d",): 4, ("d", "e"): 2, ("d", "e", "f"): 3,
    }  # fmt: skip


def test_nested_arrays_of_tables():
    lines = key_lines("[[a]]\n[[a.b]]\n[[a.b]]\nx = 1\n[[a]]\n[[a.b]]\ny = 2\n")
    assert lines["a", 0, "b", 1, "x"] == 4
    assert lines["a", 1, "b", 0, "y"] == 7


def test_without_an_entry_the_later_ones_move_up():
    lines = {("l",): 1, ("l", 0, "k"): 2, ("l", 1, "k"): 3, ("l", 2, "k"): 4, ("m", 1): 5}
    assert without_entry(lines, ("l", 1)) == {("l",): 1, ("l", 0, "k"): 2, ("l", 1, "k"): 4, ("m", 1): 5}
