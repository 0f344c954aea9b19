"""Starts unpd without the half second of processor time that Python needs to import it:
this process has imported it, and each daemon or command is a fork of it.

What is started like this runs ``unpd/__main__.py`` with its own arguments, directory,
environment, descriptors and session. It differs from ``python -m unpd``: of what the
interpreter reads of the environment at its start only PYTHONPATH counts, the hash seed,
the mask and the resource limits are those of this process, more modules are imported,
and /proc shows this process's environment and, until there is a title, its command.

Owns the server, one for each process of the test run, and its end of a socket pair.
:mod:`tests.support.daemon` asks it for each daemon and command that needs no more; the
others start as users start them. The server ends with the test run.
"""

import contextlib
import fcntl
import gc
import json
import math
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from setproctitle import setproctitle

from tests.support import ROOT

STANDARD = (0, 1, 2)
MAX_FDS = 253
"""SCM_MAX_FD of unix(7)."""
MAX_BYTES = 64 * 1024
PATIENCE_S = 60.0
LOOK_S = 1.0


class Forked:
    """A process that became our child, used as :class:`subprocess.Popen` is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._reap(os.WNOHANG)

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                found, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # others have reaped it, as Popen has it
                found, status = self.pid, 0
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._pidfd)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. subprocess.TimeoutExpired."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        while (code := self.poll()) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise subprocess.TimeoutExpired("unpd", timeout or 0.0)
            if poll.poll(min(left_s, LOOK_S) * 1000):
                # It has ended. Where it has a tracer, this waits until that has reaped
                # it too (ptrace(2)), which takes no longer than the tracer lives.
                self._reap(0)
        return code


class ForkServer:
    """The server of this process of the test run. It is started for the first daemon.
    ``pid``: None before that.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self._namespaces = _namespaces()
        self._stack = contextlib.ExitStack()
        self._sock: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def is_in_reach(self) -> bool:
        """Whether a daemon of the server would be in our namespaces: a test may be in
        others for a while.
        """
        return _namespaces() == self._namespaces

    def start(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        fds: Sequence[int],
    ) -> Forked:
        """Start ``unpd`` with these arguments. ``fds``: its descriptors 0, 1, 2 and so
        on. With LISTEN_FDS in the ``environment``, LISTEN_PID names it by default.
        """
        request = json.dumps([list(arguments), str(directory), dict(environment)])
        with self._lock:  # a test may run a command in a thread
            sock = self._sock or self._begin()
            socket.send_fds(sock, [request.encode()], fds)
            pid = int(sock.recv(MAX_BYTES))
        if not pid:
            raise AssertionError("the fork server could not fork")
        return Forked(pid)

    def run(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        data: bytes = b"",
        timeout_s: float = 30.0,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``unpd`` to its end as :func:`subprocess.run` does. ``data``: at most
        what a pipe holds. TimeoutExpired.
        """
        reader, feed = os.pipe()
        os.write(feed, data)
        os.close(feed)
        out, writer = os.pipe()
        errors, complainer = os.pipe()
        theirs = (reader, writer, complainer)
        try:
            process = self.start(arguments, directory, environment, theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        with open(out, "rb") as said, open(errors, "rb") as complaints:
            try:
                texts = _read_to_the_end([said, complaints], timeout_s)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                raise
        return subprocess.CompletedProcess(arguments, process.wait(timeout_s), *texts)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        with theirs:
            command = [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())]
            server = self._stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True
                )
            )
        self._sock, self.pid = self._stack.enter_context(ours), server.pid
        return self._sock

    def close(self) -> None:
        """End the server."""
        self._stack.close()


def _read_to_the_end(pipes: Sequence[IO[bytes]], timeout_s: float) -> list[bytes]:
    """What is written into each pipe, until nobody has it open for that."""
    deadline = time.monotonic() + timeout_s
    found: dict[int, list[bytes]] = {pipe.fileno(): [] for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for fd in found:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("unpd", timeout_s)
            for key, _ in selector.select(LOOK_S):
                found[key.fd].append(os.read(key.fd, MAX_BYTES))
                if not found[key.fd][-1]:
                    selector.unregister(key.fd)
    return [b"".join(parts) for parts in found.values()]


def _namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}


def serve(sock: socket.socket) -> None:
    """Fork unpd for each request, until the test run has ended."""
    # What a daemon imports before it says that it is starting, and what verbs import.
    from unpd.cli import commands, dispatch, verbs  # noqa: F401, PLC0415

    # Titles take the place of the environment, so this comes before any change of that.
    setproctitle("fork server of the tests")
    gc.freeze()
    while True:
        request, fds, _, _ = socket.recv_fds(sock, MAX_BYTES, MAX_FDS)
        if not request:
            return
        reader, writer = os.pipe()
        forker = os.fork()
        if forker == 0:
            # Its child becomes one of the test run, which adopts orphans.
            pid = os.fork()
            if pid == 0:
                _become_unpd(fds, *json.loads(request))
            os.write(writer, b"%d" % pid)
            os._exit(0)
        os.waitpid(forker, 0)
        os.close(writer)
        sock.send(os.read(reader, MAX_BYTES) or b"0")
        for fd in (reader, *fds):
            os.close(fd)


def _become_unpd(
    fds: Sequence[int], arguments: Sequence[str], directory: str, environment: Mapping[str, str]
) -> None:
    """Run unpd as ``python -m unpd`` does."""
    os.setsid()
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, 2 * MAX_FDS) for fd in fds]  # none is in the way
    for number, fd in enumerate(aside):
        os.dup2(fd, number)
    os.closerange(len(fds), 1 << 16)
    # Those of the server know of its descriptors whether they can seek.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    if "LISTEN_FDS" in environment:
        os.environ.setdefault("LISTEN_PID", str(os.getpid()))
    sys.argv[1:] = arguments
    sys.path[:1] = [directory, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    gc.unfreeze()
    code = 0
    try:
        runpy.run_module("unpd", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(socket.socket(fileno=int(sys.argv[1])))
