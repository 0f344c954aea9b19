"""The lines of ``unpd top``: the header, the charts, the tables around the cursor, the
details of a row, the help, and the line of hints below.

Called by the screen, which gives the lines their colours, and by the plain text. Pure.
Raises nothing: no line of the screen is longer than the terminal is wide, however
narrow that is.
"""

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

from unpd.cli import history_text
from unpd.cli.output import printable
from unpd.cli.top import bars, header
from unpd.cli.top.answers import Answers
from unpd.cli.top.columns import (
    COLUMNS,
    Mark,
    Row,
    Table,
    fitting,
    head_of,
    make_tables,
)
from unpd.cli.top.view import KEYS, View
from unpd.control.answer_fields import AnswerField
from unpd.control.status_fields import STATUS

GAP = "  "
MEANING_AT = 36
"""The column at which the meaning of a field begins."""
HINTS = "? help  q leave  s sort  r reverse  / filter  p pause  c charts  enter details"
ROOM_FOR_TABLES = 7
"""The charts leave so many lines for the tables, or are not shown."""
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
    below, room = 0, _room(top, size)
    if view.details:
        every = [*_details(view, tables, size.width)]
        first = min(view.scroll, max(len(every) - room, 0))
        body = every[first : first + room]
        below = len(every) - first - len(body)
    else:
        charts = _charts(view, answers, Size(size.width, room))
        body = [*charts, *_window(view, tables, Size(size.width, room - len(charts)))]
    return _filled([*top, (), *body], _bottom(view, tables, below), size)


def bounded(
    view: View, answers: Answers | None, tables: tuple[Table, ...], trouble: str, size: Size
) -> View:
    """The view, scrolled no further than the page goes."""
    if not view.scroll:
        return view
    room = _room(_top(answers, trouble, size), size)
    lines = sum(1 for _ in _details(view, tables, size.width))
    return replace(view, scroll=min(view.scroll, max(lines - room, 0)))


def _room(top: list[Line], size: Size) -> int:
    """How many lines there are between the header and the bottom."""
    return max(size.height - len(top) - 2, 1)


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


def _charts(view: View, answers: Answers | None, size: Size) -> list[Line]:
    """The charts and a gap, if the tables have room below them."""
    if answers is None or not view.charts:
        return []
    texts = bars.lines(answers.last.status, size.width, glyphs=view.glyphs)
    if not texts or size.height - len(texts) - 1 < ROOM_FOR_TABLES:
        return []
    head, *rows = texts
    return [(Span(head, "head"),), *((Span(row),) for row in rows), ()]


def plain(answers: Answers, wanted: str, width: int) -> str:
    """The header, the charts as numbers, and the tables as text, every row of them. A
    table from which columns are left out ends where the terminal does; the sentences of
    events and of the header go on.
    """
    lines: list[Line] = [(Span(line.text),) for line in header.lines(answers)]
    charts = history_text.charts(answers.last.status)
    lines += [(), *((Span(line),) for line in charts)] if charts else []
    for table in make_tables(answers, {}, wanted):
        shown = fitting(table, width)
        rows = [_head(shown), *(_row(shown, row, "") for row in shown.rows)]
        is_whole = len(shown.columns) == len(table.columns)
        lines += [(), *(rows if is_whole else (_cut(row, width) for row in rows))]
    return "\n".join(text_of(line).rstrip() for line in lines)


def _window(view: View, tables: tuple[Table, ...], size: Size) -> list[Line]:
    """The part of the tables around the cursor. Where the head of the table above is
    out of sight, it takes the place of the first line.
    """
    places: list[tuple[Table | None, Row | None]] = []  # a row, a head, or a gap
    for table in tables:
        shown = fitting(replace(table, rows=()), size.width, len(GAP))
        places += [(None, None)] if places else []
        places += [(shown, None), *((shown, row) for row in table.rows)]
    cursor = (at for at, (_, row) in enumerate(places) if row and row.key == view.cursor)
    at = next(cursor, 0)
    first = max(0, min(at - size.height // 2, len(places) - size.height))
    part = places[first : first + size.height]
    if first and at != first:
        part[0] = part[0][0], None
    return [_place(view, table, row) for table, row in part]


def _place(view: View, table: Table | None, row: Row | None) -> Line:
    if table is None:
        return ()
    if row is None:
        return _head(table)
    return _row(table, row, "cursor" if row.key == view.cursor else "")


def _head(table: Table) -> Line:
    heads = [head_of(column, table.order) for column in table.columns]
    return _cells(table, heads, ["head"] * len(heads))


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
        width = table.widths[index]
        text = texts[index].ljust(width) if column.is_text else texts[index].rjust(width)
        spans += [Span(GAP, gap_style)] if spans else []
        spans.append(Span(text, styles[index]))
    return tuple(spans)


def _details(view: View, tables: tuple[Table, ...], width: int) -> Iterator[Line]:
    """Every field of the row of the cursor, with what it means. What is too long for a
    line goes on in the next one.
    """
    for table in tables:
        for row in table.rows:
            if row.key == view.cursor:
                known = _FIELDS.get(table.name, {})
                for name, value in row.values.items():
                    yield from _field(name, value, known.get(name), width)


def _field(name: str, value: object, field: AnswerField | None, width: int) -> Iterator[Line]:
    if isinstance(value, list | dict):
        yield (Span(f"{name}:", "head"),)
        for each in value if isinstance(value, list) else [value]:
            yield from _wrapped(printable(json.dumps(each, ensure_ascii=False)), width, "  ")
        return
    shown = field.absent if value is None and field else value
    text = f"{name}: {printable(str(shown))}"
    meaning = field.meaning if field else ""
    if len(text.ljust(MEANING_AT) + GAP + meaning) <= width:
        yield (Span(text.ljust(MEANING_AT)), Span(GAP + meaning, "dim"))
        return
    yield from _wrapped(text, width, "")
    yield from _wrapped(meaning, width, "    ", "dim")


def _wrapped(text: str, width: int, indent: str, style: str = "") -> Iterator[Line]:
    lines = textwrap.wrap(
        text,
        max(width, 1),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )
    return ((Span(line, style),) for line in lines)


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


def _bottom(view: View, tables: tuple[Table, ...], below: int) -> Line:
    """The last line: how much of the details is below, the filter that is typed or
    holds, the pause, the hints.
    """
    hidden = sum(table.hidden for table in tables)
    parts = []
    if below:
        parts.append(Span(f"{below} more below: page down", "warning"))
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
