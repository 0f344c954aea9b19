"""The lines of ``unpd top``: the header, the tables around the cursor, the details of a
row, the help, and the line of hints below.

Called by the screen, which gives the lines their colours, and by the plain text. Pure.
Raises nothing: no line is longer than the terminal is wide, however narrow that is.
"""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from unpd.cli.output import printable
from unpd.cli.top import header
from unpd.cli.top.answers import Answers
from unpd.cli.top.tables import (
    COLUMNS,
    Mark,
    Row,
    Table,
    column_width,
    fitting,
    head_of,
    make_tables,
)
from unpd.cli.top.view import KEYS, View
from unpd.control.answer_fields import AnswerField
from unpd.control.status_fields import STATUS

GAP = "  "
HINTS = "? help  q leave  s sort  r reverse  / filter  p pause  enter details"
_FIELDS = {each.name: {row.name: row for row in each.fields} for each in STATUS if each.fields}
"""What the fields of a row mean, by the name of its table."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line. ``style``: a Mark, or head, cursor, dim or hint."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a terminal, in characters."""

    width: int
    height: int


def text_of(line: Line) -> str:
    """A line without its styles."""
    return "".join(span.text for span in line)


def page(
    view: View, answers: Answers | None, tables: tuple[Table, ...], trouble: str, size: Size
) -> list[Line]:
    """The whole screen: as many lines as it is high, or fewer."""
    if view.help:
        return _help(view, size)
    top = _top(answers, trouble, size)
    room = max(size.height - len(top) - 2, 1)
    if view.details:
        body = [*_details(view, tables)][:room]
    else:
        body = _window(view, tables, Size(size.width, room))
    return _filled([*top, (), *body], _bottom(view, tables), size)


def _filled(lines: list[Line], bottom: Line, size: Size) -> list[Line]:
    """The lines, and one at the bottom of the screen."""
    lines += [()] * (size.height - 1 - len(lines))
    return [_cut(line, size.width) for line in (*lines[: size.height - 1], bottom)]


def _top(answers: Answers | None, trouble: str, size: Size) -> list[Line]:
    """The header, of which long sentences go on in the next line; at most half of the
    screen.
    """
    every = header.lines(answers) if answers else []
    if trouble:
        every.insert(0, header.Line(f"{printable(trouble)}; trying again", Mark.BAD))
    elif answers is None:
        every = [header.Line("asking the daemon")]
    wrapped: list[Line] = [
        (Span(piece, line.mark),)
        for line in every
        for piece in textwrap.wrap(line.text, size.width) or [""]
    ]
    return wrapped[: max(size.height // 2, 1)]


def plain(answers: Answers, wanted: str, width: int) -> str:
    """The header and the tables as text, every row of them."""
    lines: list[Line] = [(Span(line.text),) for line in header.lines(answers)]
    for table in make_tables(answers, {}, wanted):
        shown = fitting(table, width)
        lines += [(), _head(shown), *(_row(shown, row, "") for row in shown.rows)]
    return "\n".join(text_of(line).rstrip() for line in lines)


def _window(view: View, tables: tuple[Table, ...], size: Size) -> list[Line]:
    """The part of the tables around the cursor. Where the head of the table above is
    out of sight, it takes the place of the first line.
    """
    body: list[tuple[Line, Line]] = []  # each line, with the head of its table
    at = 0
    for table in tables:
        shown = fitting(table, size.width, len(GAP))
        head = _head(shown)
        body += [((), ())] if body else []
        body.append((head, head))
        for row in shown.rows:
            chosen = row.key == view.cursor
            at = len(body) if chosen else at
            body.append((_row(shown, row, "cursor" if chosen else ""), head))
    first = max(0, min(at - size.height // 2, len(body) - size.height))
    part = [line for line, _ in body[first : first + size.height]]
    if first and part[0] and at != first:
        part[0] = body[first][1]
    return part


def _head(table: Table) -> Line:
    return _cells(
        table, [head_of(table, column) for column in table.columns], ["head"] * len(table.columns)
    )


def _row(table: Table, row: Row, style: str) -> Line:
    return _cells(
        table, [cell.text for cell in row.cells], [style or cell.mark for cell in row.cells], style
    )


def _cells(table: Table, texts: list[str], styles: list[str], gap_style: str = "") -> Line:
    """A line of a table. Text stands at the left of its column, a number at the
    right.
    """
    spans: list[Span] = []
    for index, column in enumerate(table.columns):
        width = column_width(table, index, column)
        text = texts[index].ljust(width) if column.is_text else texts[index].rjust(width)
        spans += [Span(GAP, gap_style)] if spans else []
        spans.append(Span(text, styles[index]))
    return tuple(spans)


def _details(view: View, tables: tuple[Table, ...]) -> Iterator[Line]:
    """Every field of the row of the cursor, with what it means."""
    for table in tables:
        for row in table.rows:
            if row.key == view.cursor:
                known = _FIELDS.get(table.name, {})
                for name, value in row.values.items():
                    yield from _field(name, value, known.get(name))


def _field(name: str, value: object, field: AnswerField | None) -> Iterator[Line]:
    if isinstance(value, list):
        yield (Span(f"{name}:", "head"),)
        for each in value:
            yield (Span(f"  {printable(json.dumps(each, ensure_ascii=False))}"),)
        return
    shown = field.absent if value is None and field else value
    text = f"{name}: {printable(str(shown))}"
    yield (Span(text.ljust(36)), Span(f"  {field.meaning if field else ''}", "dim"))


def _help(view: View, size: Size) -> list[Line]:
    """One page of the help: the keys, then the columns of each table."""
    pages = {
        "keys": [(row.shown, row.meaning) for row in KEYS],
        **{
            f"columns of {name}": [(column.name, column.meaning) for column in columns]
            for name, columns in COLUMNS.items()
        },
    }
    title, rows = [*pages.items()][view.help - 1]
    lines: list[Line] = [(Span(title, "head"),)]
    lines += [(Span(f"  {word:<11}"), Span(meaning)) for word, meaning in rows]
    return _filled(lines, (Span("?: more  any other key: back", "hint"),), size)


def _bottom(view: View, tables: tuple[Table, ...]) -> Line:
    """The last line: the filter that is typed or holds, the pause, the hints."""
    hidden = sum(table.hidden for table in tables)
    parts = []
    if view.typing:
        parts.append(Span(f"filter: {printable(view.wanted)}_", "warning"))
    elif view.wanted:
        parts.append(Span(f"filter: {printable(view.wanted)} ({hidden} hidden)", "warning"))
    if view.paused:
        parts.append(Span("paused", "warning"))
    line = [piece for part in parts for piece in (part, Span(GAP))]
    return (*line, Span(HINTS, "hint"))


def _cut(line: Line, width: int) -> Line:
    """The line without what does not fit."""
    spans: list[Span] = []
    left = width
    for span in line:
        if left <= 0:
            break
        spans.append(Span(span.text[:left], span.style))
        left -= len(span.text)
    return tuple(spans)
