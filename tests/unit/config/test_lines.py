"""The lines of the keys in TOML text."""

import tomllib

import pytest

from unpd.config.lines import MAX_DEPTH, KeyPath, line_of, lines_of

TEXT = '''# a comment with [brackets] and key = 1
top = 1

[ a . b ] # after the header
  plain = 'x = 1'
"quoted.key" = "a # \\" = 'x"
dotted . deeper."and more" = 1979-05-27 07:32:00

[list]
items = [ # [[
  "one", "]",

  ["two"], { three = 3 },
  4,
]
text = """
[not.a.table]
not_a_key = "\\""" ""
"""
after = \'\'\'
\\\'\'\'\'
last = {x.y = [1], "z" = {}}
empty = ""
[[many]]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("a",), 4),
        (("a", "b"), 4),
        (("a", "b", "plain"), 5),
        (("a", "b", "quoted.key"), 6),
        (("a", "b", "dotted"), 7),
        (("a", "b", "dotted", "deeper", "and more"), 7),
        (("list", "items"), 10),
        (("list", "items", 0), 11),
        (("list", "items", 1), 11),
        (("list", "items", 2, 0), 13),
        (("list", "items", 3, "three"), 13),
        (("list", "items", 4), 14),
        (("list", "text"), 16),
        (("list", "after"), 20),
        (("list", "last"), 22),
        (("list", "last", "x", "y", 0), 22),
        (("list", "last", "z"), 22),
        (("list", "empty"), 23),
        (("many",), 24),
    ],
)
def test_finds(path: KeyPath, line: int) -> None:
    """A key is found on its line, whatever strings, comments, arrays and inline tables
    precede it.
    """
    assert lines_of(TEXT)[path] == line


def test_does_not_find_text_that_looks_like_a_key() -> None:
    """A text that looks like a key, within a string or a comment, is not found."""
    tomllib.loads(TEXT)
    assert {path[0] for path in lines_of(TEXT)} == {"top", "a", "list", "many"}
    assert not any("not_a_key" in path for path in lines_of(TEXT))


def test_missing_key() -> None:
    """A missing key has the line of the closest table around it, or none."""
    lines = lines_of("[services.echo]\n")
    assert line_of(lines, ("services", "echo", "backlog")) == 1
    assert line_of(lines, ("daemon", "user")) is None
    assert line_of(lines, ()) is None


def test_closest_table() -> None:
    """Of several tables around a missing key the innermost gives the line."""
    lines = lines_of("[services]\n[services.echo]\n")
    assert line_of(lines, ("services", "echo", "backlog")) == 2


def test_items_without_spaces() -> None:
    """An item that follows its comma at once is found."""
    assert lines_of("x = [1,2]\ny = {a=1,b=2}") == {
        ("x",): 1,
        ("x", 0): 1,
        ("x", 1): 1,
        ("y",): 2,
        ("y", "a"): 2,
        ("y", "b"): 2,
    }


@pytest.mark.parametrize(
    "text",
    ["x = [", "x = ]", "x = {a", "= 1", "[a", "x", "x = 'a", "x = [1 }", "x = [,,]", '"\\x" = 1'],
)
def test_stops_at_text_that_is_not_toml(text: str) -> None:
    """On invalid TOML the scanner stops and returns the lines that it found."""
    assert set(lines_of(text)) <= {("x",), ("x", 0), ("x", 1), ("x", "a"), ("a",)}


def test_stops_at_deep_nesting() -> None:
    """On nesting that is too deep the scanner stops and returns the lines that it
    found.
    """
    assert lines_of("\nx = " + "[" * 100_000)[("x",)] == 2


def test_deep_keys_have_no_path_of_their_own() -> None:
    """A key more than MAX_DEPTH levels deep is not noted: the length of a path bounds
    the time that its hash takes.
    """
    lines = lines_of(
        "\n".join(["x = {", *["y = {"] * 20, "z = 1", *["}"] * 21]).replace("{\n", "{")
    )
    assert max(map(len, lines)) == MAX_DEPTH
    lists = lines_of(f"x = {'[' * 100}1, 2{']' * 100}")
    assert max(map(len, lists)) == MAX_DEPTH
