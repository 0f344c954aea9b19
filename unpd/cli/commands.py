"""The commands that need the whole configuration, run and check, and the part of run
that start shares.

Called by dispatch and by start; calls the loader of the configuration,
:mod:`unpd.master.boot`, and for ``check --as-daemon`` :mod:`unpd.kernel.likeness`. Owns
the pid file while ``unpd run`` serves. Errors: UnpdError, which the log has too if it
goes to a file.
"""

import argparse
import contextlib
import os
from dataclasses import replace
from pathlib import Path

from unpd.cli.configured import config_path, control_path
from unpd.cli.output import complain, show
from unpd.config import dropins, places
from unpd.config.host import Host, this_host
from unpd.config.list_checks import list_files
from unpd.config.load import Loaded, builtin, load
from unpd.config.plan import effective
from unpd.config.wording import file_shown
from unpd.control.client import ControlClient, NotRunningError
from unpd.errors import ConfigError, PrivilegeError, UnpdError, error_text
from unpd.kernel import likeness, signals
from unpd.kernel.pidfile import PidFile
from unpd.kernel.privileges import Identity
from unpd.logs import trace_of
from unpd.master import boot, parents
from unpd.master.systemd.offers import Offers
from unpd.names import MASTER_TITLE, ExitCode
from unpd.wording import counted


def load_path(path: Path | None, host: Host | None = None) -> Loaded:
    """Load the file, or the built-in default for None, and check it against ``host``
    (None: this machine). ConfigError if it is refused or cannot be read.
    """
    return builtin(host) if path is None else load(path, host)


def run(args: argparse.Namespace) -> int:
    """``unpd run``: serve in the foreground. All signals must be blocked."""
    offers = Offers.from_environment(os.environ)
    try:
        path = config_path(args)
        loaded = load_path(path)
        identity = boot.identity_for(loaded)
        parents.make_parents(loaded.config)
        with PidFile(loaded.config.daemon.pid_file) as pid_file:
            return serve(path, loaded, identity, boot.Starter(offers=offers, pid_file=pid_file))
    except UnpdError as error:
        offers.send(f"STATUS=not started: {str(error).partition(chr(10))[0]}", once=True)
        raise
    finally:
        # The interpreter restores the default actions of signals while it ends: then a
        # second TERM would turn a clean end into a death by signal.
        signals.block_all()


def serve(
    path: Path | None, loaded: Loaded, identity: Identity | None, starter: boot.Starter
) -> ExitCode:
    """Serve until the end. A fault of our own leaves its trace in the log, because
    standard error may be closed by then.
    """
    log = boot.open_log(loaded.config, identity)
    log.event("config.loaded", source=loaded.source, drop_ins=loaded.drop_ins)
    try:
        # A reload looks up no account of daemon.user and daemon.group, which cannot
        # change, nor of programs: the user database may be at the other end of a
        # network. Names in access rules and in control.read_group it does look up.
        host = replace(this_host(path), check_accounts=False, children=identity)
        return boot.serve(loaded, lambda: load_path(path, host), identity, log, starter)
    except UnpdError as error:
        if loaded.config.log.file:  # dispatch prints the error on standard error
            log.event("master.refused", reason=str(error))
        raise
    except Exception as error:
        log.event(
            "master.crashed",
            error=error_text(error),
            trace=trace_of(error),
        )
        raise


def check(args: argparse.Namespace) -> int:
    """``unpd check``: print whether the configuration would be accepted."""
    path = config_path(args)
    as_daemon = args.as_daemon is not None
    if as_daemon:
        _become_daemon_user(args)
    loaded = load_path(path, replace(this_host(path), check_interfaces=True))
    if as_daemon:
        refuse_unusable(loaded)
    for warning in loaded.warnings:
        complain(warning, name="warning: ")
    shown = show(effective(loaded.config) if args.show else _verdict(loaded))
    return ExitCode.DONE if shown else ExitCode.FAILED


def refuse_unusable(loaded: Loaded, given: frozenset[Path] = frozenset()) -> None:
    """ConfigError if this process could not use a place that the configuration needs.
    PrivilegeError if it may not have the identity that this asks for. ``given``:
    directories that the service manager makes before a start, or gives to the user.
    """
    identity = boot.identity_for(loaded)
    owner = (identity.uid, identity.gid) if identity else None
    if problems := places.unusable(loaded.config, loaded.source, owner, given):
        raise ConfigError(problems)


def _verdict(loaded: Loaded) -> str:
    """The text about a configuration that is right: how many entries each list file
    has, so that an operator notices one that lacks some, and the verdict with the files
    that it is about.
    """
    sizes = [f"{file.file}: {counted(file.entries, 'entry')}" for file in list_files(loaded.config)]
    return "\n".join([*sizes, f"configuration OK: {_files(loaded)}"])


def _files(loaded: Loaded) -> str:
    """The main file, and how many drop-ins were read where."""
    if loaded.path is None:
        return "the built-in default"
    main = file_shown(loaded.path)
    if not loaded.drop_ins:
        return main
    directory = file_shown(loaded.path.parent / dropins.DIRECTORY)
    return f"{main} and {counted(loaded.drop_ins, 'drop-in')} in {directory}"


def _become_daemon_user(args: argparse.Namespace) -> None:
    """Take over the rights of the daemon that runs, and its view of the file system:
    root, who checks, may read files that the daemon may not. UnpdError if no daemon
    runs, PrivilegeError if this user may not.
    """
    pid = args.as_daemon or _daemon_pid(args)
    try:
        _refuse_other(pid)
        likeness.become_like(pid)
    except likeness.ForeignError as error:
        raise UnpdError(f"cannot check as the daemon (pid {pid}): {error}") from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise UnpdError(f"cannot check as the daemon: no process has pid {pid}") from error
    except OSError as error:
        root = "; only root can" if os.geteuid() else ""
        raise PrivilegeError(
            f"cannot check as the daemon (pid {pid}): {error.strerror or error}{root}"
        ) from error


def _refuse_other(pid: int) -> None:
    """UnpdError if the process is no master: the check would hold for another one."""
    if not likeness.title_of(pid).startswith(MASTER_TITLE):
        raise UnpdError(
            f"cannot check as the daemon: process {pid} is no unpd master; unpd status prints the"
            " pid of the master"
        )


def _daemon_pid(args: argparse.Namespace) -> int:
    """Return the pid of the daemon at the control socket that the file names. UnpdError
    if none listens there, as when the file names another socket than the daemon has.
    """
    try:
        with contextlib.closing(ControlClient(control_path(args))) as client:
            pid = client.daemon_pid()
    except NotRunningError as error:
        raise NotRunningError(
            f"{error}; if daemon.control has changed, name the daemon: --as-daemon=PID"
        ) from None
    if pid == 0:
        raise UnpdError("the daemon lives in another pid namespace: check beside it")
    return pid
