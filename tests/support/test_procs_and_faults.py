"""Each tool that reads processes or causes faults does what it says."""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import clients, faults, faulty, procs, scale
from tests.support.clock import ManualClock
from tests.support.waiting import until

WAITING = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def child(code: str = WAITING) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child that has printed a line and waits for the end of its input."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_a_zombie_is_seen_until_it_is_reaped() -> None:
    """A zombie has state Z and no title, and is gone after waitpid."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = procs.stat(pid)
    assert found is not None
    assert found.zombie
    assert not procs.alive(pid)
    assert pid in procs.child_pids(os.getpid())
    assert procs.reap(pid) == 7 << 8
    assert procs.stat(pid) is None


def test_what_a_process_is() -> None:
    """The title, parent, descriptors, memory, credentials and signal masks of a child
    are read from /proc.
    """
    with child(
        "import signal, sys; signal.signal(signal.SIGUSR1, signal.SIG_IGN); " + WAITING
    ) as process:
        found = procs.stat(process.pid)
        assert found is not None
        assert found.ppid == os.getpid()
        assert sys.executable in found.title
        assert {0, 1, 2} <= procs.fds(process.pid).keys()
        assert procs.rss_bytes(process.pid) > 1 << 20
        assert procs.credentials(process.pid).uids == (os.getuid(),) * 4
        assert signal.SIGUSR1 in procs.signals(process.pid).ignored
        assert process.pid in [below.pid for below in procs.descendants(os.getpid())]


def test_stopped_processes_stand_still_and_go_on() -> None:
    """Processes stand still for the length of the block, and go on after it."""
    with child() as process:
        with procs.stopped([process.pid]):
            assert (now := procs.stat(process.pid))
            assert now.state == "T"
        until(
            lambda: (now := procs.stat(process.pid)) and now.state in "SR",
            5.0,
            "the child to go on",
        )


@faults.requires_strace()
def test_a_failing_system_call(tmp_path: Path) -> None:
    """An attached strace makes a system call of a running process fail; after it
    detaches, the call works again.
    """
    with child(
        "import os, sys; print(flush=True)\nfor line in sys.stdin:\n try: print(os.getpriority(0,"
        " 0), flush=True)\n except OSError as e: print(e.errno, flush=True)"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with faults.straced(
            process.pid, tmp_path / "trace", "getpriority", "getpriority:error=EACCES"
        ) as trace:
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert int(process.stdout.readline()) == errno.EACCES
            until(lambda: trace.count("getpriority"), 5.0, "the call in the trace")
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) == os.getpriority(os.PRIO_PROCESS, 0)


@faults.requires_strace()
def test_a_command_that_starts_with_a_fault(tmp_path: Path) -> None:
    """The prefix keeps the command's pid and exit code."""
    command = [
        *faults.strace_prefix(tmp_path / "trace", "getpriority", "getpriority:error=EACCES"),
        sys.executable,
        "-c",
    ]
    code = "import os, sys\ntry: os.getpriority(0, 0)\nexcept OSError: sys.exit(os.getpid() % 100)"
    with subprocess.Popen([*command, code]) as process:
        assert process.wait() == process.pid % 100
    until(
        lambda: (
            not [
                found
                for found in procs.children(os.getpid())
                if "strace" in found.title and procs.reap(found.pid) is None
            ]
        ),
        5.0,
        "strace to end",
    )


@faults.requires_namespaces()
def test_a_cut_wire() -> None:
    """A connection between two namespaces works, stands still while the wire is cut,
    and goes on after it.
    """
    with faults.network() as net:
        with net.server.entered(), socket.create_server((net.server_host, 0)) as listener:
            address = listener.getsockname()
            with net.client.entered():
                client = clients.connect(address)
            accepted, _ = listener.accept()
        with client, accepted:
            net.cut()
            accepted.send(b"x")
            assert not select.select([client], [], [], 0.2)[0]
            net.mend()
            assert client.recv(1) == b"x"


@faults.requires_pids_cgroup()
def test_fork_fails_at_the_limit_of_processes() -> None:
    """At the limit fork fails with EAGAIN. Without the limit it works, and no cgroup
    remains.
    """
    code = (
        "import os, sys; print(flush=True)\nfor line in sys.stdin:\n try:\n  pid = os.fork()\n  if"
        " pid == 0: os._exit(0)\n  os.waitpid(pid, 0)\n  print(0, flush=True)\n except OSError as"
        " e: print(e.errno, flush=True)"
    )
    with child(code) as process, faults.pids_limit([process.pid]) as limit:
        assert process.stdin is not None
        assert process.stdout is not None
        for at_most, expected in ((1, errno.EAGAIN), (None, 0)):
            limit.set(at_most)
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert int(process.stdout.readline()) == expected
        path = limit.path
    assert not path.exists()


@faults.requires_root
def test_a_full_disk(tmp_path: Path) -> None:
    """A write of more than the small disk holds fails with ENOSPC."""
    with (
        faults.small_disk(tmp_path / "small") as disk,
        pytest.raises(OSError, match="No space left"),
    ):
        (disk / "file").write_bytes(bytes(1 << 20))
    assert not (tmp_path / "small" / "file").exists()


def test_clients_are_byte_exact_on_a_good_server() -> None:
    """One-byte segments, and a transfer longer than the smallest buffers, come back
    byte by byte.
    """
    data = os.urandom(3 << 20)
    with faulty.serving("echo") as address, clients.connect(address) as sock:
        clients.send_bytewise(sock, b"hello")
        assert clients.read_exactly(sock, 5) == b"hello"
        assert (
            clients.converse(address, data[:65536], receive_buffer=1, send_buffer=1) == data[:65536]
        )


def test_a_reset_is_a_reset_and_urgent_data_is_urgent() -> None:
    """The peer sees ECONNRESET after reset(), and a stream without the urgent byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = clients.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            clients.send_urgent(client, b"ab!")
            assert accepted.recv(10) == b"ab"
            assert accepted.recv(1, socket.MSG_OOB) == b"!"
            clients.reset(client)
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)


@faults.requires_root
def test_close_silently_sends_nothing() -> None:
    """After close_silently() the other side receives neither FIN nor RST until it
    sends.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = clients.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            clients.close_silently(client)
            assert not select.select([accepted], [], [], 0.1)[0]


def test_a_client_that_never_reads_counts_what_it_sent() -> None:
    """send_until_blocked() stops at the first stall. send_slowly() keeps its pace and
    stops at a FIN.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with clients.connect(listener.getsockname(), send_buffer=1) as client:
            accepted, _ = listener.accept()
            with accepted:
                assert 0 < clients.send_until_blocked(client, 100 << 20, stall_s=0.1) < 100 << 20
        with clients.connect(listener.getsockname()) as client:
            accepted, _ = listener.accept()
            with accepted:
                began = time.monotonic()
                assert clients.send_slowly(client, b"abc", 0.02) == 3
                assert time.monotonic() - began >= 0.06
                assert accepted.recv(3) == b"abc"
            assert clients.send_slowly(client, b"abc", 5.0) == 1


def test_idle_connections_are_many_and_go_away() -> None:
    """All idle connections are open at once, and all are closed after the block."""
    with faulty.serving("echo") as address:
        with clients.idle(address, 300) as connections:
            assert len({sock.getsockname() for sock in connections}) == 300
        assert all(sock.fileno() < 0 for sock in connections)


def test_long_durations_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durations scale with the factor of the run, between a minimum and the full
    time.
    """
    monkeypatch.setenv("UNPD_TEST_SCALE", "0.1")
    assert scale.long(60) == pytest.approx(6)
    assert scale.long(60, at_least=10) == 10
    assert scale.many(100, at_least=20) == 20
    monkeypatch.setenv("UNPD_TEST_SCALE", "1")
    assert scale.long(60, at_least=10) == 60
    assert scale.long(5, at_least=10) == 5
    monkeypatch.setenv("UNPD_TEST_SCALE", "0")
    with pytest.raises(ValueError, match="above 0"):
        scale.long(1)


def test_the_manual_clock_goes_forward_only() -> None:
    """The clock moves forward when told, and never back."""
    clock = ManualClock(10.0)
    assert clock.advance(2.5) == clock.now == 12.5
    assert clock.advance_to(5.0) == 12.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
