"""The kernel's part in programs: hang-ups of connections that another process holds, a
standard error that tells who wrote, signals for process groups, and the use of
resources of a dead child.
"""

import contextlib
import errno
import faulthandler
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.waiting import holds, until
from unpd.kernel import processes, signals
from unpd.kernel.hangups import Hangups
from unpd.kernel.shared_stderr import SharedStderr
from unpd.kernel.signals import Reaper
from unpd.kernel.spawning import Spawner

PATIENCE_S = 10.0
NUMBER = 1 << 40
"""No descriptor."""


@pytest.fixture
def hangups() -> Iterator[Hangups]:
    """Nothing is watched."""
    made = Hangups()
    yield made
    made.close()


@contextlib.contextmanager
def held_elsewhere(sock: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ``sock`` as its only descriptor of it; ours is closed."""
    holder = subprocess.Popen(["/bin/sleep", "60"], stdin=sock.fileno())
    sock.close()
    try:
        yield holder
    finally:
        holder.kill()
        holder.wait()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """The ends of a connection: the client's and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = clients.connect(listener.getsockname())
        return client, listener.accept()[0]


def test_a_reset_is_a_hangup(hangups: Hangups) -> None:
    """Also after a half-close, which is none. It is told once, by its number, although
    this process has closed the connection.
    """
    client, ours = tcp_pair()
    hangups.watch(ours.fileno(), NUMBER)
    with held_elsewhere(ours):
        client.shutdown(socket.SHUT_WR)
        holds(lambda: not hangups.take(), 0.2, "no hang-up")
        clients.reset(client)
        assert select.select([hangups.fd], [], [], PATIENCE_S)[0]
        assert hangups.take() == [NUMBER]
        assert hangups.take() == []


def test_a_unix_peer_that_closes_has_hung_up(hangups: Hangups) -> None:
    """One that only ends its direction has not."""
    client, ours = socket.socketpair()
    hangups.watch(ours.fileno(), NUMBER)
    with held_elsewhere(ours):
        client.shutdown(socket.SHUT_WR)
        assert hangups.take() == []
        client.close()
        assert until(hangups.take, PATIENCE_S, "a hang-up") == [NUMBER]


def test_another_process_can_go_on_watching(hangups: Hangups) -> None:
    """A launcher that dies leaves the instance to its successor."""
    client, ours = tcp_pair()
    pid = os.fork()
    if pid == 0:
        hangups.watch(ours.fileno(), NUMBER)
        os._exit(0)
    os.waitpid(pid, 0)
    with held_elsewhere(ours):
        clients.reset(client)
        assert until(hangups.take, PATIENCE_S, "a hang-up") == [NUMBER]


def test_a_connection_that_everybody_has_closed_is_forgotten(hangups: Hangups) -> None:
    """It is no hang-up, and another connection may get its descriptor."""
    client, ours = tcp_pair()
    hangups.watch(ours.fileno(), 1)
    fd = ours.fileno()
    ours.close()
    client.close()
    other_client, other = tcp_pair()
    if other.fileno() != fd:
        os.dup2(other.fileno(), fd)
    hangups.watch(fd, 2)
    clients.reset(other_client)
    assert until(hangups.take, PATIENCE_S, "a hang-up") == [2]
    other.close()
    with contextlib.suppress(OSError):
        os.close(fd)


def test_it_is_known_who_wrote() -> None:
    """The bytes of two processes never come together, and reading does not wait."""
    stderr = SharedStderr()
    try:
        writers = []
        for text in ("one", "two"):
            with subprocess.Popen(["/bin/echo", text], stdout=stderr.fd) as writer:
                writers.append((writer.pid, f"{text}\n".encode()))
        assert [stderr.read(), stderr.read(), stderr.read()] == [*writers, None]
    finally:
        stderr.close()


def test_standard_error_that_was_shut_down_is_renewed() -> None:
    """With the same numbers. What was written before is read, and then the end."""
    stderr = SharedStderr()
    try:
        fds = stderr.fds
        os.write(stderr.fd, b"last")
        with socket.socket(fileno=os.dup(stderr.fd)) as program:
            program.shutdown(socket.SHUT_RDWR)
        assert (stderr.read(), stderr.read()) == ((os.getpid(), b"last"), (0, b""))
        stderr.renew()
        os.write(stderr.fd, b"new")
        assert (stderr.read(), stderr.read()) == ((os.getpid(), b"new"), None)
        assert stderr.fds == fds
        assert not any(map(os.get_inheritable, fds))
    finally:
        stderr.close()


def test_standard_error_waits_again() -> None:
    """A program that does not want to wait may say so for all."""
    stderr = SharedStderr()
    try:
        os.set_blocking(stderr.fd, False)
        stderr.mend()
        assert os.get_blocking(stderr.fd)
    finally:
        stderr.close()


def test_a_group_gets_a_signal() -> None:
    """All processes of it do; a child that leads none yet gets it alone."""
    script = "sleep 60 & echo $!; wait"
    command = ["/bin/sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        processes.signal_group(leader.pid, signal.SIGKILL)
    # The grandchild came to us when its parent ended.
    status = until(lambda: procs.reap(child), PATIENCE_S, "the grandchild to be killed")
    assert os.WTERMSIG(status or 0) == signal.SIGKILL
    with subprocess.Popen(["/bin/sleep", "60"]) as single:
        processes.signal_group(single.pid, signal.SIGKILL)
    processes.signal_group(single.pid, 0)  # it is gone: no error


def test_the_last_rites_come_before_the_reaping() -> None:
    """While the child is a zombie, so that its pid and its group are its own; what it
    has used is known afterwards.
    """
    seen: list[tuple[int, bool]] = []
    reaper = Reaper()
    reaper.last_rites = lambda pid: seen.append((pid, processes.is_our_child(pid)))
    with signals.blocked():
        pid = os.posix_spawn(sys.executable, [sys.executable, "-Sc", "x = b'x' * 10**7"], {})
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        reaper.sweep()
    assert seen == [(pid, True)]
    assert not processes.is_our_child(pid)
    (reaped,) = reaper.reaped
    assert (reaped.pid, reaped.status) == (pid, 0)
    assert 0 < reaped.cpu_ns < PATIENCE_S * 1e9
    assert reaped.peak_bytes > 10**7


def test_a_pidfd_tells_the_end() -> None:
    """Before and after."""
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        pidfd = os.pidfd_open(process.pid)
        assert not processes.has_ended(pidfd)
        process.kill()
        until(lambda: processes.has_ended(pidfd), PATIENCE_S, "the end")
        os.close(pidfd)


def test_the_ignored_and_the_handled_signals_are_known() -> None:
    """Of this process, now; but not those of a handler in C."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        assert signal.SIGUSR2 in signals.changed()
        signal.signal(signal.SIGUSR2, print)
        assert signal.SIGUSR2 in signals.changed()
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        assert signal.SIGUSR2 not in signals.changed()
        faulthandler.register(signal.SIGUSR2)
        assert signal.SIGUSR2 not in signals.changed()
        faulthandler.unregister(signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_spawned_program_begins_clean(tmp_path: Path) -> None:
    """In its directory, with its descriptors alone, with no signal ignored or blocked,
    not even those of the C library, and as the leader of a session.
    """
    reader, writer = os.pipe()
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    script = b"pwd; echo $A; exec sleep 60"
    try:
        with signals.blocked():
            argv = (b"/bin/sh", b"-c", script)
            directory = os.fsencode(tmp_path)
            pid = Spawner().spawn(argv, {b"A": b"x=y"}, directory, (reader, writer, writer))
        os.close(writer)
        with open(reader) as lines:
            assert [lines.readline(), lines.readline()] == [f"{tmp_path}\n", "x=y\n"]
            sets = procs.signals(pid)
            assert (sets.ignored, sets.blocked) == (frozenset(), frozenset())
            assert set(procs.fds(pid)) == {0, 1, 2}
            assert os.getsid(pid) == pid
            processes.signal_group(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGPIPE, before)


@pytest.mark.parametrize(
    ("program", "directory", "number"),
    [
        (b"/no/such", b"/", errno.ENOENT),
        (b"/etc/passwd", b"/", errno.EACCES),
        (b"/bin/true", b"/no/such", errno.ENOENT),
    ],
)
def test_a_program_that_cannot_be_spawned(program: bytes, directory: bytes, number: int) -> None:
    """The caller gets the errno, and no process is left."""
    with open("/dev/null") as null, pytest.raises(OSError, match=os.strerror(number)):
        Spawner().spawn((program,), {}, directory, (null.fileno(),) * 3)
