"""The roll of programs: what is booked of them besides what is booked of every session.

A program cannot write into its entry. So its keeper writes there why it ends one, and
books by that and by the exit status. The process that was to become the program writes
there why it could not.

Kept by a launcher; by the master, while there is none. Raises nothing.
"""

import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd.board import layout
from unpd.board.layout import Service, Session
from unpd.board.memory import sane
from unpd.board.sessions import SessionTable, kicked_for
from unpd.board.source_lane import SourceLane
from unpd.dispatcher.launch import Launch
from unpd.dispatcher.refusal import refusal_of
from unpd.dispatcher.roll import ProcessEnd, Roll, SessionEnd
from unpd.kernel import processes
from unpd.kernel.connections import address_text
from unpd.line_limit import LineLimit
from unpd.logs import Log
from unpd.names import EndCause, ProgramResult, ReapReason, StartStep
from unpd.worker.ledger import Account, Ledger, ProgramEnd

LINES_PER_S = 20
"""How many lines about programs of one service that failed are logged in a second."""
MAX_ERRNO = 4095
"""The largest that the kernel returns (include/linux/err.h)."""

_CAUSES: Mapping[ProgramResult, EndCause] = MappingProxyType(
    {
        ProgramResult.OK: EndCause.DONE,
        ProgramResult.FAILED: EndCause.ERROR,
        ProgramResult.SIGNAL: EndCause.WORKER_DIED,
        ProgramResult.TIMEOUT: EndCause.SESSION_LIMIT,
        ProgramResult.NOT_STARTED: EndCause.ERROR,
    }
)
"""Why the connection ended with a program that ended by itself."""


@dataclass(frozen=True, slots=True)
class ProgramEnded(SessionEnd):
    """What is known of a program that has ended. ``failed_step``: of its start, with
    the errno; None if it has started. ``told``: unpd had told it to end.
    ``suppressed``: how many lines were left out, None if this one is, too. ``trace``:
    that of an exception which ended a function. ``launch``: of the program; the master,
    which stands in for a dead launcher, knows none.
    """

    result: ProgramResult
    failed_step: tuple[StartStep, int] | None
    told: bool
    suppressed: int | None
    trace: str = ""
    last_line: str = ""
    launch: Launch | None = None

    def log_connection(self, log: Log) -> None:
        """Log the end of its connection: a program has no line of its own."""
        if log.writes_connections:
            self._log_end(log)

    def log_death(self, log: Log, reason: ReapReason, report: str) -> None:
        """Log that it failed, or could not be started."""
        if self.suppressed is None:
            return
        if self.failed_step is not None:
            refusal = refusal_of(self.failed_step, self.launch)
            log.event(
                "program.not_started",
                service=self.service,
                peer=address_text(self.peer),
                step=str(refusal.step),
                reason=refusal.reason,
                suppressed=self.suppressed,
                **({"path": refusal.path, "user": refusal.user} if refusal.path else {}),
            )
            return
        if self.trace:
            log.event(
                "function.raised",
                service=self.service,
                session_pid=self.pid,
                peer=address_text(self.peer),
                error=self.trace.rstrip().rpartition("\n")[2],
                duration_s=round(self.duration_s, 3),
                suppressed=self.suppressed,
                trace=self.trace,
            )
            return
        log.event(
            "program.failed",
            service=self.service,
            session_pid=self.pid,
            peer=address_text(self.peer),
            ended=report,
            result=str(self.result),
            duration_s=round(self.duration_s, 3),
            suppressed=self.suppressed,
            **({"last_line": self.last_line} if self.last_line else {}),
        )


class ProgramRoll(Roll):
    """The programs in a table of sessions."""

    def __init__(
        self,
        table: SessionTable,
        ledger: Ledger,
        accounts: Mapping[int, Account],
        lane: SourceLane,
    ) -> None:
        super().__init__(table, ledger, accounts, lane)
        self._lines = {account.name: LineLimit(LINES_PER_S) for account in accounts.values()}

    def terminate(self, index: int, cause: EndCause) -> bool:
        """Note that a program has to end, and why; False if that was noted before."""
        words = self._table.entry(index)
        if words[Session.TERMINATED_NS]:
            return False
        words[Session.TERMINATED_NS] = time.monotonic_ns()
        words[_word(cause)] = 1
        return True

    def terminated_ns(self, index: int) -> int:
        """When that was noted; 0 if it was not."""
        return sane(self._table.entry(index)[Session.TERMINATED_NS])

    def mark(self, index: int) -> int:
        """The number of a program, which no later one has (a pid is used again)."""
        return self._table.mark(index)

    def marked(self, mark: int) -> int | None:
        """The entry of the program with this number, None if it has ended."""
        index = self._table.marked(mark)
        return index if index in self.enrolled else None

    def told_cause(self, index: int) -> EndCause:
        """For which cause a program ends that is told to."""
        return kicked_for(self._table.entry(index)) or EndCause.SHUTDOWN

    def signal(self, index: int, signum: int) -> None:
        """Send SIGKILL to its process group, or SIGTERM instead of another signal: a
        program knows no orders of ours.
        """
        if signum != signal.SIGKILL:
            self.terminate(index, self.told_cause(index))
            signum = signal.SIGTERM
        with contextlib.suppress(PermissionError):  # it became another user
            processes.signal_group(self.enrolled[index].pid, signum)

    def reaped(self, index: int, end: ProcessEnd, now_ns: int) -> ProgramEnded:
        """Book the end of a program, with its result and what it used."""
        words, account = self._table.entry(index), self.enrolled[index].account
        failed, trace = failed_step(words), self._table.trace(index)
        told = bool(words[Session.TERMINATED_NS])
        is_late = bool(words[_word(EndCause.SESSION_LIMIT)])
        result = _result(end, is_late=is_late, has_started=failed is None)
        if not told:
            words[_word(_CAUSES[result])] = 1
        ended = super().reaped(index, end, now_ns)
        self._ledger.program_ended(
            account, ProgramEnd(result, ended.duration_s, end.cpu_ns, end.peak_bytes)
        )
        logged = result is not ProgramResult.OK and not told
        return ProgramEnded(
            service=ended.service,
            pid=ended.pid,
            peer=ended.peer,
            cause=ended.cause,
            duration_s=ended.duration_s,
            received=ended.received,
            sent=ended.sent,
            result=result,
            failed_step=failed,
            told=told,
            suppressed=self._lines[ended.service].take(now_ns / layout.NS) if logged else None,
            trace=trace,
        )


def _word(cause: EndCause) -> int:
    return Session.COUNTS + Service.ENDED + layout.END_CAUSES.index(cause)


def failed_step(words: memoryview) -> tuple[StartStep, int] | None:
    """The step of the start of a program that failed, with the errno; None if it has
    started. The words are of a process that may be hostile.
    """
    number = words[Session.FAILED_STEP]
    if not 0 < number <= len(layout.START_STEPS):
        return None
    reason = words[Session.FAILED_ERRNO]
    return layout.START_STEPS[number - 1], reason if reason <= MAX_ERRNO else 0


def _result(end: ProcessEnd, *, is_late: bool, has_started: bool) -> ProgramResult:
    if not has_started:
        return ProgramResult.NOT_STARTED
    if is_late:
        return ProgramResult.TIMEOUT
    if end.report.signum is not None:
        return ProgramResult.SIGNAL
    return ProgramResult.OK if end.report.code == 0 else ProgramResult.FAILED
