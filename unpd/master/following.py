"""Answers ``unpd events``: with the recent events, or line by line with those that
come.

Called by :mod:`unpd.master.orders`. The control server asks for each line when the peer
has taken the one before, so that a peer that does not read costs nothing but its place
in the ring of :mod:`unpd.master.recent_events`. It is cut off before long. Errors:
VerbError, which is answered.
"""

from dataclasses import dataclass
from typing import Any

from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.master.recent_events import RecentEvents
from unpd.master.runtime import Runtime

MAX_FOLLOWERS = 8
"""How many commands may show events at a time. The control socket has 32 places, and
others must find one.
"""
AT_A_TIME = 50
"""How many events a line has at most: even long ones fit into an answer, and encoding
them takes about a millisecond.
"""


@dataclass(slots=True)
class Follower:
    """What is left to tell a command. ``seen``: the number of the last event that it
    got. ``follows``: it waits for more.
    """

    events: RecentEvents
    follows: bool
    seen: int
    greeted: bool = False

    def next(self) -> dict[str, Any] | None:
        """The next events; None while there is no new one. The first line always
        comes, perhaps without events: the command knows then that it follows.
        """
        if self.greeted and self.seen >= self.events.last:
            return None
        self.greeted = True
        return self._line(follows=self.follows)

    def last(self) -> dict[str, Any]:
        """The newest events of those that are left, because the daemon ends: as many as
        a socket takes at once.
        """
        return self._line(follows=False, after=self.events.last - AT_A_TIME)

    def _line(self, *, follows: bool, after: int = 0) -> dict[str, Any]:
        found = self.events.after(max(self.seen, after), AT_A_TIME)
        missed = found[0].number - self.seen - 1 if found else 0
        self.seen = found[-1].number if found else self.seen
        return {
            "ok": True,
            "events": [event.message for event in found],
            "missed": missed,
            "more": follows or self.seen < self.events.last,
        }


def follow(runtime: Runtime, pending: PendingRequest) -> None:
    """Begin the answer to ``unpd events``. VerbError if too many commands show events
    already.
    """
    control, events = runtime.control, runtime.recent_events
    if control is None:
        return
    if control.followers >= MAX_FOLLOWERS:
        raise VerbError(
            f"{MAX_FOLLOWERS} commands show events already: end one, or try again later"
        )
    follows = pending.request.arguments["follow"]
    seen = events.last if follows else events.dropped
    control.answer_in_parts(pending.number, Follower(events, follows, seen))
