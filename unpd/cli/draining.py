"""The wait of ``unpd drain`` until the open connections of a service have ended.

Asks for the status every PAUSE_S. On a terminal it shows how many connections are left,
on one line of standard error. Called by the commands. Errors: UnpdError from the
daemon, and if the service was resumed meanwhile, or is gone.
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from unpd.cli.changes_text import connections
from unpd.errors import UnpdError
from unpd.names import Halt

PAUSE_S = 0.25
_CLEAR = "\r\x1b[K"


def wait_drained(
    service: str,
    status: Callable[[], dict[str, Any]],
    timeout_s: float = math.inf,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Wait until the service has no open connection, or ``timeout_s``; return how many
    are left. ``status`` asks the daemon. UnpdError.
    """
    ends_at = time.monotonic() + timeout_s
    shows = sys.stderr.isatty()
    try:
        while True:
            left = _left(service, status())
            if not left or time.monotonic() >= ends_at:
                return left
            if shows:
                _show(f"{_CLEAR}{service}: {connections(left)} left")
            pause(max(0.0, min(PAUSE_S, ends_at - time.monotonic())))
    finally:
        if shows:
            _show(_CLEAR)


def _left(service: str, status: dict[str, Any]) -> int:
    for one in status["services"]:
        if one["name"] == service:
            if one["halted"] != Halt.DRAINING:
                raise UnpdError(f"{service} is no longer draining: it was resumed or paused")
            return int(one["active"])
    raise UnpdError(f"{service} is no longer draining: a reload has removed it")


def _show(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        return  # the terminal is gone, and the drain goes on
