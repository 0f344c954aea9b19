"""Statuses of a daemon as ``unpd top`` gets them, with the fields that a test needs."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from unpd.cli.top.answers import Answer, Answers
from unpd.metrics.page.charts import CHARTS

WITHOUT_HISTORY = MappingProxyType(dict.fromkeys(("totals", "history", "events")))
"""The fields of a status whose history was not asked for."""


def status(**changes: Any) -> dict[str, Any]:
    """A healthy daemon with these changes."""
    return {
        "version": "1.2.3",
        "pid": 7,
        "phase": "running",
        "ready": True,
        "degraded": [],
        "generation": 3,
        "uptime_s": 12.0,
        "heartbeat_age_s": 0.4,
        "last_reload": None,
        "retired": [],
        "zombies": 0,
        "denials": 0,
        "log_lines_dropped": 0,
        "services": [],
        "children": [],
        "missing": [],
        **WITHOUT_HISTORY,
        **changes,
    }


def lately(at_s: Sequence[float] = (), **lists: Sequence[float | None]) -> dict[str, Any]:
    """The same with a history. ``at_s``: the times of its samples. ``lists``: those of
    its lists that are not zeros; the last sample of each is the figure of now.
    """
    names = [name for chart in CHARTS for name, _ in chart.lines]
    history = {name: lists.get(name, [0] * len(at_s)) for name in names}
    return {
        "totals": {name: values[-1] if values else None for name, values in history.items()},
        "history": {"now_s": at_s[-1] if at_s else 0.0, "at_s": at_s, **history},
        "events": [],
    }


def event(number: int, **changes: Any) -> dict[str, Any]:
    """A warning."""
    return {
        "number": number,
        "time": f"2026-11-22T21:23:{number:02}Z",
        "level": "warning",
        "event": "worker.died",
        "text": f"worker default/0: exit code {number}",
        "fields": {"code": number},
        **changes,
    }


def service(name: str, **changes: Any) -> dict[str, Any]:
    """A service without clients, with one listener."""
    return {
        "name": name,
        "accepted": 0,
        "active": 0,
        "refused": 0,
        "refused_by_reason": {},
        "datagrams_received": 0,
        "listeners": [{"address": "tcp://[::]:7", "queue": {"length": 0, "limit": 4096}}],
        **changes,
    }


def child(birth: int, **changes: Any) -> dict[str, Any]:
    """A worker that is ready."""
    return {
        "kind": "worker",
        "pool": "default",
        "index": birth,
        "service": None,
        "phase": "ready",
        "generation": 1,
        "birth": birth,
        "pid": 100 + birth,
        "age_s": 61.0,
        "last_end": None,
        **changes,
    }


def answered(*statuses: dict[str, Any], every_s: float = 2.0) -> Answers:
    """What top has after these answers."""
    first, *more = (Answer(each, every_s * index) for index, each in enumerate(statuses))
    found = Answers(first)
    for answer in more:
        found = found.then(answer)
    return found
