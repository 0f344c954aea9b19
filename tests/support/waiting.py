"""Owns the one way to wait in a test: for a condition, with a deadline and a message.
Every test that waits uses it.
"""

import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.005


def until(condition: Callable[[], T], timeout_s: float, message: str | Callable[[], str]) -> T:
    """Poll ``condition`` until it is true and return its result. AssertionError with
    ``message`` after ``timeout_s`` seconds.

    The condition is polled once more after the deadline, so that a machine that paused
    does not fail a test whose condition holds.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline
        if found := condition():
            return found
        if late:
            raise AssertionError(
                f"not within {timeout_s} s: {message() if callable(message) else message}"
            )
        pause(POLL_S)


def holds(condition: Callable[[], object], duration_s: float, message: str) -> None:
    """Assert that ``condition`` is true for ``duration_s`` seconds, polled every few
    milliseconds.
    """
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        assert condition(), message
        pause(POLL_S)


def pause(duration_s: float) -> None:
    """Wait ``duration_s`` seconds between two polls. Never use it instead of a
    condition.
    """
    select.select((), (), (), duration_s)
