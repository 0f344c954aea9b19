"""The table of the status: what fits it, and the text that is made of what fits."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.cli.status_text import as_text
from unpd.control.answer_fields import AnswerField, mismatch, paths
from unpd.control.status_fields import STATUS

VALUES: dict[str, Any] = {
    "text": "word",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "list": [1.5, None],
    "object": {},
}


def example(fields: tuple[AnswerField, ...] = STATUS) -> dict[str, Any]:
    """Return an object that has every field of the table."""
    return {field.name: value(field) for field in fields}


def value(field: AnswerField) -> Any:
    """Return a value of the field's type."""
    if field.fields:
        return [example(field.fields)] if field.type == "list" else example(field.fields)
    return VALUES[field.type]


def parents(status: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the object in which the last name of ``path`` stands."""
    found: Any = status
    for part in path.split(".")[:-1]:
        found = found[part.removesuffix("[]")]
        found = found[0] if part.endswith("[]") else found
    assert isinstance(found, dict)
    return found


PATHS = list(paths(STATUS))


def test_what_has_every_field_fits() -> None:
    """More fields than those of the table are no fault: a later version may add
    some.
    """
    assert mismatch(example(), STATUS) == ""
    assert mismatch({**example(), "more": None}, STATUS) == ""


@pytest.mark.parametrize(("path", "field"), PATHS, ids=[path for path, _ in PATHS])
def test_a_field_that_is_missing_or_of_another_type_is_named(path: str, field: AnswerField) -> None:
    """At every depth, by its path. Null fits where the table says what it means."""
    name = path.rpartition(".")[2]
    for wrong in (..., b"", None, -1.5 if field.type == "integer" else object()):
        status = copy.deepcopy(example())
        parent = parents(status, path)
        if wrong is ...:
            del parent[name]
        else:
            parent[name] = wrong
        fits = wrong is None and field.absent
        assert mismatch(status, STATUS) == ("" if fits else path)
        if fits:
            assert as_text(status)


def test_another_schema_is_named() -> None:
    """A schema with another number may mean anything."""
    assert mismatch({**example(), "schema": 2}, STATUS) == "schema"


def test_true_is_no_number() -> None:
    """JSON tells them apart, and so does the check."""
    assert mismatch({**example(), "pid": True}, STATUS) == "pid"


@pytest.mark.parametrize("odd", [10**400, -(2**63), float("inf"), float("nan")])
def test_a_number_that_no_format_takes_is_named(odd: float) -> None:
    """JSON has no bounds for numbers."""
    assert mismatch({**example(), "uptime_s": odd}, STATUS) == "uptime_s"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, st.sampled_from(PATHS))
def test_any_value_fits_or_is_named(odd: object, row: tuple[str, AnswerField]) -> None:
    """Whatever a server sends in place of a status or of one field, the check returns a
    text; what fits can be shown.
    """
    path, field = row
    assert isinstance(mismatch(odd, STATUS), str)
    status = example()
    parents(status, path)[field.name] = odd
    if not mismatch(status, STATUS):
        as_text(status)
