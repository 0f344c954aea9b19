"""Tables for people: columns that are aligned, with a header.

Called by the texts of several verbs. Pure. Raises nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Values = dict[str, Any]
Columns = Mapping[str, Callable[[Values], str]]
"""The cell of each column, by the header."""


def table(columns: Columns, values: Sequence[Values]) -> str:
    """A line for each of the values, below the header."""
    cells = [tuple(cell(one) for cell in columns.values()) for one in values]
    return aligned([tuple(columns), *cells])


def needed(columns: Columns, if_any: Mapping[str, str], values: Sequence[Values]) -> Columns:
    """The columns without those that say nothing. ``if_any``: the field of a column
    that is left out where it is 0, null or empty in all of the values.
    """
    return {
        header: cell
        for header, cell in columns.items()
        if header not in if_any or any(one[if_any[header]] for one in values)
    }


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The rows, with their cells one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
