"""Boot: from a loaded configuration to a turning loop, and back down. Called with all
signals blocked; nothing is half started when it fails.

The order: identity, lock, log, listeners, scoreboard, handlers, control socket, loop.
Everything that a child will ever run is imported by now (this module imports it through
:mod:`unpd.master.children.kinds`), so that an upgrade of the package under a running
daemon cannot mix versions, and ``gc.freeze`` keeps those pages shared.
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

from unpd import __version__, logs
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
    """Whom the children become: None when they stay who the master is. ConfigError for
    names that do not exist, PrivilegeError where the change is not ours to make.
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
    """The log that the configuration asks for; text on a standard error that journald
    reads becomes entries of the journal. CannotCreateError if the file cannot be
    opened.
    """
    if not config.log.file:
        sink = logs.standard_error()
        if config.log.format == "text" and journal.reads(sink.fd, os.environ.get("JOURNAL_STREAM")):
            return Log(
                logs.Journal(sink, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)),
                config.log.level,
                "journal",
            )
    else:
        try:
            sink = logs.open_file(
                config.log.file, (identity.uid, identity.gid) if identity else None
            )
        except OSError as error:
            raise CannotCreateError(
                f"cannot open the log file {config.log.file}: {error.strerror}"
            ) from error
    return Log(sink, config.log.level, config.log.format)


def make_parents(config: Config) -> None:
    """Make the directories of the pid file and the control socket where they are
    missing. CannotCreateError.
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
        log.warning("config.warning", text=warning)
    with contextlib.ExitStack() as undo:
        listeners = _listeners(loaded.config, log, starter.offers)
        undo.callback(listeners.close)
        runtime = _runtime(Deployment(loaded.config, listeners), load, identity, log, starter)
        for listener in listeners.opened.values():
            note_listener(runtime, listener)
        wakeup_fd = _handle_signals(runtime)
        shell = Shell(runtime, wakeup_fd, starter.offers)
        path = loaded.config.daemon.control
        runtime.control = ControlServer(
            path,
            identity.uid if identity and identity.uid != 0 else None,
            runtime.wait,
            shell.asked,
        )
        undo.callback(runtime.control.close)
        with _children_never_outlive(runtime):
            end = _run(shell, runtime)
    log.info("master.stopped", code=end.code, reason=end.reason)
    if end.code != ExitCode.DONE:
        raise StartFailed(ExitCode(end.code), end.reason)
    return ExitCode.DONE


def _listeners(config: Config, log: Log, offers: Offers) -> Listeners:
    """The listeners of the first configuration: passed, kept by the service manager, or
    opened now; and from now on in its store.
    """
    supply = ListenerSources(
        [passed for passed in offers.passed if passed.name != boards.STORED_AS],
        offers.store,
    )
    for address in supply.settle(supply.wanted_listeners(config)):
        log.info("listener.closed", address=address)
    listeners = Listeners(supply)
    listeners.adopt(listeners.prepare(config))
    return listeners


def _runtime(
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
        deployment,
        load,
        identity,
        log,
        opened.board,
        opened.columns,
        Loop(),
        reaper,
        SignalQueue(),
        starter.on_ready,
        os.getpid(),
        now(),
    )


def _handle_signals(runtime: Runtime) -> int:
    """Install every handler, then let through what was held back since the first line
    of the program; return the wake-up pipe's read end.
    """
    wakeup_fd, _ = signals.open_wakeup_pipe()
    runtime.signal_queue.install(SIGNAL_EVENTS)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    runtime.reaper.install()
    signals.unblock_all()
    return wakeup_fd


def _run(shell: Shell, runtime: Runtime) -> fx.Leave:
    # No collection before: the holes that it leaves in shared pages are what children
    # would fill, each in its own copy (0.4 MB in four processes; see gc.freeze's
    # manual).
    gc.freeze()
    processes.trim_heap()
    runtime.log.info(
        "master.started",
        version=__version__,
        pid=os.getpid(),
        user=privileges.user_name(os.geteuid()),
    )
    return shell.run()


@contextlib.contextmanager
def _children_never_outlive(runtime: Runtime) -> Iterator[None]:
    """If the loop fails by a fault of ours, its children get TERM, a moment, and KILL:
    nobody is left behind. Not through the loop, for that is what failed.
    """
    try:
        yield
    finally:
        pidfds = {living.pidfd for living in runtime.living.values() if living.pidfd is not None}
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for pidfd in pidfds:
                processes.send(pidfd, signum)
            pidfds = processes.outliving(pidfds, CRASH_GRACE_S)
