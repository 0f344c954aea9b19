"""The oldest open connection of each service of a worker.

Looked for about once a second, and only where it is not known: as long as the oldest
connection lives, a look asks only whether it is there. When it has ended, all sessions
of the worker are looked at. With 10,000 that takes 6 ms, and is done every ten seconds
at most.

Owned by the engine, which calls it between turns. Writes by the ledger. Raises nothing.

Known gap: what the metric shows may be as old as that.
"""

import math
from collections.abc import Callable, Iterable
from typing import Protocol

from unpd.worker.ledger import Account, Ledger

PAUSE_S = 0.001
"""For each open connection, how long to wait after a look at all of them: then these
looks take less than a thousandth of the time.
"""


class Dated(Protocol):
    """A session, as far as its age is concerned."""

    opened_at: float

    @property
    def number(self) -> int:
        """Its number: no other session of the process has it."""

    @property
    def terms(self) -> Account:
        """Its service."""


Sessions = Callable[[], Iterable[Dated]]
"""All open sessions."""
SessionAt = Callable[[int], Dated | None]
"""The open session with a number, if there is one."""


class Oldest:
    """``accounts``: the services of the worker; those over TCP and over UNIX sockets
    share their words. It remembers no session, which would outlive its end, but its
    number and when it began.
    """

    def __init__(self, accounts: Iterable[Account], ledger: Ledger) -> None:
        self._ledger = ledger
        self._accepted = dict.fromkeys((account.words for account in accounts), 0)
        self._known: dict[int, tuple[float, int]] = {}
        self._again_at = -math.inf

    def look(self, sessions: Sessions, session_at: SessionAt, now: float) -> None:
        """Write when the oldest connection of each service was accepted. ``now``:
        monotonic seconds.
        """
        if now < self._again_at:
            return
        if not any(self._is_outdated(words, session_at) for words in self._accepted):
            return
        self._again_at = now + self._ledger.open * PAUSE_S
        found: dict[int, tuple[float, int]] = {}
        for session in sessions():
            words, age = session.terms.words, (session.opened_at, session.number)
            if words not in found or age < found[words]:
                found[words] = age
        for words in self._accepted:
            opened_at, _ = found.get(words, (0.0, -1))
            self._ledger.oldest(words, opened_at)
            self._accepted[words] = self._ledger.accepts(words)
        self._known = found

    def _is_outdated(self, words: int, session_at: SessionAt) -> bool:
        """Whether the oldest session of a service has ended, or a service without one
        has got any since.
        """
        if words not in self._known:
            return self._ledger.accepts(words) != self._accepted[words]
        opened_at, number = self._known[words]
        there = session_at(number)
        return there is None or (there.opened_at, there.number) != (opened_at, number)
