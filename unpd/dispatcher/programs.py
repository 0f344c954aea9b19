"""The sessions of a launcher: each is a program, which talks to its client itself.

A program knows no orders of ours. What a session of an engine does by itself, the
launcher does for it: it ends a program after ``session_timeout_s``, at a stop, when its
client is denied, and when it outlives its client. It does so with SIGTERM to the
process group, and with SIGKILL ``kill_after_s`` later. If the program itself ends in
between, the rest of its group is killed at once. A program that ends of its own accord
leaves the rest of its group alone. A reload leaves running programs alone.

Owns the deadlines, and what it reads of the programs' standard error. Called by the
dispatcher; calls :mod:`unpd.dispatcher.launch` in the forked process. Raises OSError if
the kernel refuses a fork, and nothing else.

Known gaps: a signal for a program of an earlier launcher may, within microseconds after
its end, hit another process group that got its number. The rest of such a program's
group is not killed at its end. Programs that no launcher has, because theirs died while
it drained, get no SIGKILL before the stop is over, and nobody reads their standard
error: they wait when it is full. The running programs of a service share their standard
error: one that shuts it down (shutdown(2)) does so for all of these. The new one
belongs to this launcher alone: programs that have it lose it if the launcher dies. A
program that ends with bytes of its client unread loses what the kernel has not sent of
its answer.
"""

import contextlib
import math
import select
import signal
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from unpd.board.layout import NS
from unpd.dispatcher import environment
from unpd.dispatcher.error_lines import LAST_PIECES, PIECES, ErrorLines
from unpd.dispatcher.heirlooms import Heirlooms
from unpd.dispatcher.launch import Launch, Steps, begin, start_of_session
from unpd.dispatcher.processes import SessionProcesses
from unpd.dispatcher.program_roll import ProgramRoll
from unpd.dispatcher.roll import ProcessEnd
from unpd.dispatcher.session import SessionSetup
from unpd.dispatcher.trials import Trials
from unpd.kernel import processes, signals
from unpd.kernel.connections import address_text, host_and_port
from unpd.kernel.signals import Reaper
from unpd.kernel.spawning import Spawner
from unpd.line_limit import LineLimit
from unpd.logs import Log
from unpd.loop import Loop
from unpd.names import ChildOrder, EndCause
from unpd.worker.connection_lines import log_start
from unpd.worker.event.deadlines import Wheel
from unpd.worker.orders import PATIENCE_SHARE, TWO_SLOTS_S

Key = TypeVar("Key")

OUTLIVES_S = 1.0
"""How long a program may go on after its client has gone, before it has to end: it
notices that itself, if it reads or writes.
"""
KILLED_LINES_PER_S = 20
QUICK_S = 0.5
"""How long a quick stop leaves a program after SIGTERM, at most: half of the second
that the launcher has.
"""


@dataclass(frozen=True, slots=True)
class ServicePrograms:
    """The programs of one service. ``name``: of the service. ``session_timeout_s``: 0
    for no limit. ``takes_socket``: they get the socket itself. ``is_kept``: they are
    started without a client.
    """

    name: str
    launch: Launch
    session_timeout_s: float
    takes_socket: bool = False
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class ProgramSetup:
    """Everything that a launcher has and another dispatcher lacks. ``services``: by
    their columns. ``grace_s``: how long a graceful stop may take. ``steps``: of a
    forked process. ``running``: how many programs have each whole socket, by its
    counter in the row.
    """

    services: Mapping[int, ServicePrograms]
    heirlooms: Heirlooms
    grace_s: float
    steps: Steps
    running: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class Running:
    """A program in the wheel. ``cause``: why it has to end at ``due_at``, if it does
    not have to end yet; then it is killed.
    """

    index: int
    cause: EndCause
    due_at: float = math.inf
    wheel_slot: set[Any] | None = None


class Programs(SessionProcesses):
    """The programs in ``roll``."""

    def __init__(
        self,
        roll: ProgramRoll,
        reaper: Reaper,
        log: Log,
        clock: Callable[[], float],
        setup: ProgramSetup,
    ) -> None:
        super().__init__(roll, reaper, log, clock)
        self._programs = roll
        self._services = setup.services
        self._steps = setup.steps
        self._hangups = setup.heirlooms.hangups
        self._stderrs = setup.heirlooms.stderrs
        # The last program is killed a little before the master kills this launcher.
        self._patience_s = {
            ChildOrder.FINISH: max(0.0, PATIENCE_SHARE * setup.grace_s - TWO_SLOTS_S),
            ChildOrder.LEAVE: QUICK_S,
        }
        self._lines = {
            column: ErrorLines(
                setup.services[column].name, stderr, log, partial(self._pids, column)
            )
            for column, stderr in self._stderrs.items()
        }
        self._loop = Loop()
        self._changed: tuple[int, ...] = ()
        self._spawner = Spawner()
        self._trials = Trials(self._spawner, clock)
        self._wheel: Wheel[Running] = Wheel()
        self._running: dict[int, Running] = {}
        self._killed = LineLimit(KILLED_LINES_PER_S)
        self._renewed = LineLimit()
        self._clients = Counter(map(self._client, roll.enrolled))
        self._counted = setup.running
        reaper.last_rites = self._kill_rest
        for index in roll.enrolled:
            self._schedule(index)

    def _client(self, index: int) -> tuple[int, str]:
        """The service and the host of a client; all UNIX clients are one."""
        session = self._roll.enrolled[index]
        return session.column, (host_and_port(session.peer) or ("", 0))[0]

    def _pids(self, column: int) -> list[int]:
        """The programs of a service."""
        return [
            each.pid for each in self._roll.enrolled.values() if each.column == column and each.pid
        ]

    def _service(self, index: int) -> ServicePrograms:
        return self._services[self._roll.enrolled[index].column]

    # --- the begin --------------------------------------------------------------------

    def _begin(self, index: int, setup: SessionSetup) -> int:
        service = self._service(index)
        launch = service.launch
        if service.takes_socket:
            about = environment.of_socket(setup.fd)
        else:
            number = self._clients[self._client(index)] + 1
            tells_user = not setup.terms.has_proxies
            about = environment.of_connection(setup.fd, setup.peer, number, tells_user=tells_user)
        variables = {**launch.environment, **environment.encoded(about)}
        if stderr := self._stderrs.get(self._roll.enrolled[index].column):
            stderr.mend()
        program = start_of_session(launch, variables, setup, self._changed, self._spawner)
        return begin(program, self._steps)

    def _forked(self, index: int, setup: SessionSetup) -> None:
        self._clients[self._client(index)] += 1
        if not self._service(index).takes_socket:
            # At the limit of watches (epoll(7)) a program may outlive its client.
            with contextlib.suppress(OSError):
                self._hangups.watch(setup.fd, self._programs.mark(index))
        self._schedule(index)
        if self._log.writes_connections:
            log_start(self._log, setup.terms.name, setup.peer, setup.terms.user_fd(setup.fd))

    def _schedule(self, index: int) -> None:
        """Put a program into the wheel, if it has a time to end; one of an earlier
        launcher may have to end already.
        """
        service, session = self._service(index), self._roll.enrolled[index]
        running = self._running[index] = Running(index, EndCause.SESSION_LIMIT)
        self._counted[session.listener_word] += 1
        if terminated_ns := self._programs.terminated_ns(index):
            self._put(running, terminated_ns / NS + service.launch.kill_after_s)
        elif service.session_timeout_s:
            self._put(running, session.accepted_ns / NS + service.session_timeout_s)

    def _put(self, running: Running, at: float) -> None:
        """Make a program due at ``at``, unless it is due before that."""
        if at < running.due_at:
            running.due_at = at
            self._wheel.put(running, at)

    # --- what the programs tell -------------------------------------------------------

    def watch(self, loop: Loop) -> None:
        """Watch the connections of the programs, their standard error, and the trials.
        By now this process has its handlers.
        """
        self._loop = loop
        self._changed = signals.changed()
        self._trials.watch(loop, self._changed)
        loop.watch(self._hangups.fd, select.EPOLLIN, self._take_hangups)
        for column in self._stderrs:
            self._watch_stderr(column)

    def _watch_stderr(self, column: int) -> None:
        fd, _ = self._stderrs[column].fds
        self._loop.watch(fd, select.EPOLLIN, partial(self._read_lines, column))

    def _take_hangups(self, _mask: int) -> None:
        """Have the programs end whose clients have gone, unless they do so soon."""
        for mark in self._hangups.take():
            index = self._programs.marked(mark)
            if index is not None and not self._has_to_end(index):
                running = self._running[index]
                running.cause = EndCause.CLIENT_RST
                self._put(running, self._clock() + OUTLIVES_S)

    def _has_to_end(self, index: int) -> bool:
        return bool(self._programs.terminated_ns(index))

    def _read_lines(self, column: int, _mask: int = 0, pieces: int = PIECES) -> None:
        if self._lines[column].read(self._clock(), pieces):
            return
        stderr = self._stderrs[column]
        self._loop.forget(stderr.fds[0])  # else it is readable for ever
        try:
            stderr.renew()
        except OSError:  # no descriptor is free: it is tried again when a program ends
            return
        self._watch_stderr(column)
        suppressed = self._renewed.take(self._clock())
        if suppressed is not None:
            service = self._services[column].name
            self._log.event("program.stderr_renewed", service=service, suppressed=suppressed)

    # --- the end ----------------------------------------------------------------------

    @property
    def due_at(self) -> float:
        """When the next program is due."""
        return min(self._wheel.next_at, self._trials.due_at)

    @property
    def has_trials(self) -> bool:
        """Whether a program is tried."""
        return bool(self._trials)

    def look(self) -> None:
        """End the programs that are due, and kill those that did not end."""
        self._trials.look()
        for running in self._wheel.due(self._clock()):
            running.due_at = math.inf
            if self._has_to_end(running.index):
                self._kill(running.index)
            else:
                self._terminate(running.index, running.cause)

    def tell(self, order: ChildOrder, indexes: Container[int] | None = None) -> None:
        """End the programs in these entries; None: all, because the daemon stops. A
        program that serves on while its launcher retires needs no order, but one that
        is kept would never end.
        """
        stops = indexes is None and order is not ChildOrder.RETIRE
        patience_s = self._patience_s[order] if stops else math.inf
        if stops:
            self._trials.end_all(patience_s)
        for index, running in self._running.items():
            if order is ChildOrder.RETIRE and not self._service(index).is_kept:
                continue
            if indexes is None or index in indexes:
                self._terminate(index, self._programs.told_cause(index))
                self._put(running, self._clock() + patience_s)

    def _terminate(self, index: int, cause: EndCause) -> None:
        """Send SIGTERM, and put SIGKILL into the wheel; once."""
        if not self._programs.terminate(index, cause):
            return
        kill_after_s = self._service(index).launch.kill_after_s
        self._signal(index, signal.SIGTERM)
        running = self._running[index]
        running.due_at = math.inf  # whatever it was due for, it is over
        self._put(running, self._clock() + kill_after_s)
        session = self._roll.enrolled[index]
        self._log.event(
            "program.terminated",
            service=session.account.name,
            session_pid=session.pid,
            peer=address_text(session.peer),
            cause=cause,
            kill_in_s=kill_after_s,
        )

    def _kill(self, index: int) -> None:
        self._signal(index, signal.SIGKILL)
        session = self._roll.enrolled[index]
        suppressed = self._killed.take(self._clock())
        if suppressed is not None:
            self._log.event(
                "program.killed",
                service=session.account.name,
                session_pid=session.pid,
                peer=address_text(session.peer),
                suppressed=suppressed,
            )

    def _signal(self, index: int, signum: int) -> None:
        """Send a signal to the process group of a program that was not reaped yet."""
        if index in self._inherited:
            pidfd = self._inherited[index]
            if pidfd is not None and not processes.has_ended(pidfd):
                self._roll.signal(index, signum)
            return
        pid = self._roll.enrolled[index].pid
        with signals.blocked():  # no child is reaped meanwhile
            if self._own.get(pid) == index and processes.is_our_child(pid):
                self._roll.signal(index, signum)

    def _kill_rest(self, pid: int) -> None:
        """Kill the rest of the group of a program that has to end and is dead. The
        SIGCHLD handler calls this before it reaps the program.
        """
        index = self._own.get(pid)
        if index is not None and self._has_to_end(index):
            with contextlib.suppress(PermissionError):
                processes.signal_group(pid, signal.SIGKILL)

    def _heard_out(self) -> int:
        """Read the last words of those that were reaped before that."""
        count = super()._heard_out()
        for column in self._lines if count else ():
            self._read_lines(column, pieces=LAST_PIECES)
        return count

    def try_out(self, service: str, fd: int) -> dict[str, Any]:
        """Start the program of a service for the command ``unpd try``, which is at the
        other end of ``fd``. Return the answer to the master.
        """
        launches = [each.launch for each in self._services.values() if each.name == service]
        if not launches:
            return super().try_out(service, fd)
        return self._trials.begin(replace(launches[0], banner=b""), fd)

    def _ended_other(self, pid: int, end: ProcessEnd) -> None:
        self._trials.ended(pid, end)

    def _ended(self, index: int, end: ProcessEnd) -> None:
        session = self._roll.enrolled[index]
        self._wheel.remove(self._running.pop(index))
        _count_less(self._clients, self._client(index))
        _count_less(self._counted, session.listener_word)
        lines = self._lines.get(session.column)
        last_line = lines.forget(session.pid, self._clock()) if lines else ""
        ended = self._programs.reaped(index, end, int(self._clock() * NS))
        launch = self._services[session.column].launch
        known = replace(ended, last_line=last_line, launch=launch)
        known.log_death(self._log, end.reason, str(end.report))
        ended.log_connection(self._log)


def _count_less(counts: Counter[Key], key: Key) -> None:
    """Count one less, and forget what counts 0."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
