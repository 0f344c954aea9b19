"""The ledger: everything that a worker counts, and the only writer of its row.

The engine and the intake call it; it writes the words of :mod:`unpd.board.layout`. A
connection that is accepted is in ``open`` until it has ended, and one that waits for
its header until that is over. Bytes and ``open`` are booked once a turn. Raises
nothing.

The counts stand in this process's own memory, and each change is written to the row. So
a hostile sibling, which can write any number there, stops no worker; the next change
repairs the word. It is also quicker than to read the row.
"""

import errno
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from unpd.board import layout
from unpd.board.ended import recent_ends
from unpd.board.loop_lag import HEARTBEAT_S
from unpd.board.memory import sane
from unpd.kernel.tcp_info import PathQuality
from unpd.names import (
    ACCEPT_ERRNOS,
    EndCause,
    HeaderResult,
    ProgramResult,
    ReapReason,
    RefusalReason,
    Unanswered,
)
from unpd.worker.terms import Totals

# A word that is asked of its table costs 0.1 us, because a call answers: the words that
# are written at each turn or for each connection are named here.
_BEAT_NS, _OPEN = layout.Row.BEAT_NS, layout.Row.OPEN
_ACCEPTED, _RECEIVED, _SENT = layout.Service.ACCEPTED, layout.Service.RECEIVED, layout.Service.SENT
_DURATION_BUCKETS = layout.Service.DURATION_BUCKETS
_DURATION_SUM_NS = layout.Service.DURATION_SUM_NS
_RTT_BUCKETS, _RTT_SUM_NS = layout.Service.RTT_BUCKETS, layout.Service.RTT_SUM_NS
_DATAGRAMS_RECEIVED = layout.Service.DATAGRAMS_RECEIVED
_DATAGRAM_BYTES_RECEIVED = layout.Service.DATAGRAM_BYTES_RECEIVED
_DATAGRAMS_SENT = layout.Service.DATAGRAMS_SENT
_DATAGRAM_BYTES_SENT = layout.Service.DATAGRAM_BYTES_SENT
_UNANSWERED = {
    reason: layout.Service.UNANSWERED + index for index, reason in enumerate(layout.UNANSWERED)
}
_REFUSED, _WOULD_REFUSE = (
    {reason: start + index for index, reason in enumerate(layout.REFUSAL_REASONS)}
    for start in (layout.Service.REFUSED, layout.Service.WOULD_REFUSE)
)
_HEADERS = {
    result: layout.Service.PROXY_HEADERS + index
    for index, result in enumerate(layout.HEADER_RESULTS)
}
_ENDED = {cause: layout.Service.ENDED + index for index, cause in enumerate(layout.END_CAUSES)}
_ERRNO_INDEX = {
    getattr(errno, name): index for index, name in enumerate(ACCEPT_ERRNOS) if name != "other"
}


def errno_index(number: int) -> int:
    """Return the place of an errno among the labels of unpd_accept_errors_total; the
    last label stands for all others.
    """
    return _ERRNO_INDEX.get(number, len(ACCEPT_ERRNOS) - 1)


class Counted(Protocol):
    """A service, as far as its refusals are counted: its terms, of streams or of
    datagrams.
    """

    @property
    def words(self) -> int:
        """Where the service's counters start in the row."""


class Account(Counted, Protocol):
    """A service, as far as the ledger knows it: mostly its terms."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def totals(self) -> Totals:
        """Its bytes since they were last booked."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program ended, how long it ran, and what it used."""

    result: ProgramResult
    duration_s: float
    cpu_ns: int
    peak_bytes: int


class Ledger:
    """The counts of one worker. ``row``: its words on the board. ``open``: how many
    connections are open; a dispatcher may take some over. ``ends``: the last ends, of
    which sessions take note themselves.
    """

    def __init__(self, row: memoryview, accounts: Iterable[Account]) -> None:
        self.open = 0
        self.ends = recent_ends()
        self._row = row
        self._counts = [sane(word) for word in row]
        self._booked_open = 0
        self._heartbeat_at = 0.0
        # TCP and UNIX listeners of a service have terms of their own and one Totals.
        self._totals = tuple({each.words: each.totals for each in accounts}.items())

    def beat(self, now: float) -> bool:
        """Write the heartbeat, unless the last one is younger than HEARTBEAT_S. Whether
        it was written.
        """
        if now - self._heartbeat_at < HEARTBEAT_S:
            return False
        self._heartbeat_at = now
        self._row[_BEAT_NS] = int(now * layout.NS)
        return True

    def accepted(self, listener_word: int, account: Account, count: int) -> None:
        """Count ``count`` accepted connections; they are open from now on."""
        self.open += count
        self._add(listener_word, count)
        self._add(account.words + _ACCEPTED, count)

    def accept_failed(self, account: Account, number: int) -> None:
        """Count an accept that failed with the errno ``number``."""
        self._add(account.words + layout.Service.ACCEPT_ERRORS + errno_index(number), 1)

    def ended(self, account: Account, cause: EndCause, duration_s: float) -> None:
        """Count a connection's bytes, then its end: a scrape that shows the end shows
        them.
        """
        self.open -= 1
        start = account.words
        self._book_bytes(start, account.totals)
        bucket = bisect_left(layout.DURATION_BOUNDS_S, duration_s)
        self._add(start + _DURATION_BUCKETS + bucket, 1)
        self._add(start + _DURATION_SUM_NS, int(duration_s * layout.NS))
        self._add(start + _ENDED[cause], 1)

    def path_measured(self, account: Account, path: PathQuality, stands_for: int = 1) -> None:
        """Count the path to the client of a connection that ends. ``stands_for``: how
        many connections it stands for, itself included.
        """
        start = account.words
        bucket = bisect_left(layout.RTT_BOUNDS_S, path.rtt_s)
        self._add(start + _RTT_BUCKETS + bucket, stands_for)
        self._add(start + _RTT_SUM_NS, int(path.rtt_s * layout.NS) * stands_for)
        if path.retransmits:
            self._add(start + layout.Service.RETRANSMITTED, path.retransmits * stands_for)

    def accepts(self, start: int) -> int:
        """How many connections the service whose words start at ``start`` has
        accepted.
        """
        return self._counts[start + _ACCEPTED]

    def oldest(self, start: int, opened_at: float) -> None:
        """Write when the oldest open connection of that service was accepted, in
        monotonic seconds; 0 if none is open.
        """
        word = start + layout.Service.OLDEST_NS
        self._counts[word] = self._row[word] = int(opened_at * layout.NS)

    def refused(self, account: Counted, reason: RefusalReason) -> None:
        """Count a connection or a datagram that was refused. It was never open."""
        self._add(account.words + _REFUSED[reason], 1)

    def would_refuse(self, account: Counted, reason: RefusalReason) -> None:
        """Count a connection or a datagram that was let in, because the reason to
        refuse it is only observed.
        """
        self._add(account.words + _WOULD_REFUSE[reason], 1)

    def arrived(self) -> None:
        """Count a connection that waits for the header of a load balancer. It is open
        from now on, but not accepted.
        """
        self.open += 1

    def header_over(self, account: Counted, result: HeaderResult) -> None:
        """Count the end of that wait."""
        self.open -= 1
        self._add(account.words + _HEADERS[result], 1)

    def session_forked(self, account: Account) -> None:
        """Count a session process."""
        self._add(account.words + layout.Service.SESSIONS_FORKED, 1)

    def session_fork_failed(self, account: Account) -> None:
        """Count a session process that could not be forked."""
        self._add(account.words + layout.Service.SESSION_FORK_FAILURES, 1)

    def session_reaped(self, account: Account, reason: ReapReason) -> None:
        """Count the end of a session process."""
        index = layout.REAP_REASONS.index(reason)
        self._add(account.words + layout.Service.SESSIONS_REAPED + index, 1)

    def program_ended(self, account: Account, end: ProgramEnd) -> None:
        """Count a program that has ended. Its result comes last: a scrape that shows it
        shows the rest.
        """
        start = account.words
        peak = start + layout.Service.PROGRAM_PEAK_BYTES
        self._add(peak, max(0, end.peak_bytes - self._counts[peak]))
        self._add(start + layout.Service.PROGRAM_CPU_NS, end.cpu_ns)
        bucket = bisect_left(layout.DURATION_BOUNDS_S, end.duration_s)
        self._add(start + layout.Service.PROGRAM_BUCKETS + bucket, 1)
        self._add(start + layout.Service.PROGRAM_SUM_NS, int(end.duration_s * layout.NS))
        index = layout.PROGRAM_RESULTS.index(end.result)
        self._add(start + layout.Service.PROGRAMS_ENDED + index, 1)

    def target_connected(self, start: int) -> None:
        """Count a connection to the target whose words start at ``start``."""
        self._add(start + layout.Target.CONNECTED, 1)

    def target_failed(self, start: int, place: int) -> None:
        """Count a connect to it that failed. ``place``: that of the reason in
        CONNECT_FAILURES.
        """
        self._add(start + layout.Target.FAILED + place, 1)

    def lines_dropped(self, count: int) -> None:
        """Count log lines that a session process dropped."""
        self._add(layout.Row.LOG_DROPPED, count)

    def datagrams_received(self, listener_word: int, start: int, count: int, size: int) -> None:
        """Count datagrams of ``size`` bytes in all that came to the service whose words
        start at ``start``.
        """
        self._add(listener_word, count)
        self._add(start + _DATAGRAMS_RECEIVED, count)
        self._add(start + _DATAGRAM_BYTES_RECEIVED, size)

    def datagrams_sent(self, start: int, count: int, size: int) -> None:
        """Count datagrams of ``size`` bytes in all that the kernel took."""
        self._add(start + _DATAGRAMS_SENT, count)
        self._add(start + _DATAGRAM_BYTES_SENT, size)

    def unanswered(self, start: int, reason: Unanswered) -> None:
        """Count a datagram that gets no answer."""
        self._add(start + _UNANSWERED[reason], 1)

    def datagram_receive_failed(self, start: int) -> None:
        """Count an error in the place of a datagram."""
        self._add(start + layout.Service.DATAGRAM_RECEIVE_ERRORS, 1)

    def book(self) -> None:
        """Write the changes of this turn that are not on the board yet."""
        for start, totals in self._totals:
            self._book_bytes(start, totals)
        if self.open != self._booked_open:
            self._booked_open = self._row[_OPEN] = self.open

    def _book_bytes(self, start: int, totals: Totals) -> None:
        if totals.received or totals.sent:
            self._add(start + _RECEIVED, totals.received)
            self._add(start + _SENT, totals.sent)
            totals.received = totals.sent = 0

    def _add(self, word: int, number: int) -> None:
        self._counts[word] = self._row[word] = self._counts[word] + number
