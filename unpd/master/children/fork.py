"""The fork, and the first steps of every child, whatever its kind.

In the parent all signals are blocked around the fork until the child is registered, so
that its death cannot be noticed before its pid is known. In the child they stay blocked
until it has its own handlers: no signal for the child is lost, and none of the child's
signals reaches the parent.

The child never returns into the master's frames: it ends in ``os._exit``. Those frames
keep the master's objects alive, so that no destructor closes a descriptor number that
means something else in the child.

Called by the performers; calls :mod:`unpd.kernel`. OSError where the kernel refuses.
"""

import faulthandler
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from setproctitle import setproctitle

from unpd.board import layout
from unpd.board.memory import Scoreboard
from unpd.channel import ChannelEnd
from unpd.core.model import Child
from unpd.core.policy import policy_of
from unpd.errors import PrivilegeError, UnpdError
from unpd.kernel import privileges, processes, signals
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import SignalQueue
from unpd.logs import Log
from unpd.master.children import reports
from unpd.names import ChildOrder, ExitCode

CHILD_SIGNALS: Mapping[int, ChildOrder] = MappingProxyType(
    {
        int(signal.Signals[order.value]): order
        for order in (
            ChildOrder.RETIRE,
            ChildOrder.FINISH,
            ChildOrder.LEAVE,
            ChildOrder.REOPEN_LOG,
        )
    }
)
"""The signals that a child handles. SIGABRT and SIGKILL keep their default actions."""
IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
"""The signals that a child ignores. A Ctrl-C or a closed terminal reaches the whole
foreground group; the master tells its children what follows from it.
"""
TRACE_CHARACTERS = 900
"""How much of the end of a trace is logged: a line of the log is bounded."""


@dataclass(frozen=True, slots=True)
class Newborn:
    """What a child has, whatever its kind. ``cells`` is its row of the board."""

    child: Child
    board: Scoreboard
    cells: memoryview
    log: Log
    signal_queue: SignalQueue
    wakeup_fd: int
    channel: ChannelEnd

    def report_ready(self) -> None:
        """Tell the master that this child serves."""
        self.channel.send(reports.ready())

    def title(self, state: str) -> None:
        """Show kind, slot and state as the process title."""
        show_title(self.child, state)


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """What the master gives to a fork: the board and the child's row, the user to
    become (None: stay), the log, the descriptors that the child keeps beside 0, 1, 2,
    the log's and the channel's, and the child's life.
    """

    board: Scoreboard
    row: int
    identity: Identity | None
    log: Log
    kept_fds: tuple[int, ...]
    live: Callable[[Newborn], None]


@dataclass(frozen=True, slots=True)
class Forked:
    """A new child as its parent sees it. ``pidfd`` is None if the kernel gave none:
    then the child was killed and only waits to be reaped.
    """

    pid: int
    pidfd: int | None
    channel: ChannelEnd


def show_title(child: Child, state: str) -> None:
    """Set the process title of a child, the important words first: setproctitle cuts
    the title at the size of argv and environment.
    """
    place = f" {child.slot}" if policy_of(child).serves else ""
    setproctitle(f"unpd: {child.slot.kind}{place} {state}, generation {child.generation}")


def fork(child: Child, plan: ForkPlan, register: Callable[[Forked], None]) -> None:
    """Fork ``child``; call ``register`` in the parent before it can reap the child.

    OSError if the kernel refuses (EAGAIN at a pids limit, ENOMEM, EMFILE).
    """
    ours, theirs = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    parent_pid = os.getpid()
    try:
        with signals.blocked():
            pid = os.fork()
            if pid == 0:
                _live_and_exit(child, plan, ChannelEnd(theirs), parent_pid)
            register(Forked(pid, _open_pidfd(pid), ChannelEnd(ours)))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


def _open_pidfd(pid: int) -> int | None:
    """Without its pidfd the child could not be signalled safely later. So it is killed
    now, while it cannot be reaped: signals are still blocked.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        return None


# --- in the child ---------------------------------------------------------------------


def _live_and_exit(child: Child, plan: ForkPlan, channel: ChannelEnd, parent_pid: int) -> None:
    code = int(ExitCode.FAILED)
    try:
        code = _live(child, plan, channel, parent_pid)
    except BaseException as error:  # noqa: BLE001 - the top of a process
        trace = "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]
        plan.log.event(f"{child.slot.kind}.crashed", error=repr(error), trace=trace)
    finally:
        plan.board.row(plan.row)[layout.Row.EXIT_NS] = time.monotonic_ns()
        os._exit(code)


def _live(child: Child, plan: ForkPlan, channel: ChannelEnd, parent_pid: int) -> int:
    """Live the child's whole life; return its exit code."""
    newborn = _settle_in(child, plan, channel)
    try:
        _drop_privileges(plan.identity)
        if not processes.die_with_parent(parent_pid):
            return int(ExitCode.FAILED)
        signals.unblock_all()
        plan.live(newborn)
    except UnpdError as error:
        channel.send(reports.failure(error))
        return int(error.exit_code)
    return int(ExitCode.DONE)


def _settle_in(child: Child, plan: ForkPlan, channel: ChannelEnd) -> Newborn:
    """Give up what belongs to the parent, and set up what is the child's own."""
    signals.reset_inherited()
    log_fds = plan.log.sink.fds
    processes.close_all_but((0, 1, 2, *log_fds, channel.fileno(), *plan.kept_fds))
    cells = plan.board.row(plan.row)
    show_title(child, "starting")
    faulthandler.enable(file=plan.log.sink.fd)
    plan.log.sink.on_drop = lambda: _count_dropped(cells)
    for signum in IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    signal_queue = SignalQueue()
    signal_queue.install(CHILD_SIGNALS)
    wakeup_fd, _ = signals.open_wakeup_pipe()
    slot = child.slot
    return Newborn(
        child=child,
        board=plan.board,
        cells=cells,
        log=plan.log.child(role=str(slot.kind), pool=slot.pool, index=slot.index, pid=os.getpid()),
        signal_queue=signal_queue,
        wakeup_fd=wakeup_fd,
        channel=channel,
    )


def _count_dropped(cells: memoryview) -> None:
    cells[layout.Row.LOG_DROPPED] += 1


def _drop_privileges(identity: Identity | None) -> None:
    """Become ``identity`` and give up all capabilities. PrivilegeError."""
    try:
        if identity is not None:
            privileges.drop_to(identity)
        privileges.give_up_capabilities(unless_filtered=identity is None)
    except OSError as error:
        user = identity.user if identity else "unprivileged"
        reason = error.strerror or error
        raise PrivilegeError(f"cannot drop privileges to {user}: {reason}") from error
