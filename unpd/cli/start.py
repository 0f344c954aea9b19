"""``unpd start``: the daemon, detached from the terminal.

Called by dispatch; forks, and in the child becomes a daemon and serves as ``unpd run``
does. The two processes share a pipe, over which the child reports once: ready, or the
reason for its failure. Errors: ConfigError before the fork; afterwards the parent
prints the child's reason and returns its exit code. Apart from commands, because ``unpd
run`` need not import python-daemon.
"""

import argparse
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from unpd.cli.commands import load_path, serve
from unpd.cli.configured import config_path
from unpd.cli.output import complain
from unpd.config.load import Loaded
from unpd.errors import ConfigError, Problem, UnpdError
from unpd.kernel import processes, signals
from unpd.kernel.detach import detach
from unpd.kernel.pidfile import PidFile
from unpd.master import boot, parents
from unpd.master.systemd.offers import Offers
from unpd.names import ExitCode


def start(args: argparse.Namespace) -> int:
    """``unpd start``: detach, and return only when the daemon is ready or has failed.

    The offers of a service manager are taken out of the environment and not used: they
    are for a process that it supervises, as ``unpd run`` is.
    """
    Offers.from_environment(os.environ)
    path = config_path(args)  # absolute: the daemon's working directory is /
    loaded = load_path(path)
    if not loaded.config.log.file:
        reason = "a daemon without a terminal needs a log file: set log.file, or use unpd run"
        raise ConfigError((Problem(loaded.source, None, "log.file", reason),))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    # If the caller ignored SIGCHLD, the kernel would reap the child, and waitpid fail.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_daemon(path, loaded, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        report = pipe.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    return _outcome(report, loaded.config.log.file)


def _outcome(report: str, log_file: str) -> int:
    """Print the reason if the daemon failed; return the exit code."""
    word, _, rest = report.partition(" ")
    if word == "ready":
        return ExitCode.DONE
    code, _, reason = rest.partition(" ")
    complain(reason or f"the daemon ended before it was ready: see {log_file}")
    return int(code) if code.isascii() and code.isdecimal() else ExitCode.FAILED


class _Report:
    """The child's end of the pipe to the waiting command."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def send(self, text: str) -> None:
        """Send the first report and close the pipe; later ones are dropped, for by then
        the descriptor's number may be another file's.
        """
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.write(fd, text.encode("utf-8", "backslashreplace"))
            os.close(fd)


def _become_daemon(path: Path | None, loaded: Loaded, report_fd: int) -> NoReturn:
    """Run the child, from the fork to its end. A failure before it is ready goes to the
    waiting command.
    """
    signals.block_all()
    report = _Report(report_fd)
    code, reason = ExitCode.FAILED, ""
    try:
        code = _daemon(path, loaded, report_fd, lambda: report.send("ready "))
        reason = "the daemon stopped before it was ready"
    except UnpdError as error:
        code, reason = error.exit_code, str(error)
    except Exception as error:  # noqa: BLE001 - the top of a process; the trace is in the log
        reason = f"a failure of unpd itself: {error!r}"
    finally:
        with contextlib.suppress(OSError):  # the command was killed while it waited
            report.send(f"failed {int(code)} {reason}")
        os._exit(code)


def _daemon(
    path: Path | None, loaded: Loaded, report_fd: int, ready: Callable[[], None]
) -> ExitCode:
    identity = boot.identity_for(loaded)
    parents.make_parents(loaded.config)
    detach((report_fd,), processes.close_all_but)
    with PidFile(loaded.config.daemon.pid_file) as pid_file:
        return serve(path, loaded, identity, boot.Starter(ready, pid_file=pid_file))
