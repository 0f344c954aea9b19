"""Birth: the fork, and the first steps of every child whatever its kind.

In the parent all signals are blocked around the fork until the child is in the table,
so that its death cannot be met before its name is known. In the child they stay blocked
until it has its own handlers: nothing that was meant for it is lost, nothing of its
reaches the parent.

The child never returns into the master's frames: it ends in ``os._exit``. The master's
objects stay referenced from those frames, so that nothing closes a descriptor number
that means something else by now.
"""

import faulthandler
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from setproctitle import setproctitle

from unpd.board.memory import EXIT_NS, LOG_DROPPED, Scoreboard
from unpd.core.model import Child
from unpd.errors import PrivilegeError, UnpdError
from unpd.kernel import privileges, processes, signals
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import SignalQueue
from unpd.logs import Log
from unpd.names import ChildKind, ChildOrder, ExitCode

CHILD_SIGNALS = {
    int(signal.Signals[order.value]): order
    for order in (ChildOrder.RETIRE, ChildOrder.FINISH, ChildOrder.LEAVE, ChildOrder.REOPEN_LOG)
}
"""What a child handles."""
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
"""What a child ignores: a Ctrl-C or a terminal that closes reaches the whole foreground
group, and the master tells its children what it means.
"""

READY = b"ready\n"
FAILED = b"failed "


@dataclass(frozen=True, slots=True)
class Newborn:
    """What a newborn child knows of itself, whatever its kind."""

    child: Child
    board: Scoreboard
    cells: memoryview
    log: Log
    signal_queue: SignalQueue
    wakeup_fd: int
    report_ready: Callable[[], None]

    def title(self, state: str) -> None:
        """Show role, place and state as the process title, the important words first
        (setproctitle cuts at the size of argv and environment).
        """
        show_title(self.child, state)


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What the master lends to a fork: the board, the row, whom to become, and the
    descriptors that the child keeps beside 0, 1, 2 and the log's.
    """

    board: Scoreboard
    row: int
    identity: Identity | None
    log: Log
    kept_fds: tuple[int, ...]
    live: Callable[[Newborn], None]


@dataclass(frozen=True, slots=True)
class Forked:
    """A child in its parent's eyes. ``pidfd`` is None where none could be had: then the
    child was killed and only waits to be reaped.
    """

    pid: int
    pidfd: int | None
    ready_fd: int


def show_title(child: Child, state: str) -> None:
    """Set the process title of a child."""
    place = f" {child.slot}" if child.slot.kind is ChildKind.WORKER else ""
    setproctitle(f"unpd: {child.slot.kind}{place} {state}, generation {child.generation}")


def fork(child: Child, plan: ForkPlan, register: Callable[[Forked], None]) -> None:
    """Fork ``child``; call ``register`` in the parent before its death can be noticed.
    OSError if the kernel refuses (EAGAIN at a pids limit, ENOMEM).
    """
    ready_reader, ready_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    parent_pid = os.getpid()
    try:
        with signals.blocked():
            pid = os.fork()
            if pid == 0:
                _live_and_die(child, plan, ready_writer, parent_pid)
            register(Forked(pid, _open_pidfd(pid), ready_reader))
    except BaseException:
        os.close(ready_reader)
        raise
    finally:
        os.close(ready_writer)


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        # Without its pidfd it could not be signalled safely later. Now it can: it
        # cannot be reaped before our signals are unblocked.
        os.kill(pid, signal.SIGKILL)
        return None


def _live_and_die(child: Child, plan: ForkPlan, ready_fd: int, parent_pid: int) -> None:
    code = int(ExitCode.FAILED)
    try:
        code = _live(child, plan, ready_fd, parent_pid)
    except BaseException as error:  # noqa: BLE001 - the top of a process
        trace = "".join(traceback.format_exception(error))
        plan.log.error(f"{child.slot.kind}.crashed", error=repr(error), trace=trace[-900:])
    finally:
        plan.board.row(plan.row)[EXIT_NS] = time.monotonic_ns()
        os._exit(code)


def _live(child: Child, plan: ForkPlan, ready_fd: int, parent_pid: int) -> int:
    signals.reset_inherited()
    processes.close_all_but((0, 1, 2, *plan.log.sink.fds, ready_fd, *plan.kept_fds))
    cells = plan.board.row(plan.row)
    show_title(child, "starting")
    faulthandler.enable(file=plan.log.sink.fd)
    plan.log.sink.on_drop = lambda: _count_dropped(cells)
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    signal_queue = SignalQueue()
    signal_queue.install(CHILD_SIGNALS)
    wakeup_fd, _ = signals.open_wakeup_pipe()
    log = plan.log.child(
        role=str(child.slot.kind), pool=child.slot.pool, index=child.slot.index, pid=os.getpid()
    )
    try:
        _become(plan.identity)
        alive = processes.die_with_parent(parent_pid)
    except OSError as error:
        who = plan.identity.user if plan.identity else "unprivileged"
        return _report_failure(
            ready_fd, PrivilegeError(f"cannot drop privileges to {who}: {error.strerror or error}")
        )
    if not alive:
        return int(ExitCode.FAILED)
    signals.unblock_all()
    try:
        plan.live(
            Newborn(
                child,
                plan.board,
                cells,
                log,
                signal_queue,
                wakeup_fd,
                lambda: _report(ready_fd, READY),
            )
        )
    except UnpdError as error:
        return _report_failure(ready_fd, error)
    return int(ExitCode.DONE)


def _count_dropped(cells: memoryview) -> None:
    cells[LOG_DROPPED] += 1


def _become(identity: Identity | None) -> None:
    if identity is not None:
        privileges.drop_to(identity)
    privileges.give_up_capabilities(unless_filtered=identity is None)


def _report(ready_fd: int, said: bytes) -> None:
    try:
        os.write(ready_fd, said)
        os.close(ready_fd)
    except OSError:
        pass  # the master is gone or told already; it is not the child that depends on it


def _report_failure(ready_fd: int, error: UnpdError) -> int:
    _report(ready_fd, FAILED + f"{int(error.exit_code)} {error}\n".encode())
    return int(error.exit_code)


def parse_report(said: bytes) -> tuple[ExitCode, str] | None:
    """What a child said over its readiness pipe: None for ready, (exit code, reason)
    for a failure.
    """
    if not said.startswith(FAILED):
        return None
    code, _, reason = said[len(FAILED) :].decode("utf-8", "replace").strip().partition(" ")
    known: Iterable[int] = tuple(ExitCode)
    return ExitCode(int(code)) if code.isascii() and code.isdecimal() and int(
        code
    ) in known else ExitCode.FAILED, reason
