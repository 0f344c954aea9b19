"""Figures as people read them."""

from typing import Any

import pytest

from tests.support.statuses import WITHOUT_HISTORY
from unpd.cli import status_text
from unpd.cli.top.answers import Answer, Answers
from unpd.cli.top.columns import make_tables
from unpd.control.status_fields import CHILDREN
from unpd.metrics.page import tables
from unpd.metrics.page.files import PageFiles
from unpd.wording import rate_text, reasons_text, size_text, span_text

SIZES = [
    (0, "0 B"),
    (0.4, "0 B"),
    (999, "999 B"),
    (999.5, "1.0 kB"),
    (1_000, "1.0 kB"),
    (1_024, "1.0 kB"),
    (99_949, "99.9 kB"),
    (99_950, "100 kB"),
    (123_456, "123 kB"),
    (999_499, "999 kB"),
    (999_500, "1.0 MB"),
    (12_582_912, "12.6 MB"),
    (1_500_000_000, "1.5 GB"),
    (2.0**62, "4.6 EB"),
    (1e21, "1000 EB"),
]
RATES = [
    (0, "0"),
    (0.04, "0"),
    (0.25, "0.2"),
    (2.26, "2.3"),
    (5.0, "5"),
    (9.94, "9.9"),
    (9.97, "10"),
    (12.34, "12"),
    (12_345.6, "12,346"),
    (1e6, "1,000,000"),
]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (-7200.0, "0 s"),
        (0.31, "0.4 s"),
        (12.0, "12 s"),
        (59.99, "1 min"),
        (61.0, "1 min 1 s"),
        (3600.0, "1 h"),
        (38093.0, "10 h 35 min"),
        (86399.5, "1 d"),
        (90000.5, "1 d 2 h"),
    ],
)
def test_a_span_for_people(seconds: float, text: str) -> None:
    """Has at most two units, and is not shorter than the span."""
    assert span_text(seconds) == text


@pytest.mark.parametrize(("size", "text"), [*SIZES, (None, "-")])
def test_a_size_for_people(size: float | None, text: str) -> None:
    """Has a unit and at most three digits; one after the point helps below 100."""
    assert size_text(size) == text


@pytest.mark.parametrize(("rate", "text"), [*RATES, (None, "-")])
def test_a_rate_for_people(rate: float | None, text: str) -> None:
    """Has one digit after the point where it is small."""
    assert rate_text(rate) == text


SERVICE: dict[str, Any] = {
    "name": "echo",
    "halted": None,
    "reachable": True,
    "active": 0,
    "active_max_10min": 0,
    "peak": 0,
    "limit": None,
    "queued": None,
    "queued_max_10min": None,
    "queued_limit": None,
    "accepted": 0,
    "accepted_per_s": 0.0,
    "received_bytes": 0,
    "received_bytes_per_s": 0.0,
    "sent_bytes": 0,
    "sent_bytes_per_s": 0.0,
    "refused": 0,
    "refused_by_reason": {},
    "refused_per_s": 0.0,
    "would_refuse": 0,
    "datagrams_received": 0,
    "datagrams_per_s": 0.0,
    "datagrams_sent": 0,
    "listeners": [],
}
"""What the status and the page say of a service that does nothing."""
STATUS: dict[str, Any] = {
    "version": "1",
    "pid": 7,
    "phase": "running",
    "ready": True,
    "config": None,
    "degraded": [],
    "retired": [],
    "live_changes": [],
    "generation": 1,
    "uptime_s": 1.0,
    "metrics": None,
    "heartbeat_age_s": None,
    "last_reload": None,
    "stop_ends_at": None,
    "zombies": None,
    "denials": 0,
    "log_lines_dropped": 0,
    "children": [],
    "missing": [],
    **WITHOUT_HISTORY,
}


NO_SIZE, NO_RATE = size_text(0), rate_text(0)
"""What the other fields of the service show, so that a test would find it there."""


def shown(count: str, per_s: float) -> tuple[str, str, str]:
    """A service with this rate, as unpd status, unpd top and the page show it: the
    line, the cells and the row.
    """
    service = {**SERVICE, f"{count}_per_s": per_s}
    status = status_text.as_text({**STATUS, "services": [service]}).splitlines()[-1]
    before, after = (
        Answer({**STATUS, "services": [{**SERVICE, count: total}]}, at)
        for total, at in ((0, 0.0), (per_s, 1.0))
    )
    (row,) = make_tables(Answers(after, before), {}, "")[0].rows
    return status, "|".join(cell.text for cell in row.cells), tables.services([service])


@pytest.mark.parametrize(
    ("count", "per_s", "text"),
    [("received_bytes", *pair) for pair in SIZES if pair[1] != NO_SIZE]
    + [("accepted", *pair) for pair in RATES if pair[1] != NO_RATE],
)
def test_a_figure_has_one_form_everywhere(count: str, per_s: float, text: str) -> None:
    """The status, ``unpd top`` and the page show sizes and rates in the same way."""
    status, top, page = shown(count, per_s)
    assert f"  {text} " in status
    assert f"|{text}|" in top
    assert f"<td>{text}<td>" in page


def test_the_script_of_the_page_has_no_form_of_its_own() -> None:
    """It takes over what the server has rendered, and formats no number."""
    script = PageFiles.read().js.decode()
    assert "takeOver" in script
    for word in ("toFixed", "toPrecision", "toLocaleString", "Intl", "Math."):
        assert word not in script


def test_why_clients_were_refused() -> None:
    """Nobody, one reason, or the most frequent one; a daemon may send anything."""
    assert reasons_text({}) == ""
    assert reasons_text({"deny": 3}) == "deny"
    assert reasons_text({"deny": 3, "max_load": 4, "paused": 1}) == "mostly max_load"
    assert reasons_text({"deny": None, "max_load": "4", "paused": [], "": {}}) == ""


def test_refusals_and_ends_are_worded_in_one_way() -> None:
    """The status, ``unpd top`` and the page; each has a form of time of its own."""
    end = {"ended": "killed by SIGKILL", "pid": 17, "at": "2026-11-22T21:23:10Z"}
    service = {**SERVICE, "refused": 9, "refused_by_reason": {"deny": 2, "max_connections": 7}}
    child = {field.name: None for field in CHILDREN} | {
        "kind": "worker",
        "pool": "default",
        "index": 0,
        "phase": "ready",
        "generation": 1,
        "birth": 1,
        "age_s": 1.0,
        "last_end": end,
    }
    status = {**STATUS, "services": [service], "children": [child]}
    texts = [status_text.as_text(status)]
    rows = [table.rows[0] for table in make_tables(Answers(Answer(status, 0.0)), {}, "")[:2]]
    texts.append("|".join(cell.text for row in rows for cell in row.cells))
    texts.append(tables.services([service]) + tables.children([child], "2026-11-22T22:00:00Z"))
    forms = ("2026-11-22T21:23:10Z", "11-22 21:23:10", "21:23:10")
    for text, at in zip(texts, forms, strict=True):
        assert "mostly max_connections" in text
        assert f"killed by SIGKILL, pid 17, {at}" in text
