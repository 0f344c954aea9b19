"""The form of the fields of answers: name, type, meaning. The rows stand in modules by
topic: :mod:`unpd.control.status_fields`, ``history_fields``, ``view_fields``,
``client_fields``, ``change_fields``, ``reload_fields`` and ``page_fields``.

The rows are read by the command line, which checks an answer against them before it
reads one, by ``make manual``, and by tests that compare the master's answers with them.

Within one number of the schema, fields may be added, and none goes away or changes its
meaning. Owns nothing; raises nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd.names import ANSWER_SCHEMA

SCHEMA = ANSWER_SCHEMA

TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "text": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "object": (dict,),
        "list": (list,),
    }
)
"""The types of fields, and those of Python that JSON gives for each."""

LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class AnswerField:
    """One row. ``fields``: those of an object, or of each object in a list.
    ``absent``: what null means, "" if the field is never null.
    """

    name: str
    type: str
    meaning: str
    absent: str = ""
    fields: tuple["AnswerField", ...] = ()


def paths(fields: tuple[AnswerField, ...], before: str = "") -> Iterator[tuple[str, AnswerField]]:
    """Yield each field with its path, such as ``services[].name``."""
    for field in fields:
        path = f"{before}{field.name}"
        yield path, field
        yield from paths(field.fields, f"{path}[]." if field.type == "list" else f"{path}.")


def mismatch(answer: object, fields: tuple[AnswerField, ...]) -> str:
    """Return the path of the first field that is not as in the table, "" if every field
    is. The items of a list without fields are not looked at.
    """
    return _mismatch(answer, fields, "")


def _mismatch(values: object, fields: tuple[AnswerField, ...], before: str) -> str:
    if not isinstance(values, dict):
        return before.rstrip(".") or "at all"
    for field in fields:
        value = values.get(field.name)
        if value is None and field.absent and field.name in values:
            continue
        if not _fits(value, field):
            return f"{before}{field.name}"
        if field.fields and (wrong := _mismatch_below(value, field, f"{before}{field.name}")):
            return wrong
    return ""


def _mismatch_below(value: object, field: AnswerField, path: str) -> str:
    parts = value if isinstance(value, list) else [value]
    below = f"{path}[]." if field.type == "list" else f"{path}."
    return next(filter(None, (_mismatch(part, field.fields, below) for part in parts)), "")


def _fits(value: object, field: AnswerField) -> bool:
    """Whether a value is of the field's type: a number is none that arithmetic or a
    format could refuse.
    """
    if type(value) not in TYPES[field.type] or (field.name == "schema" and value != SCHEMA):
        return False
    return not isinstance(value, int | float) or -LARGEST < value < LARGEST
