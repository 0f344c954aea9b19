"""``unpd start``: the daemon detached from the terminal. A module of its own, because
what it needs of python-daemon is nothing to ``unpd run``.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from unpd.cli.commands import load_path, serve
from unpd.cli.configured import config_path
from unpd.config.load import Loaded
from unpd.errors import ConfigError, Problem, UnpdError
from unpd.kernel import signals
from unpd.kernel.detach import detach
from unpd.kernel.pidfile import PidFile
from unpd.master import boot
from unpd.master.systemd.offers import Offers
from unpd.names import ExitCode


def start(args: argparse.Namespace) -> int:
    """``unpd start``: detach, and return only when the daemon is ready or has failed. A
    service manager supervises ``unpd run``; what it offers us is not for a daemon
    apart.
    """
    Offers.from_environment(os.environ)
    path = config_path(args)  # absolute: the daemon's working directory is /
    loaded = load_path(path)
    if not loaded.config.log.file:
        reason = "a daemon without a terminal needs a log file: set log.file, or use unpd run"
        raise ConfigError((Problem(loaded.source, None, "log.file", reason),))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    signal.signal(
        signal.SIGCHLD, signal.SIG_DFL
    )  # inherited as ignored, the kernel would reap our child for us and waitpid find none
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
    for line in (
        reason or f"the daemon ended before it was ready: see {loaded.config.log.file}"
    ).splitlines():
        print(f"unpd: {line}", file=sys.stderr)
    return int(code) if code.isascii() and code.isdecimal() else ExitCode.FAILED


def _become_daemon(path: Path | None, loaded: Loaded, result_fd: int) -> NoReturn:
    """The daemon's process, from the first fork to its end. What goes wrong before it
    is ready goes to the waiting command.
    """
    signals.block_all()
    code, reason = ExitCode.FAILED, ""
    told: list[bytes] = []

    def tell(said: bytes) -> None:
        """Answer the command, once: afterwards the descriptor's number may be
        another's.
        """
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


def _daemon(
    path: Path | None, loaded: Loaded, result_fd: int, ready: Callable[[], None]
) -> ExitCode:
    identity = boot.identity_for(loaded)
    boot.make_parents(loaded.config)
    with detach(PidFile(loaded.config.daemon.pid_file), (result_fd,)):
        return serve(path, loaded, identity, boot.Starter(ready))
