"""The wait of unpd drain."""

import io
import sys
from typing import Any

import pytest

from unpd.cli.draining import wait_drained
from unpd.errors import UnpdError


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class Daemon:
    """A daemon whose service has so many connections at each look, or is halted in
    another way.
    """

    def __init__(self, *looks: int | str | None) -> None:
        self.looks = list(looks)
        self.pauses: list[float] = []

    def status(self) -> dict[str, Any]:
        """The next look, or the last one again."""
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        active = look if isinstance(look, int) else 0
        halted = "draining" if isinstance(look, int) else look
        others = [{"name": "daytime", "halted": None, "active": 9}]
        return {"services": [*others, {"name": "echo", "halted": halted, "active": active}]}

    def waited(self, service: str = "echo", timeout_s: float = 100.0) -> int:
        """How many connections are left."""
        return wait_drained(service, self.status, timeout_s, self.pauses.append)


def test_it_waits_until_no_connection_is_open() -> None:
    """Between its looks it pauses."""
    daemon = Daemon(2, 1, 0)
    assert daemon.waited() == 0
    assert len(daemon.pauses) == 2


def test_it_waits_no_longer_than_it_may() -> None:
    """It says how many are left."""
    assert Daemon(3).waited(timeout_s=0.0) == 3


@pytest.mark.parametrize("halted", [None, "paused", "refusing"])
def test_a_drain_that_another_ended_is_a_failure(halted: str | None) -> None:
    """Nobody waits for the end of what goes on."""
    with pytest.raises(UnpdError, match="echo is no longer draining: it was resumed or paused"):
        Daemon(2, halted).waited()


def test_a_service_that_is_gone_is_a_failure() -> None:
    """A reload may remove it."""
    with pytest.raises(UnpdError, match="discard is no longer draining: a reload has removed it"):
        Daemon(2).waited("discard")


def test_a_terminal_shows_how_many_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one line, which is gone in the end. Elsewhere nothing is shown."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    Daemon(2, 1, 0).waited()
    clear = "\r\x1b[K"
    left = ("echo: 2 connections left", "echo: 1 connection left", "")
    assert screen.getvalue() == "".join(clear + text for text in left)
    other = io.StringIO()
    monkeypatch.setattr(sys, "stderr", other)
    Daemon(2, 0).waited()
    assert other.getvalue() == ""
