"""What ``unpd status`` shows to people."""

from typing import Any

import pytest

from unpd.cli.status_text import as_text

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
    "last_reload": None,
    "retired": [],
    "live_changes": [],
    "services": [],
    "children": [],
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
    ]


def test_without_a_file_and_metrics() -> None:
    """Words stand for what there is not."""
    assert lines(config=None, metrics=None)[1:] == [
        "configuration: the built-in default",
        "metrics: off",
    ]


@pytest.mark.parametrize(
    ("phase", "ready", "state"),
    [
        ("running", True, "ready"),
        ("running", False, "not ready"),
        ("starting", False, "starting"),
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
            {"generation": 1, "children": 1, "connections": 0},
            {"generation": 2, "children": 2, "connections": 1},
        ],
    )[3:] == [
        "degraded: worker default/0 keeps dying early",
        "retired from generation 1: 1 child, 0 connections",
        "retired from generation 2: 2 children, 1 connection",
    ]


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
    assert lines(last_reload={**ended, "generation": 3})[3:] == [line]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("halt", "echo", "paused", None), "service echo is paused"),
        (
            ("log_level", None, "debug", "2026-11-30T02:00:00Z"),
            "the level of the log is debug until 2026-11-30T02:00:00Z",
        ),
        (("scale", "fast", "7", None), "pool fast has 7 workers"),
        (("odd", "fast", "7", None), "odd fast 7"),
    ],
)
def test_live_changes(change: tuple[str | None, ...], line: str) -> None:
    """Each has a line, which says that it is not saved."""
    values = dict(zip(("change", "subject", "value", "until"), change, strict=True))
    assert lines(live_changes=[values])[3:] == [f"live change, not saved: {line}"]


def test_services_and_children() -> None:
    """The queue of a UNIX listener and of a datagram socket is not known, datagrams are
    shown where some came. Workers have a place, or the service that they alone serve.
    """
    listeners = [
        {"address": "tcp://127.0.0.1:7", "queue": {"length": 2, "limit": 4096}},
        {"address": "unix:///run/echo.sock", "queue": None},
        {"address": "udp://[::]:7", "queue": None},
    ]
    child = {"pool": "p", "index": 0, "phase": "ready", "generation": 1, "birth": 1, "pid": 9}
    assert lines(
        services=[
            {
                "name": "echo",
                "halted": None,
                "accepted": 5,
                "active": 1,
                "refused": 0,
                "would_refuse": 0,
                "datagrams_received": datagrams,
                "datagrams_sent": 0,
                "listeners": listeners,
            }
            for datagrams in (0, 1, 7)
        ],
        children=[
            {"kind": kind, **child, "service": service, "age_s": 3.0}
            for kind, service in (("exporter", None), ("worker", None), ("iterative", "echo"))
        ],
    )[3:] == [
        *(
            line
            for datagrams in ("", ", 1 datagram, 0 answered", ", 7 datagrams, 0 answered")
            for line in (
                f"service echo: 1 active, 5 accepted{datagrams}",
                "  tcp://127.0.0.1:7, accept queue 2 of 4096",
                "  unix:///run/echo.sock",
                "  udp://[::]:7",
            )
        ),
        "exporter: ready, pid 9, generation 1, 3 s old",
        "worker p/0: ready, pid 9, generation 1, 3 s old",
        "iterative echo: ready, pid 9, generation 1, 3 s old",
    ]


@pytest.mark.parametrize(
    ("refused", "would_refuse", "text"),
    [
        (0, 0, ""),
        (12, 0, ", 12 refused"),
        (0, 3, ", 3 would be refused"),
        (12, 3, ", 12 refused, 3 would be refused"),
    ],
)
def test_a_service_that_has_refused(refused: int, would_refuse: int, text: str) -> None:
    """It shows how many it has refused, of connections and datagrams together, and how
    many it only observed.
    """
    service: dict[str, Any] = {
        "name": "echo",
        "halted": None,
        "accepted": 5,
        "active": 1,
        "refused": refused,
        "would_refuse": would_refuse,
        "datagrams_received": 0,
        "datagrams_sent": 0,
        "listeners": [],
    }
    assert lines(services=[service])[3:] == [f"service echo: 1 active, 5 accepted{text}"]
