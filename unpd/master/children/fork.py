"""The fork, and the first and last steps of a child of any kind.

The parent blocks all signals from before the fork until it has registered the child.
So it cannot reap the child before it knows the pid. In the child the signals stay
blocked until it has its own handlers. So no signal for the child is lost, and none of
its signals reaches the parent.

The child never returns into the master's frames: it ends in ``os._exit``. Those frames
keep the master's objects alive, so that no destructor closes a descriptor number that
has another meaning in the child.

Called by the performers; calls :mod:`unpd.kernel`. OSError if the kernel refuses.
"""

import errno
import faulthandler
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from setproctitle import setproctitle

from unpd.board import layout
from unpd.board.ended import EndedRing
from unpd.board.memory import Scoreboard, rows_bound, wrapped
from unpd.channel import ChannelEnd
from unpd.core.model import Child
from unpd.core.policy import policy_of
from unpd.errors import PrivilegeError, UnpdError, error_text
from unpd.kernel import privileges, processes, signals, terminal
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import SignalQueue
from unpd.logs import Log, trace_of
from unpd.master.children import reports
from unpd.names import MASTER_SIGNALS, ChildOrder, ExitCode

_HANDLED = (ChildOrder.RETIRE, ChildOrder.FINISH, ChildOrder.LEAVE)
CHILD_SIGNALS: Mapping[int, ChildOrder] = MappingProxyType(
    {int(signal.Signals[order.value]): order for order in _HANDLED}
)
"""The signals that a child handles. SIGABRT and SIGKILL keep their default actions."""
IGNORED = tuple(
    number
    for row in MASTER_SIGNALS
    for number in signals.numbers_of(row.name)
    if number not in CHILD_SIGNALS and number != signal.SIGCHLD
)
"""The signals that a child ignores: one that was meant for the master, or for all
processes of one name (killall(1)), ends none of them. The default action of SIGCHLD is
to be ignored, and SIG_IGN would mean more (wait(2)).
"""


@dataclass(slots=True)
class Newborn:
    """The objects of a new child of any kind. ``cells`` is its ``row`` of the board.
    ``ended``: its ring of connections that have ended, None if it serves no clients.
    """

    child: Child
    board: Scoreboard
    row: int
    cells: memoryview
    log: Log
    signal_queue: SignalQueue
    wakeup_fd: int
    channel: ChannelEnd
    ended: EndedRing | None = None
    reported: bool = False

    def report_ready(self) -> None:
        """Report to the master that this child serves."""
        self.channel.send(reports.ready())
        self.reported = True

    def switch_log(self) -> dict[str, Any]:
        """Write to the log file whose descriptor came with a question; return the
        answer.
        """
        fd = self.channel.take_descriptor()
        if fd is None:
            return {"error": "no descriptor came: the process has no free one"}
        self.log.sink.switch_to(fd)
        return {"log": "switched"}

    def title(self, state: str) -> None:
        """Show kind, slot or service, and state as the process title."""
        show_title(self.child, state)


@dataclass(frozen=True, slots=True)
class ForkPlan:
    """The plan of a fork: the objects that the new child takes over from the master.

    ``row``: the child's row of the board. ``identity``: looks the user and group to
    become up, in the child (None: those of the master). ``keeps_root``: the child keeps
    the user and all rights of the master. ``kept_fds``: the descriptors that the child
    keeps beside 0, 1, 2, the log's and the channel's. ``live``: its whole life.
    ``ended``: as in Newborn.
    """

    board: Scoreboard
    row: int
    identity: Callable[[], Identity | None]
    log: Log
    kept_fds: tuple[int, ...]
    live: Callable[[Newborn], None]
    keeps_root: bool = False
    ended: EndedRing | None = None


@dataclass(frozen=True, slots=True)
class Forked:
    """A new child as its parent sees it. ``pidfd`` is None if the kernel refused one;
    then the child was killed and only waits to be reaped.
    """

    pid: int
    pidfd: int | None
    channel: ChannelEnd


def show_title(child: Child, state: str) -> None:
    """Set the process title of a child. The important words come first, because
    setproctitle cuts the title at the size of argv and environment.
    """
    place = f" {child.slot}" if policy_of(child).serves else ""
    setproctitle(f"unpd: {child.slot.kind}{place} {state}, generation {child.generation}")


def fork(child: Child, plan: ForkPlan, register: Callable[[Forked], None]) -> None:
    """Fork ``child``; call ``register`` in the parent before that can reap the child.

    OSError if the kernel refuses (EAGAIN at a pids limit, ENOMEM, EMFILE).
    """
    parent_sock, child_sock = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    parent_pid = os.getpid()
    try:
        with signals.blocked():
            pid = os.fork()
            if pid == 0:
                channel = ChannelEnd(child_sock, takes_descriptors=True)
                _live_and_exit(child, plan, channel, parent_pid)
            forked = Forked(pid, _open_pidfd(pid), ChannelEnd(parent_sock))
            _register(forked, register)
    except BaseException:
        parent_sock.close()
        raise
    finally:
        child_sock.close()


def _register(forked: Forked, register: Callable[[Forked], None]) -> None:
    """Register a new child. An OSError must not look like a refused fork, for the child
    exists: it is killed, and the master fails.
    """
    try:
        register(forked)
    except OSError as error:
        os.kill(forked.pid, signal.SIGKILL)
        raise AssertionError(f"a forked child could not be registered: {error}") from error


def _open_pidfd(pid: int) -> int | None:
    """Return a pidfd of the new child, or kill the child if the kernel refuses one:
    without a pidfd, a later signal might hit another process. The pid is safe now, for
    the child cannot be reaped while signals are blocked.
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
        text, trace = error_text(error), trace_of(error)
        plan.log.event(f"{child.slot.kind}.crashed", error=text, trace=trace)
    finally:
        plan.board.row(plan.row)[layout.Row.EXIT_NS] = time.monotonic_ns()
        os._exit(code)


def _live(child: Child, plan: ForkPlan, channel: ChannelEnd, parent_pid: int) -> int:
    """Run the child's whole life; return its exit code."""
    newborn = _settle_in(child, plan, channel)
    try:
        if not plan.keeps_root:
            _drop_privileges(plan.identity())
        if not processes.die_with_parent(parent_pid):
            return int(ExitCode.FAILED)
        signals.unblock_all()
        plan.live(newborn)
    except UnpdError as error:
        if newborn.reported:
            raise  # the master waits for no reason any more: the log gets it
        channel.send(reports.failure(error))
        return int(error.exit_code)
    order = CHILD_SIGNALS.get(newborn.signal_queue.last)
    if order is not None:
        channel.send(reports.left(order))
    return int(ExitCode.DONE)


def _settle_in(child: Child, plan: ForkPlan, channel: ChannelEnd) -> Newborn:
    """Give up the parent's title, handlers, terminal and descriptors; set up those of
    the child. The title comes first: until then, ps and pgrep take the child for a
    second master.
    """
    show_title(child, "starting")
    signals.reset_inherited()
    terminal.leave()
    plan.log.sink.separate()
    log_fds = plan.log.sink.fds
    processes.close_all_but((0, 1, 2, *log_fds, channel.fileno(), *plan.kept_fds))
    plan.board.rows_bound = rows_bound(plan.board.rows_given)
    cells = plan.board.row(plan.row)
    faulthandler.enable(file=plan.log.sink.fd)
    plan.log.sink.on_drop = lambda: _count_dropped(cells)
    signals.ignore(IGNORED)
    signal_queue = SignalQueue()
    signal_queue.install(CHILD_SIGNALS)
    wakeup_fd, _ = signals.open_wakeup_pipe()
    slot = child.slot
    return Newborn(
        child=child,
        board=plan.board,
        row=plan.row,
        cells=cells,
        log=plan.log.child(role=str(slot.kind), pool=slot.pool, index=slot.index, pid=os.getpid()),
        signal_queue=signal_queue,
        wakeup_fd=wakeup_fd,
        channel=channel,
        ended=plan.ended,
    )


def _count_dropped(cells: memoryview) -> None:
    cells[layout.Row.LOG_DROPPED] = wrapped(cells[layout.Row.LOG_DROPPED] + 1)


def _drop_privileges(identity: Identity | None) -> None:
    """Become ``identity`` and give up all capabilities. PrivilegeError.

    A child of the master's own user becomes inspectable, which the master is not. The
    exporter can then see dead siblings where /proc hides what is not, and a crash
    leaves a core dump. A child that was root stays as the change of user left it.
    """
    user = f" to {identity.user}" if identity else ""
    needed = ""
    try:
        if identity is not None:
            needed = "; that needs the capabilities CAP_SETUID and CAP_SETGID"
            privileges.drop_to(identity)
            needed = ""
        privileges.give_up_capabilities(required=identity is not None)
        if identity is None:
            privileges.set_inspectable(inspectable=True)
    except OSError as error:
        reason = f"{error.strerror or error}{needed if error.errno == errno.EPERM else ''}"
        raise PrivilegeError(f"cannot drop privileges{user}: {reason}") from error
