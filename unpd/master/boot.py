"""Boot: from a loaded configuration to a turning loop, and back down.

Called by the commands ``run`` and ``start``, with all signals blocked. The order is:
identity, lock, log, listeners, scoreboard, handlers, control socket, loop. If a step
fails, the steps before it are undone, and an UnpdError says why.

Everything that a child will ever run is imported by now (through
:mod:`unpd.master.children.kinds`), so that an upgrade of the package under a running
daemon cannot mix versions, and ``gc.freeze`` keeps the memory of these modules shared.
"""

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from setproctitle import setproctitle

from unpd import __version__, sinks
from unpd.board import layout
from unpd.config.load import Loaded
from unpd.config.schema import Config
from unpd.control.server import ControlServer
from unpd.core import effects as fx
from unpd.errors import CannotCreateError, ConfigError, PrivilegeError, Problem, UnpdError
from unpd.kernel import journal, privileges, processes, signals
from unpd.kernel.privileges import Identity
from unpd.kernel.signals import Reaper, SignalQueue
from unpd.logs import Log
from unpd.loop import Loop, now
from unpd.master import boards
from unpd.master.listening.sources import ListenerSources
from unpd.master.listening.table import Listeners
from unpd.master.perform import note_listener
from unpd.master.runtime import Deployment, Runtime
from unpd.master.shell import SIGNAL_EVENTS, Shell
from unpd.master.systemd.offers import Offers
from unpd.names import ExitCode

CRASH_GRACE_S = 2.0
"""After a failure of the master itself, how long its children have to end their
connections before they are killed.
"""


class StartFailed(UnpdError):
    """The daemon gave up before it was ready; the code is that of the reason."""

    def __init__(self, exit_code: ExitCode, reason: str) -> None:
        self.exit_code = exit_code
        super().__init__(reason)


def identity_for(loaded: Loaded) -> Identity | None:
    """Return the user and group that the children become, or None if they stay what the
    master is. ConfigError for a name that does not exist, PrivilegeError for a change
    that needs root.
    """
    daemon = loaded.config.daemon
    if (
        os.geteuid() != 0
        and daemon.user == privileges.user_name(os.geteuid())
        and daemon.group is None
    ):
        return None
    try:
        identity = privileges.identify(daemon.user, daemon.group)
    except KeyError as error:
        raise ConfigError(
            (Problem(loaded.source, None, "daemon.user", f"{error.args[0]}"),)
        ) from error
    if os.geteuid() == 0:
        return identity
    if identity.uid != os.geteuid():
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
    """Open the log that the configuration asks for. Text on a standard error that
    journald reads becomes entries of the journal. CannotCreateError if the file cannot
    be opened.
    """
    if not config.log.file:
        sink = sinks.standard_error()
        if config.log.format == "text" and journal.reads(sink.fd, os.environ.get("JOURNAL_STREAM")):
            return Log(
                sinks.Journal(sink, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
                config.log.level,
                "journal",
            )
    else:
        try:
            sink = sinks.open_file(
                config.log.file, (identity.uid, identity.gid) if identity else None
            )
        except OSError as error:
            raise CannotCreateError(
                f"cannot open the log file {config.log.file}: {error.strerror}"
            ) from error
    return Log(sink, config.log.level, config.log.format)


def make_parents(config: Config) -> None:
    """Make the directories of the pid file and the control socket if they are missing.
    CannotCreateError.
    """
    _make_parent(config.daemon.pid_file)
    _make_parent(config.daemon.control)


def _make_parent(path: Path) -> None:
    """The last component only. In /tmp somebody else could have made it first."""
    try:
        path.parent.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
        owner = path.parent.stat().st_uid
    except OSError as error:
        raise CannotCreateError(
            f"cannot make the directory {path.parent}: {error.strerror}"
        ) from error
    if os.geteuid() != 0 and owner not in (0, os.geteuid()):
        raise CannotCreateError(f"the directory {path.parent} belongs to another user")


@dataclass(frozen=True, slots=True)
class Starter:
    """Who started the daemon: what to call once it is ready, and what the service
    manager offers if it was that.
    """

    on_ready: Callable[[], None] = lambda: None
    offers: Offers = field(default_factory=Offers)


def serve(
    loaded: Loaded,
    load: Callable[[], Loaded],
    identity: Identity | None,
    log: Log,
    starter: Starter,
) -> ExitCode:
    """Run the daemon until it has stopped; return how. The pid file's lock is the
    caller's. UnpdError where the start is refused.
    """
    setproctitle("unpd: master starting")
    processes.raise_descriptor_limit()
    for warning in loaded.warnings:
        log.event("config.warning", text=warning)
    with contextlib.ExitStack() as undo:
        deployment = _deploy(loaded.config, log, starter.offers)
        undo.callback(deployment.listeners.close)
        runtime = _make_runtime(deployment, load, identity, log, starter)
        for listener in deployment.listeners.opened.values():
            note_listener(runtime, listener)
        wakeup_fd = _handle_signals(runtime)
        shell = Shell(runtime, wakeup_fd, starter.offers)
        path = loaded.config.daemon.control
        runtime.control = ControlServer(
            path,
            identity.uid if identity and identity.uid != 0 else None,
            runtime.loop,
            shell.asked,
        )
        undo.callback(runtime.control.close)
        with _children_never_outlive(runtime):
            end = _run(shell, runtime)
    log.event("master.stopped", code=end.code, reason=end.reason)
    if end.code != ExitCode.DONE:
        raise StartFailed(ExitCode(end.code), end.reason)
    return ExitCode.DONE


def _deploy(config: Config, log: Log, offers: Offers) -> Deployment:
    """Open the listeners of the first configuration, or take them from the service
    manager or its descriptor store; store what is new.
    """
    passed = [passed for passed in offers.passed if passed.name != boards.STORED_AS]
    sources = ListenerSources(passed, offers.store)
    wanted_listeners = sources.wanted_listeners(config)
    for address in sources.settle(wanted_listeners):
        log.event("listener.closed", address=address)
    listeners = Listeners(sources)
    listeners.adopt(listeners.prepare(wanted_listeners))
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
    reaper.calls = opened.board.words[layout.Master.SIGCHLD]
    log.sink.dropped += opened.board.words[layout.Master.LOG_DROPPED]
    return Runtime(
        deployment=deployment,
        load=load,
        identity=identity,
        log=log,
        board=opened.board,
        columns=opened.columns,
        loop=Loop(),
        reaper=reaper,
        signal_queue=SignalQueue(),
        on_ready=starter.on_ready,
        master_pid=os.getpid(),
        started_at=now(),
    )


def _handle_signals(runtime: Runtime) -> int:
    """Install every handler, then unblock the signals, which were blocked since the
    first line of the program. Return the read end of the wake-up pipe.
    """
    wakeup_fd, _ = signals.open_wakeup_pipe()
    runtime.signal_queue.install(SIGNAL_EVENTS)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    runtime.reaper.install()
    signals.unblock_all()
    return wakeup_fd


def _run(shell: Shell, runtime: Runtime) -> fx.Leave:
    # What exists now stays: a collection in a child would write to these pages and so
    # copy them (gc.freeze in the manual of the library).
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
def _children_never_outlive(runtime: Runtime) -> Iterator[None]:
    """End all children if the loop fails by a fault of its own: TERM, CRASH_GRACE_S,
    KILL. This does not use the loop, which has failed.
    """
    try:
        yield
    finally:
        pidfds = {
            process.pidfd for process in runtime.processes.values() if process.pidfd is not None
        }
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for pidfd in pidfds:
                processes.send_signal(pidfd, signum)
            pidfds = processes.alive_after(pidfds, CRASH_GRACE_S)
