"""The tables of services and children: columns, filter, order."""

from typing import Any

import pytest

from tests.support.statuses import answered, child, service, status
from unpd.cli.top.columns import Mark, Order, Table, fitting, make_tables

ECHO = service("echo", accepted=50, active=9, refused=2)
TIME = service("time", accepted=200, active=1)
LATER = [service("echo", accepted=70, active=9, refused=4), TIME]


def services(*statuses: dict[str, Any], order: Order | None = None, wanted: str = "") -> Table:
    """The table of services after these answers."""
    orders = {"services": order} if order else {}
    return make_tables(answered(*statuses), orders, wanted)[0]


def children(*rows: dict[str, Any], wanted: str = "") -> Table:
    """The table of children in one answer."""
    return make_tables(answered(status(children=list(rows))), {}, wanted)[1]


def column(table: Table, name: str) -> list[str]:
    """The texts of one column."""
    (index,) = (at for at, each in enumerate(table.columns) if each.name == name)
    return [row.cells[index].text for row in table.rows]


def names(table: Table) -> list[str]:
    """The names of the columns."""
    return [each.name for each in table.columns]


def test_counts_and_rates_stand_side_by_side() -> None:
    """Rates are those between the last two answers."""
    table = services(status(services=[ECHO, TIME]), status(services=LATER))
    assert column(table, "SERVICE") == ["echo", "time"]
    assert column(table, "OPEN") == ["9", "1"]
    assert column(table, "NEW/s") == ["10", "0"]
    assert column(table, "REFUSED") == ["4", "0"]
    assert column(table, "QUEUE") == ["0/4096", "0/4096"]


def test_a_rate_is_unknown_before_the_second_answer() -> None:
    """Its column is there from the start, so that no column moves a second later."""
    assert column(services(status(services=[ECHO])), "NEW/s") == ["-"]


def test_a_field_that_no_row_has_is_no_column() -> None:
    """A daemon of another version may not tell it. One row that has it is enough."""
    assert "PEAK" not in names(services(status(services=[ECHO, TIME])))
    with_peak = services(status(services=[{**ECHO, "peak": 40}, TIME]))
    assert column(with_peak, "PEAK") == ["40", "-"]


def test_what_is_rare_has_a_column_only_while_it_is_there() -> None:
    """Drops of the kernel, and a halt by an operator."""
    listener = {"address": "x", "queue": None}
    quiet = {**ECHO, "halted": None, "listeners": [{**listener, "drops": 0}]}
    assert not {"DROPS", "HALTED"} & set(names(services(status(services=[quiet]))))
    listeners = [{**listener, "drops": drops} for drops in (None, 2, 3)]
    rare = {**ECHO, "halted": "paused", "listeners": listeners}
    table = services(status(services=[rare, {**quiet, "name": "time"}]))
    assert column(table, "DROPS") == ["5", ""]
    assert column(table, "HALTED") == ["paused", ""]


def test_what_is_only_observed_stands_beside_the_refusals() -> None:
    """Where there is any: an operator who tries a rule out looks for it there."""
    assert "WOULD REF" not in names(services(status(services=[{**ECHO, "would_refuse": 0}, TIME])))
    observed = {**ECHO, "would_refuse": 12}
    table = services(status(services=[observed, TIME]))
    assert column(table, "WOULD REF") == ["12", ""]
    at = names(table).index("WOULD REF")
    assert names(table)[at - 2 : at] == ["REFUSED", "REF/s"]
    (mark,) = {cell.mark for cell in table.rows[0].cells if cell.text == "12"}
    assert mark is Mark.WARNING


def test_why_clients_are_refused_stands_beside_the_refusals() -> None:
    """The most frequent reason, where anybody was refused."""
    assert "REASON" not in names(services(status(services=[ECHO])))
    several = {**ECHO, "refused_by_reason": {"deny": 2, "max_connections": 7}}
    single = {**TIME, "refused_by_reason": {"paused": 1}}
    table = services(status(services=[several, single, service("discard")]))
    assert column(table, "REASON") == ["mostly max_connections", "paused", ""]
    assert names(table)[names(table).index("REASON") - 1] == "REF/s"


def test_the_maximum_stands_before_the_limit() -> None:
    """That of the last minute, that of ten minutes, and the limit."""
    row = {**ECHO, "peak": 4, "active_max_10min": 41, "limit": 50}
    table = services(status(services=[row]))
    at = names(table).index("PEAK")
    assert names(table)[at : at + 3] == ["PEAK", "MAX", "LIMIT"]
    assert column(table, "MAX") == ["41"]


def test_the_last_end_of_a_slot_is_shown() -> None:
    """Only while there is any."""
    assert "LAST END" not in names(children(child(1)))
    end = {"ended": "exit code 3", "pid": 17, "at": "2026-11-22T21:23:10Z"}
    table = children(child(1, last_end=end), child(2))
    assert column(table, "LAST END") == ["exit code 3, pid 17, 11-22 21:23:10", ""]


def test_a_slot_without_a_child_has_a_row() -> None:
    """With nothing but how its last child ended. It has a place for the cursor."""
    end = {"ended": "exit code 3", "pid": 17, "at": "2026-11-22T21:23:10Z"}
    slot = {"kind": "worker", "pool": "default", "index": 2, "service": None, "last_end": end}
    table = make_tables(answered(status(children=[child(1)], missing=[slot])), {}, "")[1]
    assert column(table, "SLOT") == ["default/1", "default/2"]
    assert column(table, "STATE") == ["ready", "missing"]
    assert column(table, "AGE") == ["1m01s", "-"]
    assert column(table, "LAST END") == ["", "exit code 3, pid 17, 11-22 21:23:10"]
    assert [row.key for row in table.rows] == [("children", 1), ("children", "worker default/2")]


def test_the_fullest_queue_is_shown() -> None:
    """A UNIX listener has none that is known."""
    queues = [None, {"length": 1, "limit": 100}, {"length": 90, "limit": 100}]
    row = {**ECHO, "listeners": [{"address": "x", "queue": queue} for queue in queues]}
    table = services(status(services=[row]))
    assert column(table, "QUEUE") == ["90/100"]
    marks = {cell.text: cell.mark for cell in table.rows[0].cells}
    assert marks["90/100"] is Mark.WARNING


@pytest.mark.parametrize(
    ("limit", "mark"), [(None, Mark.NONE), (0, Mark.NONE), (10, Mark.WARNING), (100, Mark.NONE)]
)
def test_connections_near_their_limit_are_marked(limit: int | None, mark: Mark) -> None:
    """0 stands for no limit in the configuration."""
    table = services(status(services=[{**ECHO, "limit": limit}]))
    (cell,) = (row.cells[names(table).index("OPEN")] for row in table.rows)
    assert (cell.text, cell.mark) == ("9", mark)


@pytest.mark.parametrize(
    ("order", "rows"),
    [
        (Order(), ["echo", "time", "discard"]),
        (Order("SERVICE"), ["discard", "echo", "time"]),
        (Order("SERVICE", reverse=True), ["time", "echo", "discard"]),
        (Order("ACCEPTED"), ["time", "echo", "discard"]),
        (Order("ACCEPTED", reverse=True), ["echo", "time", "discard"]),
    ],
)
def test_rows_have_the_order_of_a_column(order: Order, rows: list[str]) -> None:
    """Text begins with a, numbers with the largest, and what is not known is last in
    both directions.
    """
    unknown = service("discard", accepted=None)
    table = services(status(services=[ECHO, TIME, unknown]), order=order)
    assert column(table, "SERVICE") == rows


def test_the_filter_looks_into_every_column() -> None:
    """Whether its letters are large or small. It says how many rows it hides."""
    rows = [child(1), child(2, phase="draining"), child(3, kind="exporter", pool="exporter")]
    table = children(*rows, wanted="DRAIN")
    assert (column(table, "PID"), table.hidden) == (["102"], 2)
    assert column(children(*rows, wanted="101"), "STATE") == ["ready"]
    assert column(children(*rows, wanted="nothing"), "PID") == []


def test_a_child_is_named_by_its_place() -> None:
    """One that serves a service of its own, by that."""
    table = children(child(1), child(2, kind="iterative", service="daytime", pid=None))
    assert column(table, "SLOT") == ["default/1", "daytime"]
    assert column(table, "PID") == ["101", "-"]
    assert column(table, "AGE") == ["1m01s", "1m01s"]


def test_text_of_a_daemon_controls_no_terminal() -> None:
    """Every cell is printable."""
    table = services(status(services=[service("echo\x1b[2J")]))
    assert column(table, "SERVICE") == ["echo\\x1b[2J"]


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
def test_a_narrow_terminal_has_fewer_columns(width: int) -> None:
    """The last ones go first, and the name always stays."""
    table = services(status(services=[ECHO, TIME]))
    shown = fitting(table, width)
    assert names(shown) == names(table)[: len(shown.columns)]
    assert len(shown.columns) >= 2
    assert all(len(row.cells) == len(shown.columns) for row in shown.rows)
    if width == 200:
        assert shown == table


def test_the_edge_may_cut_off_a_long_column() -> None:
    """It is there if its name fits, and only the whole of it has others behind it."""
    end = {"ended": "exit code 3", "pid": 17, "at": "2026-11-22T21:23:10Z"}
    table = children(child(1, last_end=end))
    index = names(table).index("LAST END")
    before = sum(table.widths[:index]) + 2 * index
    for width, last in (
        (before + len("LAST END") - 1, "AGE"),
        (before + len("LAST END"), "LAST END"),
        (before + table.widths[index], "LAST END"),
        (before + table.widths[index] + 2 + len("GEN"), "GEN"),
    ):
        assert names(fitting(table, width))[-1] == last
