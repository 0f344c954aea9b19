"""The tables of ``unpd top``, services, children and events: their columns, and their
rows filtered and sorted.

Called by the screen and by the plain text; calls :mod:`unpd.cli.top.answers`. Pure.
Raises nothing. A column of which no row has a value is left out, such as drops where
the kernel has dropped nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from unpd.cli.output import printable
from unpd.cli.tables import Values
from unpd.cli.top import figures
from unpd.cli.top.answers import Answers, Pair, total
from unpd.names import MISSING, ChildPhase
from unpd.wording import NOTHING, end_text, rate_text, reasons_text, size_text

NEAR_LIMIT = 0.8
"""From which part of its limit on a queue, or the number of connections, is marked."""

Key = tuple[str, str | int]
"""Which row it is, in each answer: the table, and a name or a number."""


class Mark(StrEnum):
    """How a cell stands out."""

    NONE = ""
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``value``: by which it is sorted; None: not known."""

    value: float | str | None
    text: str
    mark: Mark = Mark.NONE


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``name``: what its head says. ``is_text``: it stands at the left, and
    its first order is that of the alphabet; numbers begin with the largest.
    ``is_long``: the edge of the terminal may cut it off; then it is the last one.
    """

    name: str
    meaning: str
    cell: Callable[[Pair], Cell]
    is_text: bool = False
    is_long: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row, with a cell for each column."""

    key: Key
    cells: tuple[Cell, ...]
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """By which column a table is sorted; "" for the order of the daemon."""

    column: str = ""
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown. ``widths``: of the columns. ``hidden``: how many rows the
    filter leaves out.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    order: Order
    widths: tuple[int, ...]
    hidden: int = 0


def _text(name: str) -> Callable[[Pair], Cell]:
    def cell(pair: Pair) -> Cell:
        value = pair.now.get(name)
        return Cell(None, NOTHING) if value is None else Cell(str(value), str(value))

    return cell


def _number(
    name: str, shown: Callable[[float | None], str] = figures.count
) -> Callable[[Pair], Cell]:
    return lambda pair: Cell(pair.number(name), shown(pair.number(name)))


def _rate(
    name: str, shown: Callable[[float | None], str] = rate_text, mark: Mark = Mark.NONE
) -> Callable[[Pair], Cell]:
    """The rate of a count. ``mark``: of one that is not 0. Before the second answer the
    value is not known, but the column is there.
    """

    def cell(pair: Pair) -> Cell:
        value = pair.rate(name)
        if value is None and pair.number(name) is not None:
            return Cell(-1.0, NOTHING)
        return Cell(value, shown(value), mark if value else Mark.NONE)

    return cell


def _pid(pair: Pair) -> Cell:
    pid = pair.number("pid")
    return Cell(pid, NOTHING if pid is None else f"{pid:.0f}")


def _open(pair: Pair) -> Cell:
    """The open connections, marked near the limit."""
    active, limit = pair.number("active"), pair.number("limit")
    near = active is not None and limit and active >= NEAR_LIMIT * limit
    return Cell(active, figures.count(active), Mark.WARNING if near else Mark.NONE)


def _queue(pair: Pair) -> Cell:
    """The fullest accept queue of the service's listeners, with its limit."""
    queues = [listener.get("queue") for listener in pair.now.get("listeners", [])]
    known = [(queue["length"], queue["limit"]) for queue in queues if queue]
    if not known:
        return Cell(None, NOTHING)
    length, limit = max(known, key=lambda queue: queue[0] / max(queue[1], 1))
    part = length / max(limit, 1)
    return Cell(part, f"{length}/{limit}", Mark.WARNING if part >= NEAR_LIMIT else Mark.NONE)


def _halt(pair: Pair) -> Cell:
    """How an operator has halted the service; nothing where it takes new clients."""
    halted = pair.now.get("halted")
    if halted is None:
        return Cell(None, "")
    return Cell(str(halted), str(halted), Mark.WARNING)


def _drops(pair: Pair) -> Cell:
    """How much the kernel has dropped at the listeners of the service, if anything."""
    drops = total(_dropped(listener) for listener in pair.now.get("listeners", []))
    return Cell(drops, figures.count(drops), Mark.WARNING) if drops else Cell(None, "")


def _would_refuse(pair: Pair) -> Cell:
    """How many clients it has let in because a reason is only observed, if any."""
    count = pair.number("would_refuse")
    return Cell(count, figures.count(count), Mark.WARNING) if count else Cell(None, "")


def _reason(pair: Pair) -> Cell:
    """Why clients were refused, of several reasons the most frequent, if any was."""
    reason = reasons_text(pair.now.get("refused_by_reason") or {})
    return Cell(reason, reason) if reason else Cell(None, "")


def _dropped(listener: Values) -> float | None:
    return Pair(listener, None, 0.0).number("drops")


def _slot(pair: Pair) -> Cell:
    """The place of a child: its service if it has only one, else pool and number."""
    service, pool = pair.now.get("service"), pair.now.get("pool")
    text = str(service) if service is not None else f"{pool}/{pair.now.get('index')}"
    return Cell(text, text)


_PHASE_MARKS: Mapping[str, Mark] = MappingProxyType(
    {
        ChildPhase.READY.value: Mark.GOOD,
        ChildPhase.STARTING.value: Mark.WARNING,
        ChildPhase.DRAINING.value: Mark.WARNING,
        ChildPhase.KILLED.value: Mark.BAD,
        MISSING: Mark.BAD,
    }
)


def _phase(pair: Pair) -> Cell:
    phase = str(pair.now.get("phase"))
    return Cell(phase, phase, _PHASE_MARKS.get(phase, Mark.NONE))


def _time(pair: Pair) -> Cell:
    """The time of an event, sorted with its year and shown without it."""
    time = str(pair.now.get("time"))
    return Cell(time, _without_year(time))


def _last_end(pair: Pair) -> Cell:
    """How the last child of the slot ended, sorted by the time, if one has."""
    end = pair.now.get("last_end")
    return Cell(end["at"], end_text(end, _without_year(end["at"]))) if end else Cell(None, "")


def _without_year(moment_text: str) -> str:
    return moment_text[5:].replace("T", " ").removesuffix("Z")


_LEVEL_MARKS: Mapping[str, Mark] = MappingProxyType({"warning": Mark.WARNING, "error": Mark.BAD})


def _level(pair: Pair) -> Cell:
    level = str(pair.now.get("level"))
    return Cell(level, level, _LEVEL_MARKS.get(level, Mark.NONE))


SERVICES: tuple[Column, ...] = (
    Column("SERVICE", "its name", _text("name"), is_text=True),
    Column("HALTED", "how an operator keeps new clients out", _halt, is_text=True),
    Column("OPEN", "connections that are open", _open),
    Column("PEAK", "most that were open within a minute", _number("peak")),
    Column("MAX", "most that were open within ten minutes", _number("active_max_10min")),
    Column("LIMIT", "how many may be open", _number("limit")),
    Column("NEW/s", "connections accepted in a second", _rate("accepted")),
    Column("QUEUE", "the fullest accept queue, and its limit", _queue),
    Column("DROPS", "connections and datagrams that the kernel dropped", _drops),
    Column("REFUSED", "connections and datagrams refused so far", _number("refused")),
    Column("REF/s", "refused in a second", _rate("refused", mark=Mark.WARNING)),
    Column("WOULD REF", "let in so far, as the reason is only observed", _would_refuse),
    Column("REASON", "why most were refused", _reason, is_text=True, is_long=True),
    Column("IN/s", "bytes received in a second", _rate("received_bytes", size_text)),
    Column("OUT/s", "bytes sent in a second", _rate("sent_bytes", size_text)),
    Column("DGRAM/s", "datagrams received in a second", _rate("datagrams_received")),
    Column("ACCEPTED", "connections accepted so far", _number("accepted")),
)
"""The most important first: where the terminal is narrow, the last are left out."""
CHILDREN: tuple[Column, ...] = (
    Column("KIND", "what it does", _text("kind"), is_text=True),
    Column("SLOT", "its pool and place there, or its service", _slot, is_text=True),
    Column("PID", "its process", _pid),
    Column("STATE", "starting, ready, draining, killed or missing", _phase, is_text=True),
    Column("AGE", "how long it has lived", _number("age_s", figures.span)),
    Column("CONN", "its open connections", _number("connections")),
    # Samples of once a second: a rate between two answers would jump.
    Column("CPU", "how much of one processor it takes", _number("cpu_percent", figures.percent)),
    Column("MEM", "its memory in RAM, in bytes", _number("memory_bytes", size_text)),
    Column(
        "LAST END",
        "how and when (UTC) the last child of its slot ended",
        _last_end,
        is_text=True,
        is_long=True,
    ),
    Column("GEN", "its generation", _number("generation")),
    Column("BIRTH", "the serial number of its start", _number("birth")),
    Column("BEAT", "how old its last sign of life is", _number("heartbeat_age_s", figures.span)),
    Column("ACCEPTED", "connections that it has accepted", _number("accepted")),
)
"""The same of children."""
EVENTS: tuple[Column, ...] = (
    Column("TIME (UTC)", "when it was", _time, is_text=True),
    Column("LEVEL", "the level of its line in the log", _level, is_text=True),
    Column("EVENT", "its name in the log", _text("event"), is_text=True),
    Column("DETAILS", "a sentence", _text("text"), is_text=True, is_long=True),
)
"""The same of events."""
COLUMNS: Mapping[str, tuple[Column, ...]] = MappingProxyType(
    {"services": SERVICES, "children": CHILDREN, "events": EVENTS}
)
"""The columns of each table, by its name."""


_KEYS: Mapping[str, str] = MappingProxyType(
    {"services": "name", "children": "birth", "events": "number"}
)
"""The field that tells the rows of a table from each other."""


def make_tables(answers: Answers, orders: Mapping[str, Order], wanted: str) -> tuple[Table, ...]:
    """All tables. ``wanted``: the text of the filter, "" for every row."""
    pairs = {
        "services": answers.services(),
        "children": answers.children(),
        "events": answers.events(),
    }
    made = []
    for name, columns in COLUMNS.items():
        rows = [Row(_key(name, pair), _cells(columns, pair), pair.now) for pair in pairs[name]]
        made.append(_arranged(name, rows, orders.get(name, Order()), wanted))
    return tuple(made)


def _key(table: str, pair: Pair) -> Key:
    """Which row it is. A slot without a child has no number, but a kind and a place."""
    found = pair.now.get(_KEYS[table])
    return table, f"{pair.now.get('kind')} {_slot(pair).text}" if found is None else found


def _cells(columns: tuple[Column, ...], pair: Pair) -> tuple[Cell, ...]:
    cells = (column.cell(pair) for column in columns)
    return tuple(Cell(cell.value, printable(cell.text), cell.mark) for cell in cells)


def _arranged(name: str, rows: list[Row], order: Order, wanted: str) -> Table:
    """The rows that the filter wants, in order, without columns that nobody knows."""
    columns = COLUMNS[name]
    known = [
        index
        for index in range(len(columns))
        if any(row.cells[index].value is not None for row in rows)
    ]
    chosen = [row for row in rows if _matches(row, wanted)]
    index = next((at for at, column in enumerate(columns) if column.name == order.column), None)
    if index is not None:
        chosen = _sorted(chosen, index, descending=order.reverse != (not columns[index].is_text))
    return Table(
        name=name,
        columns=tuple(columns[index] for index in known),
        rows=tuple(
            Row(row.key, tuple(row.cells[index] for index in known), row.values) for row in chosen
        ),
        order=order,
        widths=tuple(
            max(
                [
                    len(head_of(columns[index], order)),
                    *(len(row.cells[index].text) for row in chosen),
                ]
            )
            for index in known
        ),
        hidden=len(rows) - len(chosen),
    )


def _matches(row: Row, wanted: str) -> bool:
    return any(wanted.lower() in cell.text.lower() for cell in row.cells)


def _sorted(rows: list[Row], index: int, *, descending: bool) -> list[Row]:
    """In the order of one column; what is not known comes last."""

    def value(row: Row) -> tuple[float, str]:
        found = row.cells[index].value
        return (0.0, found) if isinstance(found, str) else (found or 0.0, "")

    known = [row for row in rows if row.cells[index].value is not None]
    unknown = [row for row in rows if row.cells[index].value is None]
    return sorted(known, key=value, reverse=descending) + unknown


def fitting(table: Table, width: int, gap: int = 2) -> Table:
    """The table without its last columns, as far as it is wider than that."""
    keep, used = 0, 0
    for index, wide in enumerate(table.widths):
        column, least = table.columns[index], used + gap * (index > 0)
        used = least + wide
        if used > width and index > 1:
            is_cut = column.is_long and least + len(column.name) <= width
            keep = index + is_cut
            break
        keep = index + 1
    return replace(
        table,
        columns=table.columns[:keep],
        rows=tuple(Row(row.key, row.cells[:keep], row.values) for row in table.rows),
        widths=table.widths[:keep],
    )


def head_of(column: Column, order: Order) -> str:
    """The head of a column, with the direction of the order if it has it."""
    if column.name != order.column:
        return column.name
    return f"{column.name} {'^' if order.reverse != column.is_text else 'v'}"
