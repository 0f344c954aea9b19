"""The roll: which sessions a dispatcher has, and what is booked of them in its row.

A session counts in its own entry of the table. The keeper of the table copies its bytes
into the row now and then, and its end when the process has been reaped: that is the one
place where counters move. They only grow there, so a scrape reads the row alone.

Owns the keeper's memory of its sessions. It decides from that, and not from the table,
which sessions can write. Kept by the dispatcher; by the master, while there is none.
Calls :mod:`unpd.board.sessions` and the ledger. Raises nothing.

Known gap: a dispatcher that is killed between two words of a booking leaves these bytes
uncounted, or the process that it has just forked counted twice.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from unpd.board import layout
from unpd.board.ended import RecentEnd
from unpd.board.layout import Service, Session
from unpd.board.memory import sane
from unpd.board.sessions import SessionTable
from unpd.board.source_lane import SourceLane
from unpd.kernel.connections import address_text
from unpd.kernel.processes import ExitReport, decode_wait_status
from unpd.kernel.signals import Reaped
from unpd.kernel.tcp_info import PathQuality
from unpd.logs import Log
from unpd.names import MAX_PID, EndCause, ReapReason, reap_reason
from unpd.worker.admission import COUNTED, Hold
from unpd.worker.connection_lines import UNKNOWN, EndedConnection, log_end, log_start
from unpd.worker.ledger import Account, Ledger
from unpd.worker.selection import Kick, Selection

_COUNTED_RTT = Service.span(Service.RTT_BUCKETS)
_RTT_BUCKETS = slice(Session.COUNTS + _COUNTED_RTT.start, Session.COUNTS + _COUNTED_RTT.stop)
_RTT_SUM_NS = Session.COUNTS + Service.RTT_SUM_NS
_RECEIVED, _SENT = Session.COUNTS + Service.RECEIVED, Session.COUNTS + Service.SENT
_RETRANSMITTED = Session.COUNTS + Service.RETRANSMITTED
_LARGEST_COUNT = (1 << 32) - 1
"""TCP_INFO has words of 32 bits."""
_LARGEST_RTT_NS = _LARGEST_COUNT * 1000


@dataclass(slots=True)
class Enrolled:
    """A session. ``pid`` is 0 while it is not forked. ``peer``: the address of its
    client; only that of an earlier keeper's session is from the table. ``token``: of
    its source in the lane, None if it is not counted there. ``listener_word``: the
    counter of its listener.
    """

    column: int
    account: Account
    accepted_ns: int
    peer: bytes
    pid: int = 0
    token: int | None = None
    listener_word: int = 0


@dataclass(frozen=True, slots=True)
class Began:
    """An accepted connection of the service in ``column``, which the listener with the
    counter ``listener_word`` took at ``accepted_ns``. ``hold``: what it holds of the
    limit for its source.
    """

    column: int
    listener_word: int
    peer: bytes
    accepted_ns: int
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How the process of a session ended, and what it used."""

    report: ExitReport
    cpu_ns: int
    peak_bytes: int

    @classmethod
    def of(cls, reaped: Reaped) -> Self:
        """The end of a process that was reaped."""
        return cls(decode_wait_status(reaped.status), reaped.cpu_ns, reaped.peak_bytes)

    @property
    def reason(self) -> ReapReason:
        """How it ended, as a metric label."""
        return reap_reason(self.report.code, self.report.signal)


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """What is known of a session that has ended. ``pid`` is 0 if it had no process.
    ``received`` and ``sent``: its bytes, as far as it counted them.
    """

    service: str
    pid: int
    peer: bytes
    cause: EndCause
    duration_s: float
    received: int
    sent: int

    def log_death(self, log: Log, reason: ReapReason, report: str) -> None:
        """Log how its process ended (``report``), unless it ended well."""
        if reason is not ReapReason.CLEAN:
            log.event(
                "session.died",
                service=self.service,
                session_pid=self.pid,
                peer=address_text(self.peer),
                ended=report,
            )

    def log_unserved(self, log: Log) -> None:
        """Log the start and the end of its connection, which never got a process."""
        if log.writes_connections:
            log_start(log, self.service, self.peer, UNKNOWN)
            self._log_end(log)

    def log_connection(self, log: Log) -> None:
        """Log the end of its connection, if its process died before it could."""
        if log.writes_connections and self.cause is EndCause.WORKER_DIED:
            self._log_end(log)

    def _log_end(self, log: Log) -> None:
        log_end(
            log,
            EndedConnection(
                service=self.service,
                peer=self.peer,
                fd=UNKNOWN,
                cause=self.cause,
                duration_s=self.duration_s,
                received=self.received,
                sent=self.sent,
            ),
        )


@dataclass(frozen=True, slots=True)
class Present:
    """A session as an operator may see it (:mod:`unpd.worker.questions`). ``number``:
    its entry.
    """

    number: int
    service: str
    peer: bytes
    pid: int
    accepted_ns: int
    received: int
    sent: int

    def belongs(self, selection: Selection, now: float) -> bool:
        """Whether it belongs to a selection of an operator."""
        age_s = now - self.accepted_ns / layout.NS
        try:
            return selection.takes(self.service, self.peer, age_s)
        except ValueError:  # a session may have forged its peer
            return False

    def describe(self, now: float) -> dict[str, Any]:
        """Its facts. ``now``: monotonic seconds. The dispatcher has no descriptor of
        the connection, so it does not know our own address.
        """
        return {
            "service": self.service,
            "peer": address_text(self.peer),
            "local": "unknown",
            "age_s": round(now - self.accepted_ns / layout.NS, 3),
            "received": self.received,
            "sent": self.sent,
            "state": "serving" if self.pid else "unforked",
            "pid": self.pid,
        }


class Roll:
    """The sessions in ``table``, and their accounts in ``ledger``. ``lane`` counts them
    for the limits; those that are in the table already are counted there anew.

    ``accounts``: that of each service, by its column. ``enrolled``: the sessions by
    their entries.
    """

    def __init__(
        self,
        table: SessionTable,
        ledger: Ledger,
        accounts: Mapping[int, Account],
        lane: SourceLane,
    ) -> None:
        self.enrolled: dict[int, Enrolled] = {}
        self._lane = lane
        self._table = table
        self._ledger = ledger
        self._accounts = accounts
        for index in table.used():
            words = table.entry(index)
            column, pid = words[Session.SERVICE] - 1, words[Session.PID]
            account = accounts.get(column)
            if account is None:  # a session forged its entry
                table.clear(index)
                continue
            pid = pid if pid <= MAX_PID else 0
            accepted_ns, peer = words[Session.ACCEPTED_NS], table.peer(index)
            self.enrolled[index] = Enrolled(
                column, account, accepted_ns, peer, pid, listener_word=words[Session.LISTENER]
            )
        self._count_anew()
        self._count_forks()
        self._free = [index for index in range(table.size) if index not in self.enrolled]
        ledger.open = len(self.enrolled)

    def _count_anew(self) -> None:
        """Take the lane over: count the sessions that are there."""
        services = Counter(session.column for session in self.enrolled.values())
        keys = {index: self._table.entry(index)[Session.SOURCE] for index in self.enrolled}
        counted = [index for index, key in keys.items() if key]
        tokens = self._lane.take_over(services, [keys[index] for index in counted])
        for index, token in zip(counted, tokens, strict=True):
            self.enrolled[index].token = token

    def _count_forks(self) -> None:
        """Count the processes that a dispatcher forked, but could not count before it
        died.
        """
        for index, session in self.enrolled.items():
            if session.pid and not self._table.entry(index)[Session.FORKED]:
                self._count_fork(index)

    def _count_fork(self, index: int) -> None:
        self._ledger.session_forked(self.enrolled[index].account)
        self._table.entry(index)[Session.FORKED] = 1

    @property
    def full(self) -> bool:
        """Whether the table has no free entry."""
        return not self._free

    def begin(self, began: Began) -> int:
        """Enter a connection that was let in, and so is counted in the lane; return its
        entry. The table must not be full.
        """
        index = self._free.pop()
        token, key, _ = began.hold or COUNTED
        self._table.begin(index, began.column, began.accepted_ns, began.peer, key)
        self._table.entry(index)[Session.LISTENER] = began.listener_word
        account = self._accounts[began.column]
        self.enrolled[index] = Enrolled(
            began.column,
            account,
            began.accepted_ns,
            began.peer,
            token=token,
            listener_word=began.listener_word,
        )
        self._ledger.accepted(began.listener_word, account, 1)
        return index

    def forked(self, index: int, pid: int) -> None:
        """Note the process that serves the connection."""
        self._table.entry(index)[Session.PID] = pid
        self.enrolled[index].pid = pid
        self._count_fork(index)

    def fork_failed(self, index: int) -> None:
        """Count a fork that the kernel refused. The connection waits for another."""
        self._ledger.session_fork_failed(self.enrolled[index].account)

    def book(self) -> None:
        """Book the bytes that have moved since the last time, and the oldest connection
        of each service.
        """
        oldest: dict[int, int] = {}
        for index, session in self.enrolled.items():
            self._book_bytes(index, session)
            words, accepted_ns = session.account.words, sane(session.accepted_ns)
            oldest[words] = min(accepted_ns, oldest.get(words, accepted_ns))
        for account in self._accounts.values():
            self._ledger.oldest(account.words, oldest.get(account.words, 0) / layout.NS)

    def _book_bytes(self, index: int, session: Enrolled) -> None:
        words, totals = self._table.entry(index), session.account.totals
        received = sane(words[Session.COUNTS + Service.RECEIVED])
        sent = sane(words[Session.COUNTS + Service.SENT])
        totals.received += max(0, received - sane(words[Session.BOOKED_RECEIVED]))
        totals.sent += max(0, sent - sane(words[Session.BOOKED_SENT]))
        words[Session.BOOKED_RECEIVED], words[Session.BOOKED_SENT] = received, sent

    def present(self) -> Iterator[Present]:
        """The sessions in the order of their entries."""
        for index, session in sorted(self.enrolled.items()):
            words = self._table.entry(index)
            yield Present(
                number=index,
                service=session.account.name,
                peer=session.peer,
                pid=session.pid,
                accepted_ns=session.accepted_ns,
                received=sane(words[Session.COUNTS + Service.RECEIVED]),
                sent=sane(words[Session.COUNTS + Service.SENT]),
            )

    def kick(self, kick: Kick, now: float) -> set[int]:
        """Have the sessions of a selection leave for the cause of the kick, when they
        get the order to leave. Return their entries. ``now``: monotonic seconds.
        """
        kicked = {one.number for one in self.present() if one.belongs(kick.selection, now)}
        for index in () if kick.dry_run else kicked:
            self._table.entry(index)[Session.KICKED] = layout.END_CAUSES.index(kick.cause) + 1
        return kicked

    def status(self, index: int) -> int | None:
        """The wait status of a session that the master has reaped, else None."""
        status = self._table.entry(index)[Session.STATUS]
        return status - 1 if 0 < status <= 1 << 16 else None

    def end_of(self, index: int) -> ProcessEnd | None:
        """The end of a session that the master has reaped, else None."""
        status, words = self.status(index), self._table.entry(index)
        if status is None:
            return None
        used = sane(words[Session.CPU_NS]), sane(words[Session.PEAK_BYTES])
        return ProcessEnd(decode_wait_status(status), *used)

    def signal(self, index: int, signum: int) -> None:
        """Send a signal to a process that certainly was not reaped yet."""
        os.kill(self.enrolled[index].pid, signum)

    def reaped(self, index: int, end: ProcessEnd, now_ns: int) -> SessionEnd:
        """Book the end of a session whose process was reaped, and free its entry."""
        return self.ended(index, end.reason, now_ns)

    def ended(
        self,
        index: int,
        reason: ReapReason | None,
        now_ns: int,
        unserved: EndCause = EndCause.SHUTDOWN,
    ) -> SessionEnd:
        """Book the rest of a session that has ended, and free its entry.

        ``reason``: how its process ended; None: it never had one, and its connection
        ended for the cause ``unserved``. A session that did not say why its connection
        ended has died with it.
        """
        session = self.enrolled.pop(index)
        words = self._table.entry(index)
        self._book_bytes(index, session)
        cause = unserved if reason is None else _cause(words)
        duration_s = max(0, now_ns - sane(session.accepted_ns)) / layout.NS
        self._lane.service_closed(session.column)
        if session.token is not None:
            self._lane.source_closed(session.token)
        if (path := _path(words)) is not None:
            self._ledger.path_measured(session.account, path)
        self._ledger.ended(session.account, cause, duration_s)
        received, sent = sane(words[_RECEIVED]), sane(words[_SENT])
        self._ledger.ends.append(
            RecentEnd(
                words=session.account.words,
                peer=session.peer,
                cause=cause,
                ended_at=now_ns / layout.NS,
                duration_s=duration_s,
                received=received,
                sent=sent,
                path=path,
            )
        )
        if reason is not None:
            self._ledger.session_reaped(session.account, reason)
        self._ledger.lines_dropped(sane(words[Session.LOG_DROPPED]))
        ended = SessionEnd(
            service=session.account.name,
            pid=session.pid,
            peer=session.peer,
            cause=cause,
            duration_s=duration_s,
            received=received,
            sent=sent,
        )
        self._table.clear(index)
        self._free.append(index)
        return ended


def _path(words: memoryview) -> PathQuality | None:
    """The path to its client, as the session counted it; None if it did not, or wrote
    what no kernel tells.
    """
    if not any(words[_RTT_BUCKETS]):
        return None
    rtt_ns, again = words[_RTT_SUM_NS], words[_RETRANSMITTED]
    if rtt_ns > _LARGEST_RTT_NS or again > _LARGEST_COUNT:
        return None
    return PathQuality(rtt_ns / layout.NS, int(again))


def _cause(words: memoryview) -> EndCause:
    """Why the connection ended, as the session counted it."""
    start = Session.COUNTS + Service.ENDED
    for cause, count in zip(layout.END_CAUSES, words[start:], strict=False):
        if count:
            return cause
    return EndCause.WORKER_DIED
