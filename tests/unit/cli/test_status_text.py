"""What ``unpd status`` shows to people."""

import re
from typing import Any

import pytest

from tests.support.statuses import WITHOUT_HISTORY, event, lately
from unpd.cli.status_text import as_text

UNTIL = "2026-11-30T02:00:00Z"
CHANGE = ("change", "subject", "value", "configured", "until")
HEALTHY: dict[str, Any] = {
    "schema": 1,
    "version": "1.2.3",
    "pid": 7,
    "config": "/etc/unpd/unpd.toml",
    "metrics": "tcp://127.0.0.1:9867",
    "phase": "running",
    "ready": True,
    "degraded": [],
    "generation": 3,
    "uptime_s": 12.3,
    "heartbeat_age_s": 0.4,
    "last_reload": None,
    "stop_ends_at": None,
    "retired": [],
    "live_changes": [],
    "zombies": 0,
    "denials": 1234,
    "log_lines_dropped": 5,
    "services": [],
    "children": [],
    "missing": [],
    **WITHOUT_HISTORY,
}


def lines(**changes: Any) -> list[str]:
    """Return the lines for a healthy daemon with these changes."""
    return as_text({**HEALTHY, **changes}).split("\n")


def test_a_healthy_daemon() -> None:
    """The first lines are its state, its configuration and its metrics."""
    assert lines() == [
        "unpd 1.2.3: ready, pid 7, generation 3, up 12 s",
        "configuration: /etc/unpd/unpd.toml",
        "metrics: tcp://127.0.0.1:9867",
        "heartbeat 0.4 s ago, zombies 0, denied networks 1,234, log lines lost 5",
    ]


def test_without_a_file_and_metrics() -> None:
    """Words stand for what there is not."""
    assert lines(config=None, metrics=None, heartbeat_age_s=None, zombies=None)[1:] == [
        "configuration: the built-in default",
        "metrics: off",
        "heartbeat -, zombies -, denied networks 1,234, log lines lost 5",
    ]


@pytest.mark.parametrize(
    ("phase", "ready", "state"),
    [
        ("running", True, "ready"),
        ("running", False, "not ready"),
        ("starting", False, "starting"),
        ("lame", False, "lame"),
        ("stopping", False, "stopping"),
        ("proving", True, "ready, reloading (proving)"),
        ("loading", False, "not ready, reloading (loading)"),
    ],
)
def test_the_state(phase: str, ready: bool, state: str) -> None:
    """Whether clients are served comes first. "running" is never shown: it would say
    less than it seems to.
    """
    assert lines(phase=phase, ready=ready)[0].split(", pid")[0] == f"unpd 1.2.3: {state}"


def test_a_fault_and_a_generation_with_retired_children() -> None:
    """Each has a line. That of the children does not say that the generation is over:
    the one that serves has retired children too, after SIGTTOU.
    """
    assert lines(
        degraded=[{"reason": "crash_loop", "text": "worker default/0 keeps dying early"}],
        retired=[
            {"generation": 1, "children": 1, "connections": 0, "drain_ends_at": None},
            {"generation": 2, "children": 2, "connections": 1, "drain_ends_at": UNTIL},
        ],
    )[4:] == [
        "degraded: worker default/0 keeps dying early",
        "retired from generation 1: 1 child, 0 connections",
        f"retired from generation 2: 2 children, 1 connection, until {UNTIL}",
    ]


def test_a_stop_has_an_end() -> None:
    """Then no connection is left."""
    assert lines(phase="stopping", stop_ends_at=UNTIL)[4:] == [
        f"the stop ends every connection at {UNTIL}"
    ]


def test_a_long_life_is_shown_in_two_units() -> None:
    """As all other ages."""
    assert lines(uptime_s=360_000.4)[0].endswith("up 4 d 4 h")


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("", "last reload: succeeded at 2026-11-22T21:23:10Z"),
        ("no", "last reload: refused at 2026-11-22T21:23:10Z: no"),
        ("no\nand\nno", "last reload: refused at 2026-11-22T21:23:10Z: no (and 2 more)"),
    ],
)
def test_the_last_reload(reason: str, line: str) -> None:
    """When it ended, how, and the first reason."""
    result = "refused" if reason else "success"
    ended = {"result": result, "reason": reason, "ended_at": "2026-11-22T21:23:10Z"}
    assert lines(last_reload={**ended, "generation": 3})[4:] == [line]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("halt", "echo", "paused", None, None), "service echo is paused"),
        (
            ("log_level", None, "debug", "info", UNTIL),
            f"the level of the log is debug until {UNTIL}; the configuration wants info",
        ),
        (("log_level", None, "info", "info", None), "the level of the log is info"),
        (
            ("scale", "fast", "7", "4", None),
            "pool fast has 7 workers; the configuration wants 4",
        ),
        (
            ("scale", "fast", "1", "4", None),
            "pool fast has 1 worker; the configuration wants 4",
        ),
        (("odd", "fast", "7", None, None), "odd fast 7"),
    ],
)
def test_live_changes(change: tuple[str | None, ...], line: str) -> None:
    """Each has a line, which says that it is not saved."""
    values = dict(zip(CHANGE, change, strict=True))
    assert lines(live_changes=[values])[4:] == [f"live change, not saved: {line}"]


SERVICE: dict[str, Any] = {
    "name": "echo",
    "halted": None,
    "accepted": 5,
    "active": 1,
    "peak": 4,
    "active_max_10min": 9,
    "limit": 10,
    "accepted_per_s": 2.26,
    "received_bytes_per_s": 2560.0,
    "sent_bytes_per_s": 0.4,
    "refused": 0,
    "refused_by_reason": {},
    "would_refuse": 0,
    "datagrams_received": 0,
    "datagrams_sent": 0,
    "datagrams_per_s": 0.0,
    "listeners": [],
}
CHILD = {
    "kind": "worker",
    "pool": "p",
    "index": 0,
    "service": None,
    "phase": "ready",
    "generation": 1,
    "birth": 1,
    "pid": 9,
    "age_s": 3.0,
    "connections": 2,
    "accepted": 7,
    "cpu_percent": 12.34,
    "cpu_s": 1.5,
    "memory_bytes": 12_000_000,
    "heartbeat_age_s": 0.4,
    "last_end": None,
}


def rows(**changes: Any) -> list[list[str]]:
    """Return the cells of the tables below the first lines."""
    return [re.split("  +", line) for line in lines(**changes)[4:]]


def test_a_service_is_shown_with_its_limit() -> None:
    """What is open now stands beside the most of the last minute and the limit; what
    is not known or not limited is a dash.
    """
    young = dict.fromkeys(
        ("limit", "accepted_per_s", "received_bytes_per_s", "sent_bytes_per_s"), None
    )
    assert rows(services=[SERVICE, {**SERVICE, **young}]) == [
        [""],
        ["SERVICE", "ACTIVE", "PEAK 1 MIN", "MAX 10 MIN", "LIMIT", "ACCEPTED"]
        + ["ACCEPTED/S", "RECEIVED/S", "SENT/S", "REFUSED"],
        ["echo", "1", "4", "9", "10", "5", "2.3", "2.6 kB", "0 B", "0"],
        ["echo", "1", "4", "9", "-", "5", "-", "-", "-", "0"],
    ]


@pytest.mark.parametrize(
    ("changes", "headers"),
    [
        ({}, []),
        ({"refused_by_reason": {"deny": 3}}, ["REASON"]),
        ({"would_refuse": 3}, ["WOULD REFUSE"]),
        ({"halted": "paused"}, ["HALTED"]),
        ({"datagrams_received": 7}, ["DATAGRAMS", "ANSWERED", "DATAGRAMS/S"]),
    ],
)
def test_columns_that_would_be_empty_are_left_out(
    changes: dict[str, Any], headers: list[str]
) -> None:
    """One service is enough to have them."""
    found = rows(services=[SERVICE, {**SERVICE, **changes}])
    assert found[1][10:] == headers


def test_listeners_and_children() -> None:
    """The queue of a UNIX listener and of a datagram socket is not known. Workers have
    a slot, or the service that they alone serve.
    """
    queue = {"length": 2, "max": 8, "limit": 4096}
    listeners = [
        {"address": "tcp://127.0.0.1:7", "state": "open", "queue": queue, "drops": 3},
        {"address": "unix:///run/echo.sock", "state": "broken", "queue": None, "drops": None},
        {"address": "udp://[::]:7", "state": "open", "queue": None, "drops": 0},
    ]
    none = dict.fromkeys(
        ("connections", "accepted", "cpu_percent", "cpu_s", "memory_bytes", "heartbeat_age_s")
    )
    found = rows(
        services=[{**SERVICE, "listeners": listeners}],
        children=[CHILD, {**CHILD, "kind": "iterative", "service": "echo"}]
        + [{**CHILD, "kind": "exporter", **none}],
    )
    assert found[3:] == [
        [""],
        ["SERVICE", "ADDRESS", "STATE", "QUEUE", "MAX SINCE START", "LIMIT", "DROPS"],
        ["echo", "tcp://127.0.0.1:7", "open", "2", "8", "4096", "3"],
        ["echo", "unix:///run/echo.sock", "broken", "-", "-", "-", "-"],
        ["echo", "udp://[::]:7", "open", "-", "-", "-", "0"],
        [""],
        ["KIND", "SLOT", "PID", "STATE", "GENERATION", "AGE", "CONNECTIONS", "ACCEPTED"]
        + ["CPU", "CPU TIME", "MEMORY", "HEARTBEAT"],
        ["worker", "p/0", "9", "ready", "1", "3 s", "2", "7"]
        + ["12.3 %", "1.5 s", "12.0 MB", "0.4 s ago"],
        ["iterative", "echo", "9", "ready", "1", "3 s", "2", "7"]
        + ["12.3 %", "1.5 s", "12.0 MB", "0.4 s ago"],
        ["exporter", "-", "9", "ready", "1", "3 s", "-", "-", "-", "-", "-", "-"],
    ]


def test_a_slot_without_a_child_is_missing() -> None:
    """How its last child ended is known all the same."""
    end = {"ended": "exit code 3", "pid": 17, "at": UNTIL}
    slot = {"kind": "worker", "pool": "p", "index": 1, "service": None, "last_end": end}
    found = rows(children=[CHILD], missing=[slot])
    assert found[1][-1] == "LAST END IN THIS SLOT"
    assert (found[2][3], found[2][-1]) == ("ready", "-")
    assert found[3] == [
        "worker",
        "p/1",
        "-",
        "missing",
        *["-"] * 8,
        f"exit code 3, pid 17, {UNTIL}",
    ]
    assert rows(missing=[slot])[2] == found[3]


def test_the_last_ten_minutes_come_last() -> None:
    """Where they were asked for: each quantity of the status page now and at most, and
    the last events. What was not measured has no figure, and no character is beyond
    ASCII.
    """
    at_s = (100.0, 101.0, 102.0)
    shown = {
        **lately(
            at_s, active=(3, 41, 2), sent_bytes_per_s=(None, 1500, 0), rtt_s=(None, 0.000153, None)
        ),
        "events": [event(9), event(8)],
    }
    text = as_text({**HEALTHY, **shown})
    assert text.isascii()
    assert [re.split(" {2,}", line) for line in text.split("\n")[5:]] == [
        ["LAST TEN MINUTES", "NOW", "MAX"],
        ["Open connections", "2", "41"],
        ["New per second, connections", "0", "0"],
        ["New per second, datagrams", "0", "0"],
        ["Bytes per second, in", "0 B", "0 B"],
        ["Bytes per second, out", "0 B", "1.5 kB"],
        ["Waiting in accept queues", "0", "0"],
        ["Refused per second", "0", "0"],
        ["Round-trip time", "-", "153 us"],
        ["Loop lag of workers", "0 us", "0 us"],
        [""],
        ["TIME", "LEVEL", "EVENT", "DETAILS"],
        ["2026-11-22T21:23:09Z", "warning", "worker.died", "worker default/0: exit code 9"],
        ["2026-11-22T21:23:08Z", "warning", "worker.died", "worker default/0: exit code 8"],
    ]
