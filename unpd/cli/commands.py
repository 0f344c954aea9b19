"""The commands that need the whole configuration: run, check, start."""

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from unpd.cli.configured import config_path
from unpd.config.host import Host, this_host
from unpd.config.load import Loaded, builtin, load
from unpd.config.plan import effective
from unpd.errors import ConfigError, Problem, UnpdError
from unpd.kernel import processes, signals
from unpd.kernel.detach import detach
from unpd.kernel.pidfile import PidFile
from unpd.kernel.privileges import Identity
from unpd.master import boot
from unpd.master.supervision import Supervision
from unpd.names import ExitCode


def load_path(path: Path | None, host: Host | None = None) -> Loaded:
    """Load the file, or the built-in default for None, checked against ``host`` (None: this machine). ConfigError if it is refused or cannot be read."""
    return builtin(host) if path is None else load(path, host)


def run(args: argparse.Namespace) -> int:
    """``unpd run``: serve in the foreground. Called with all signals blocked."""
    processes.open_standard_descriptors()
    supervision = Supervision.from_environment(os.environ)
    try:
        path = config_path(args)
        loaded = load_path(path)
        identity = boot.identity_for(loaded)
        _make_parents(loaded)
        with PidFile(loaded.config.daemon.pid_file):
            return _serve(path, loaded, identity, boot.Starter(supervision=supervision))
    except UnpdError as error:
        supervision.say(f"STATUS=not started: {str(error).partition(chr(10))[0]}", once=True)
        raise
    finally:
        # The interpreter gives signals their default meaning back while it ends: a second TERM would make a clean end a killed one.
        signals.block_all()


def _make_parents(loaded: Loaded) -> None:
    boot.make_parent(loaded.config.daemon.pid_file)
    boot.make_parent(loaded.config.daemon.control)


def _serve(path: Path | None, loaded: Loaded, identity: Identity | None, starter: boot.Starter) -> ExitCode:
    """Serve until the end. A fault of our own leaves its trace in the log, whatever became of standard error."""
    log = boot.open_log(loaded.config, identity)
    log.info("config.loaded", source=_source(loaded), drop_ins=loaded.drop_ins)
    try:
        # A reload looks up no account: the user database may be a network away, and user and group cannot change.
        host = replace(this_host(), accounts=False)
        return boot.serve(loaded, lambda: load_path(path, host), identity, log, starter)
    except UnpdError as error:
        if loaded.config.log.file:  # on standard error the command says it itself
            log.error("master.refused", reason=str(error))
        raise
    except Exception as error:
        log.error("master.crashed", error=repr(error), trace="".join(traceback.format_exception(error))[-900:])
        raise


def _source(loaded: Loaded) -> str:
    return str(loaded.path or "the built-in default")


def check(args: argparse.Namespace) -> int:
    """``unpd check``: say whether the configuration would be accepted."""
    loaded = load_path(config_path(args))
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(effective(loaded.config) if args.show else "configuration OK\n", end="")
    return ExitCode.DONE


def start(args: argparse.Namespace) -> int:
    """``unpd start``: detach, and return only when the daemon is ready or has failed. A service manager supervises ``unpd run``; what it offers us is not for a daemon apart."""
    Supervision.from_environment(os.environ)
    path = config_path(args)  # absolute: the daemon's working directory is /
    loaded = load_path(path)
    if not loaded.config.log.file:
        reason = "a daemon without a terminal needs a log file: set log.file, or use unpd run"
        raise ConfigError((Problem(_source(loaded), None, "log.file", reason),))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # inherited as ignored, the kernel would reap our child for us and waitpid find none
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_daemon(path, loaded, writer)
    os.close(writer)
    with open(reader, "rb") as result:
        said = result.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    word, _, rest = said.partition(" ")
    if word == "ready":
        return ExitCode.DONE
    code, _, reason = rest.partition(" ")
    for line in (reason or f"the daemon ended before it was ready: see {loaded.config.log.file}").splitlines():
        print(f"unpd: {line}", file=sys.stderr)
    return int(code) if code.isascii() and code.isdecimal() else ExitCode.FAILED


def _become_daemon(path: Path | None, loaded: Loaded, result_fd: int) -> NoReturn:
    """The daemon's process, from the first fork to its end. What goes wrong before it is ready goes to the waiting command."""
    signals.block_all()
    code, reason = ExitCode.FAILED, ""
    told: list[bytes] = []

    def tell(said: bytes) -> None:
        """Answer the command, once: afterwards the descriptor's number may be another's."""
        if not told:
            told.append(said)
            os.write(result_fd, said)
            os.close(result_fd)

    try:
        code = _daemon(path, loaded, result_fd, lambda: tell(b"ready "))
        reason = "the daemon stopped before it was ready"
    except UnpdError as error:
        code, reason = error.exit_code, str(error)
    except Exception as error:  # noqa: BLE001 - the top of a process; the trace is in the log
        reason = f"a failure of unpd itself: {error!r}"
    finally:
        with contextlib.suppress(OSError):  # the command was killed while it waited
            tell(f"failed {int(code)} {reason}".encode())
        os._exit(code)


def _daemon(path: Path | None, loaded: Loaded, result_fd: int, ready: Callable[[], None]) -> ExitCode:
    identity = boot.identity_for(loaded)
    _make_parents(loaded)
    with detach(PidFile(loaded.config.daemon.pid_file), (result_fd,)):
        return _serve(path, loaded, identity, boot.Starter(ready))
