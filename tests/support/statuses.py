"""Statuses of a daemon as ``unpd top`` gets them, with the fields that a test needs."""

from typing import Any

from unpd.cli.top.answers import Answer, Answers


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
        "last_reload": None,
        "retired": [],
        "services": [],
        "children": [],
        **changes,
    }


def service(name: str, **changes: Any) -> dict[str, Any]:
    """A service without clients, with one listener."""
    return {
        "name": name,
        "accepted": 0,
        "active": 0,
        "refused": 0,
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
        **changes,
    }


def answered(*statuses: dict[str, Any], every_s: float = 2.0) -> Answers:
    """What top has after these answers."""
    first, *more = (Answer(each, every_s * index) for index, each in enumerate(statuses))
    found = Answers(first)
    for answer in more:
        found = found.then(answer)
    return found
