"""What unpd pause, resume, drain, log-level and scale say to people."""

from typing import Any

import pytest

from unpd.cli import changes_text

UNTIL = "2026-11-30T02:00:00Z"
HALT = {
    "service": "echo",
    "until": None,
    "was": None,
    "connections": 2,
    "program_has_socket": False,
}


@pytest.mark.parametrize(
    ("halted", "until", "text"),
    [
        ("paused", None, "new clients of echo wait until unpd resume echo"),
        ("paused", UNTIL, f"new clients of echo wait until {UNTIL}"),
        ("refusing", UNTIL, f"new clients of echo are refused until {UNTIL}"),
        ("draining", None, "new clients of echo are refused until unpd resume echo"),
        ("odd", None, "echo is odd until unpd resume echo"),
    ],
)
def test_a_halt(halted: str, until: str | None, text: str) -> None:
    """It says until when, that it is not saved, and how many are left."""
    said = changes_text.halted({**HALT, "halted": halted, "until": until})
    assert said == f"{text}; a restart of the daemon ends it too; 2 connections open"


def test_a_program_with_the_listener_is_named() -> None:
    """A drain waits for it as long as it likes."""
    said = changes_text.halted({**HALT, "halted": "draining", "program_has_socket": True})
    assert said.endswith(
        "; 2 connections open; a program has the listener itself (wait, keep): it goes on taking"
        " clients until it ends"
    )


@pytest.mark.parametrize(
    ("held", "connections", "why", "text"),
    [
        (True, None, None, "echo is drained: no connection is open"),
        (
            False,
            1,
            "1 connection of echo is left",
            (
                "echo is not drained in time: 1 connection left; the drain goes on, and unpd kick"
                " --service echo ends them"
            ),
        ),
        (
            False,
            None,
            "the daemon is stopping",
            "echo is not drained: the daemon is stopping",
        ),
    ],
)
def test_the_end_of_a_drain(held: bool, connections: int | None, why: str, text: str) -> None:
    """Or why there is none."""
    answer = {"held": held, "connections": connections, "why": why, "until": None}
    assert changes_text.drained("echo", answer) == text


@pytest.mark.parametrize(
    ("was", "text"),
    [
        ("paused", "echo takes new clients again"),
        (None, "echo takes new clients: it was not halted"),
    ],
)
def test_a_resume(was: str | None, text: str) -> None:
    """Also of a service that was not halted."""
    assert changes_text.resumed({**HALT, "halted": None, "was": was}) == text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            {"level": "debug", "live": True, "until": UNTIL},
            f"the level of the log is debug until {UNTIL}; a restart of the daemon ends it too",
        ),
        (
            {"level": "info", "live": False, "until": None},
            "the level of the log is info, as the configuration wants it",
        ),
    ],
)
def test_a_level(answer: dict[str, Any], text: str) -> None:
    """And until when it holds."""
    assert changes_text.level(answer) == text


def test_silent_processes_are_named() -> None:
    """None of them, no complaint."""
    assert changes_text.silence({"silent": []}) == ""
    assert changes_text.silence({"silent": ["worker a/0 (pid 7)", "exporter (pid 8)"]}) == (
        "no answer from worker a/0 (pid 7), exporter (pid 8): the log level may not hold there yet"
    )


@pytest.mark.parametrize(
    ("workers", "text"),
    [
        (1, "1 worker, 2 before; the configuration wants 3; a restart of the daemon ends it too"),
        (3, "3 workers, 2 before, as the configuration wants it"),
    ],
)
def test_a_scale(workers: int, text: str) -> None:
    """Beside what the configuration wants."""
    answer = {"pool": "fast", "workers": workers, "before": 2, "configured": 3}
    assert changes_text.scaled(answer) == f"pool fast: {text}"
