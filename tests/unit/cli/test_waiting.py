"""The wait of unpd wait and unpd drain, and what a terminal shows meanwhile."""

import argparse
import io
import sys
from typing import Any

import pytest

from unpd.cli import progress, waiting
from unpd.cli.progress import Progress
from unpd.cli.waiting import PAUSE_S, NoPlaceError, Wish, wait_for
from unpd.control.client import ANSWER_TIMEOUT_S, BrokenOffError, NotRunningError
from unpd.errors import UnpdError

UNTIL = "2026-11-30T02:00:00Z"
HELD = {"held": True, "why": None, "connections": None, "until": None, "stopping": False}

STOPPING = -1
"""Stands for the look of a daemon that stops."""


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class Daemon:
    """A daemon that has so many connections left at each question, or raises an error.
    Time passes only while it keeps a question, and in pauses.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: int | UnpdError) -> None:
        self.looks, self.spans, self.at = list(looks), list[float](), 0.0
        monkeypatch.setattr(waiting, "_asked", self.asked)
        monkeypatch.setattr(waiting, "monotonic", lambda: self.at)
        monkeypatch.setattr(waiting, "sleep", self.passes)

    def passes(self, span_s: float) -> None:
        """Time passes."""
        self.at += span_s

    def asked(self, args: object, wish: Wish, span_s: float) -> dict[str, Any]:
        """The next look, or the last one again."""
        del args, wish
        self.spans.append(span_s)
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, UnpdError):
            raise look
        if look == 0:
            return HELD
        self.passes(span_s)
        why = "the daemon is stopping" if look == STOPPING else f"{look} left"
        return {
            "held": False,
            "why": why,
            "connections": look,
            "until": None,
            "stopping": look == STOPPING,
        }

    def waited(self, timeout: str | None = None) -> dict[str, Any]:
        """The answer to a wait for the drain of echo."""
        return wait_for(argparse.Namespace(), Wish("drained", "echo", timeout))

    def waited_ready(self, timeout: str | None = None) -> dict[str, Any]:
        """The answer to a wait for a daemon that is ready."""
        return wait_for(argparse.Namespace(), Wish("ready", None, timeout))


def test_one_question_is_enough_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon answers when its time is over."""
    daemon = Daemon(monkeypatch, 3)
    assert daemon.waited("10m")["connections"] == 3
    assert daemon.spans == [600]


def test_a_terminal_shows_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one line, which is gone in the end."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    daemon = Daemon(monkeypatch, 2, 1, 0)
    assert daemon.waited("1m") == HELD
    assert daemon.spans == [1, 1, 1]
    clear = "\r\x1b[K"
    shown = (
        "not drained: 2 left; waiting for 1 min at most",
        "not drained: 1 left; waiting for 59 s at most",
        "",
    )
    assert screen.getvalue() == "".join(clear + text for text in shown)


def test_a_daemon_that_stops_is_told_by_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it took to give it: a terminal asks once a second."""
    monkeypatch.setattr(sys, "stderr", Screen())
    daemon = Daemon(monkeypatch, 2, STOPPING, 0)
    answer = daemon.waited("1m")
    assert (answer["held"], answer["stopping"]) == (False, True)
    assert daemon.spans == [1, 1]


@pytest.mark.parametrize("error", [BrokenOffError("broken off"), NoPlaceError("16 commands")])
def test_no_place_for_a_moment_ends_no_wait(
    monkeypatch: pytest.MonkeyPatch, error: UnpdError
) -> None:
    """Neither a broken connection nor as many commands as may wait, unless it goes on
    for some seconds.
    """
    assert Daemon(monkeypatch, error, error, 0).waited() == HELD
    daemon = Daemon(monkeypatch, error)
    with pytest.raises(type(error)):
        daemon.waited()
    assert daemon.at == ANSWER_TIMEOUT_S


def test_each_trouble_has_its_own_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon answered between two of them."""
    monkeypatch.setattr(sys, "stderr", Screen())
    error, looks = BrokenOffError("broken off"), [1] * 60
    assert Daemon(monkeypatch, error, *looks, error, 0).waited() == HELD


ABSENT = NotRunningError("unpd is not running")


def test_a_daemon_that_has_yet_to_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a wait for ready that has an end, and a terminal shows it. One that failed to
    start would be waited for without end, and so would a drain that nobody does.
    """
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    daemon = Daemon(monkeypatch, *[ABSENT] * 9, 1, 0)
    assert daemon.waited_ready("10s") == HELD
    assert daemon.at == 9 * PAUSE_S + 1
    assert "not ready: no daemon runs yet; waiting for 10 s at most" in screen.getvalue()
    with pytest.raises(NotRunningError):
        Daemon(monkeypatch, ABSENT, 0).waited_ready()
    with pytest.raises(NotRunningError):
        Daemon(monkeypatch, ABSENT, 0).waited("10s")


@pytest.mark.parametrize(("timeout", "asked"), [("0", 1), ("1s", 5)])
def test_a_daemon_that_never_starts_does_not_run(
    monkeypatch: pytest.MonkeyPatch, timeout: str, asked: int
) -> None:
    """The command looks once more when its time is over; 0 only looks."""
    daemon = Daemon(monkeypatch, ABSENT)
    with pytest.raises(NotRunningError):
        daemon.waited_ready(timeout)
    assert len(daemon.spans) == asked
    assert daemon.at == float(timeout.removesuffix("s"))


@pytest.mark.parametrize("seen", [1, BrokenOffError("broken off"), NoPlaceError("16 commands")])
def test_a_daemon_that_was_seen_and_ends_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, seen: int | UnpdError
) -> None:
    """It may have failed to start, and no other one may come."""
    monkeypatch.setattr(sys, "stderr", Screen())
    daemon = Daemon(monkeypatch, ABSENT, seen, ABSENT, 0)
    with pytest.raises(NotRunningError):
        daemon.waited_ready("1m")


def test_a_terminal_that_is_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command goes on."""

    class Gone(Screen):
        def write(self, text: str) -> int:
            raise OSError(text)

    monkeypatch.setattr(sys, "stderr", Gone())
    with Progress() as shown:
        shown.show("anything")
    assert not shown.shows


def test_how_far_a_stop_and_a_reload_are() -> None:
    """How many connections are left, and until when."""
    status: dict[str, Any] = {
        "phase": "stopping",
        "stop_ends_at": UNTIL,
        "services": [{"active": 2}, {"active": 1}],
        "retired": [],
    }
    assert progress.stopping(status) == f"stopping: 3 connections left, until {UNTIL} at the latest"
    lame = {**status, "phase": "lame"}
    assert (
        progress.stopping(lame)
        == f"lame, and serving: 3 connections open, until {UNTIL} at the latest"
    )
    proving = {**status, "phase": "proving"}
    assert progress.reloading(proving) == "reloading (proving)"
    old = [
        {"connections": 1, "drain_ends_at": "2026-11-30T01:00:00Z"},
        {"connections": 0, "drain_ends_at": None},
        {"connections": 3, "drain_ends_at": UNTIL},
    ]
    left = f"4 connections of retired processes left, until {UNTIL} at the latest"
    assert progress.reloading({**proving, "retired": old}) == f"reloading (proving); {left}"
    endless = [*old, {"connections": 1, "drain_ends_at": None}]
    assert progress.retired({"retired": endless}) == "5 connections of retired processes left"
