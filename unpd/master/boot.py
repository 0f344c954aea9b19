"""Boot: sets up the master from a loaded configuration, runs it, and takes it down.

Called by the commands ``run`` and ``start``, with all signals blocked. The order is:
identity, lock, log, listeners, scoreboard, live denials, handlers, control socket,
loop. If a step fails, the earlier steps are undone, and an UnpdError gives the reason.

This module imports everything that a child will ever run (through
:mod:`unpd.master.children.kinds`). So an upgrade of the package under a running daemon
cannot mix versions, and ``gc.freeze`` keeps the memory of these modules shared.
"""

import contextlib
import faulthandler
import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from setproctitle import setproctitle

from unpd import __version__, sinks
from unpd.board import layout
from unpd.board.memory import sane
from unpd.config.load import Loaded
from unpd.config.schema import Config
from unpd.config.source import names_of
from unpd.control.callers import Callers
from unpd.control.server import ControlServer
from unpd.core import effects as fx
from unpd.errors import CannotCreateError, ConfigError, PrivilegeError, Problem, UnpdError
from unpd.kernel import journal, needed, privileges, processes
from unpd.kernel.credentials import Credentials
from unpd.kernel.pidfile import PidFile
from unpd.kernel.privileges import Identity
from unpd.kernel.procfs import ticks_since_boot
from unpd.kernel.signals import Reaper, SignalQueue
from unpd.line_limit import LineLimit
from unpd.logs import Log
from unpd.loop import Loop, now
from unpd.master import boards, left_behind
from unpd.master.listening.sources import ListenerSources
from unpd.master.listening.table import Listeners
from unpd.master.perform import log_listener, log_notes
from unpd.master.recent_events import RecentEvents
from unpd.master.runtime import Deployment, Runtime
from unpd.master.shell import Shell
from unpd.master.signalling import Signalling
from unpd.master.systemd.offers import Offers
from unpd.names import MASTER_TITLE, ExitCode

CRASH_GRACE_S = 2.0
"""How long the children may take to end their connections after a failure of the master
itself, before they are killed.
"""


class StartFailed(UnpdError):
    """The daemon stopped before it was ready. The exit code belongs to the reason."""

    def __init__(self, exit_code: ExitCode, reason: str) -> None:
        self.exit_code = exit_code
        super().__init__(reason)


def identity_for(loaded: Loaded) -> Identity | None:
    """Return the user and group that the children become, or None if they keep those of
    the master. ConfigError for a name that does not exist, PrivilegeError for a change
    that needs root.
    """
    daemon = loaded.config.daemon
    uid = os.geteuid()
    if uid != 0 and daemon.user == privileges.user_name(uid) and daemon.group is None:
        return None
    try:
        identity = privileges.identify(daemon.user, daemon.group)
    except KeyError as error:
        problem = Problem(loaded.source, None, "daemon.user", f"{error.args[0]}")
        raise ConfigError((problem,)) from error
    if uid == 0:
        return identity
    if identity.uid != uid:
        raise PrivilegeError(
            f"only root can become {identity.user} (daemon.user in {loaded.source}): start unpd as"
            f" root or as {identity.user}"
        )
    if daemon.group is not None and identity.gid != os.getegid():
        raise PrivilegeError(
            f"only root can change to the group {identity.group} (daemon.group in {loaded.source}):"
            " start unpd as root or leave the group out"
        )
    return None


def open_log(config: Config, identity: Identity | None) -> Log:
    """Open the log that the configuration asks for. CannotCreateError if its file
    cannot be opened.

    Lines of text become entries of the journal if journald reads the standard error.
    """
    wanted, path = config.log, config.log.file
    if path:
        try:
            fd = sinks.open_file(path, (identity.uid, identity.gid) if identity else None)
        except OSError as error:
            reason = sinks.refusal(path, error)
            raise CannotCreateError(f"cannot open the log file {path}: {reason}") from error
        log = Log(sinks.Sink(fd), wanted.level, wanted.format, connections=wanted.connections)
        if sinks.is_shared(fd):
            log.event("log.shared", file=path)
        return log
    sink = sinks.standard_error()
    if wanted.format == "text" and journal.reads(sink.fd, os.environ.get("JOURNAL_STREAM")):
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        entries = sinks.Journal(sink, datagrams)
        return Log(entries, wanted.level, "journal", connections=wanted.connections)
    return Log(sink, wanted.level, wanted.format, connections=wanted.connections)


@dataclass(frozen=True, slots=True)
class Starter:
    """What started the daemon. ``on_ready`` is called once the daemon is ready.
    ``offers`` has the offers of the service manager, none if that did not start it.
    ``pid_file`` is locked.
    """

    on_ready: Callable[[], None] = lambda: None
    offers: Offers = field(default_factory=Offers)
    pid_file: PidFile | None = None


def serve(
    loaded: Loaded,
    load: Callable[[], Loaded],
    identity: Identity | None,
    log: Log,
    starter: Starter,
) -> ExitCode:
    """Run the daemon until it has stopped; return its exit code. The caller holds the
    lock of the pid file. UnpdError if the daemon cannot start.
    """
    setproctitle(f"{MASTER_TITLE} starting")
    recent_events = RecentEvents()
    log.on_event = recent_events.note
    since = ticks_since_boot()
    _check_surroundings()
    _protect(identity, log)
    with contextlib.suppress(OSError):  # a filter refuses prlimit(2): the limit stays
        processes.raise_descriptor_limit()
    for warning in loaded.warnings:
        log.event("config.warning", text=warning)
    log_notes(log, loaded.config)
    with contextlib.ExitStack() as undo:
        deployment = _deploy(loaded.config, log, starter.offers)
        undo.callback(deployment.listeners.close)
        runtime = _make_runtime(deployment, load, identity, log, starter)
        runtime.config_names = names_of(loaded.path)
        runtime.recent_events = recent_events
        runtime.deny_list.use_file(loaded.config.access.state_file, now())
        undo.callback(lambda: runtime.deny_list.close(now()))
        for listener in deployment.listeners.opened.values():
            log_listener(runtime, listener)
        shell = Shell(runtime, Signalling(runtime), starter.offers)
        callers = Callers(
            children_uid=identity.uid if identity else os.geteuid(),
            path=str(loaded.config.daemon.control),
            since=since,
            readers=loaded.config.control.read_group,
        )
        refused = partial(_log_refusal, log, LineLimit())
        control = ControlServer(callers, runtime.loop, shell.carry_out, refused)
        runtime.control = control
        undo.callback(control.close)
        if isinstance(log.sink, sinks.Inherited):
            relay = log.sink.relay
            runtime.loop.watch(log.sink.inlet, select.EPOLLIN, lambda _: relay())
        with _children_never_outlive(runtime, since):
            end = _run(shell, runtime)
    log.event("master.stopped", code=end.code, reason=end.reason)
    control.farewell()
    if end.code != ExitCode.DONE:
        raise StartFailed(ExitCode(end.code), end.reason)
    return ExitCode.DONE


def _check_surroundings() -> None:
    """UnpdError in one sentence if this system lacks what every child needs."""
    try:
        needed.check_calls()
    except needed.CallRefusedError as error:
        raise PrivilegeError(str(error)) from error
    try:
        os.close(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise CannotCreateError(
            f"cannot open {os.devnull}, which every child needs: {error.strerror}"
        ) from error


def _protect(identity: Identity | None, log: Log) -> None:
    """Keep the children out of the master, and its descendants in sight.

    Children of another user cannot look into it anyway. If they are of its own user, it
    must not be inspectable: then it dumps no core either, so that a trace in the log
    has to tell where it crashed.
    """
    if identity is None:
        privileges.set_inspectable(inspectable=False)
    processes.adopt_orphans()
    faulthandler.enable(file=log.sink.fd)


def _log_refusal(log: Log, limit: LineLimit, caller: Credentials, reason: str) -> None:
    suppressed = limit.take(now())
    if suppressed is not None:
        log.event(
            "control.refused",
            by_uid=caller.uid,
            by_pid=caller.pid,
            reason=reason,
            suppressed=suppressed,
        )


def _deploy(config: Config, log: Log, offers: Offers) -> Deployment:
    """Open the listeners of the first configuration, or take them from the service
    manager or its descriptor store. Store the new ones.
    """
    boards.drop_impostors(offers, log)
    passed = [descriptor for descriptor in offers.passed if descriptor.name != boards.STORED_AS]
    sources = ListenerSources(passed, offers.store)
    listeners = Listeners(sources)
    try:
        wanted_listeners = sources.wanted_listeners(config)
        for address in sources.stored.settle(wanted_listeners):
            log.event("listener.closed", address=address)
        listeners.adopt(listeners.prepare(wanted_listeners))
    finally:
        for dropped in sources.stored.dropped:
            log.event("listener.dropped", item=dropped.item, reason=dropped.reason)
    return Deployment(config, listeners)


def _make_runtime(
    deployment: Deployment,
    load: Callable[[], Loaded],
    identity: Identity | None,
    log: Log,
    starter: Starter,
) -> Runtime:
    wanted_listeners = [listener.wanted for listener in deployment.listeners.opened.values()]
    opened = boards.open_board(starter.offers, log, deployment.config, wanted_listeners)
    reaper = Reaper()
    reaper.calls = sane(opened.board.words[layout.Master.SIGCHLD])
    log.sink.dropped += sane(opened.board.words[layout.Master.LOG_DROPPED])
    return Runtime(
        deployment=deployment,
        load=load,
        identity=identity,
        log=log,
        board=opened.board,
        sources=boards.make_sources(),
        columns=opened.columns,
        loop=Loop(),
        reaper=reaper,
        signal_queue=SignalQueue(),
        on_ready=starter.on_ready,
        pid_file=starter.pid_file,
        master_pid=os.getpid(),
        started_at=now(),
    )


def _run(shell: Shell, runtime: Runtime) -> fx.Leave:
    # The objects that exist now stay for good. A garbage collection in a child would
    # write to their pages and so copy them (gc.freeze in the library reference).
    gc.freeze()
    processes.trim_heap()
    runtime.log.event(
        "master.started",
        version=__version__,
        pid=os.getpid(),
        user=privileges.user_name(os.geteuid()),
    )
    return shell.run()


@contextlib.contextmanager
def _children_never_outlive(runtime: Runtime, since: int) -> Iterator[None]:
    """End the children that are left after the loop: SIGTERM, and SIGKILL after
    CRASH_GRACE_S. Some are left only if the loop failed, so this does not use it. End
    what they left behind, all of it younger than ``since``. Pass on their last lines.
    """
    try:
        yield
    finally:
        left = runtime.processes.values()
        pidfds = {process.pidfd for process in left if process.pidfd is not None}
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for pidfd in pidfds:
                processes.send_signal(pidfd, signum)
            pidfds = processes.alive_after(pidfds, CRASH_GRACE_S)
        timeout_s = left_behind.time_for(runtime.deployment.config.daemon.grace_s)
        left_behind.end_left_behind(since, timeout_s, runtime.log)
        if isinstance(runtime.log.sink, sinks.Inherited):
            runtime.log.sink.relay_rest()
