"""The wait of ``unpd wait`` and ``unpd drain``, which the daemon answers when a
condition holds.

On a terminal the daemon is asked again every second, in order to show what is left. A
request that is broken off, or refused because too many commands wait, is made anew for
some seconds: the daemon may have no place for one more, and a drain of hours must not
end for that.

A daemon may be asked for before it runs: ``unpd run & unpd wait ready --timeout 30s``.
So the wait for :data:`WAITS_FOR_START` begins with one for its control socket. Without
a time limit it does not: it would never end where a daemon has failed to start.

Called by the commands. Errors: UnpdError from the daemon, of which NoPlaceError is one;
NotRunningError if no daemon comes in time, or if it ends.
"""

import argparse
import contextlib
import math
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from unpd.cli import progress
from unpd.cli.asking import checked, connect, request_of
from unpd.cli.progress import TICK_S, Progress
from unpd.control.client import (
    ANSWER_TIMEOUT_S,
    BrokenOffError,
    NotRunningError,
    RefusedError,
)
from unpd.control.protocol import Request
from unpd.control.spans import timeout_s
from unpd.control.view_fields import WAIT
from unpd.errors import UnpdError
from unpd.wording import span_text

PAUSE_S = 0.25
"""The pause before the next request, after a broken connection, a refusal for want of a
place, or a look for a daemon that has yet to start.
"""
WAITS_FOR_START = "ready"
"""The condition for which no daemon has to run yet."""


class NoPlaceError(UnpdError):
    """As many commands wait as may."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to wait for. ``service``: None for the daemon. ``timeout``: the text of the
    command line, None for no end.
    """

    condition: str
    service: str | None
    timeout: str | None


def wait_for(args: argparse.Namespace, wish: Wish) -> dict[str, Any]:
    """Return the daemon's answer: that the condition holds, or why not when the time is
    over, or the daemon stops.
    """
    ends_at = math.inf if wish.timeout is None else monotonic() + timeout_s(wish.timeout)
    give_up_at = math.inf
    seen = wish.condition != WAITS_FOR_START or wish.timeout is None
    with Progress() as shown:
        while True:
            began_at = monotonic()
            left_s = _whole(ends_at - began_at)
            span_s = min(left_s, TICK_S) if shown.shows else left_s
            try:
                answer = _asked(args, wish, span_s)
            except NotRunningError:
                if seen or began_at >= ends_at:
                    raise
                shown.show(f"not {wish.condition}: no daemon runs yet{_limit(left_s)}")
                sleep(min(PAUSE_S, ends_at - began_at))
                continue
            except (BrokenOffError, NoPlaceError):
                give_up_at, seen = _patience(began_at, give_up_at), True
                if monotonic() >= give_up_at:
                    raise
                sleep(PAUSE_S)
                continue
            give_up_at, seen = math.inf, True
            if answer["held"] or answer["stopping"] or span_s == left_s:
                return answer
            shown.show(progress.waiting(wish.condition, answer) + _limit(left_s))


def _limit(left_s: float) -> str:
    """How long the command waits, as the end of a line of its progress."""
    return "" if math.isinf(left_s) else f"; waiting for {span_text(left_s)} at most"


def _whole(left_s: float) -> float:
    """A time that is left, in whole seconds: the daemon takes no others."""
    return max(0, math.ceil(left_s)) if math.isfinite(left_s) else left_s


def _patience(began_at: float, give_up_at: float) -> float:
    """When to give up, after a connection that began then was broken off. One that
    lasted begins that time anew.
    """
    failed_at = monotonic()
    lasted = failed_at - began_at > ANSWER_TIMEOUT_S
    return failed_at + ANSWER_TIMEOUT_S if lasted or math.isinf(give_up_at) else give_up_at


def _asked(args: argparse.Namespace, wish: Wish, span_s: float) -> dict[str, Any]:
    """Ask the daemon to wait so long."""
    timeout = None if math.isinf(span_s) else f"{span_s:.0f}"
    values = {"condition": wish.condition, "service": wish.service, "timeout": timeout}
    with contextlib.closing(connect(args)) as client:
        try:
            return checked(client.ask(Request("wait", values, request_of(args).config)), WAIT)
        except RefusedError as error:
            if error.answer.get("full"):
                raise NoPlaceError(str(error)) from error
            raise
