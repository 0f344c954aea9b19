"""sd_notify(3): which messages arrive, which are dropped, and how long sending may
wait.
"""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import pause
from unpd.kernel.notify import SEND_TIMEOUT_S, NotifySocket, watchdog_s

OURS = "our own"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def notify(receiver: socket.socket) -> Iterator[NotifySocket]:
    """Our end of the socket."""
    with contextlib.closing(NotifySocket(receiver.getsockname())) as sender:
        yield sender


def test_assignments_come_in_one_message(receiver: socket.socket, notify: NotifySocket) -> None:
    """Several assignments are one message, with a line each."""
    assert notify.send("READY=1", "STATUS=läuft")
    assert receiver.recv(100).decode() == "READY=1\nSTATUS=läuft"


def test_an_assignment_cannot_bring_another(receiver: socket.socket, notify: NotifySocket) -> None:
    """A text that an intruder in a child chose, as in STATUS=, adds no assignment."""
    assert notify.send("STATUS=a\nMAINPID=1", "READY=1")
    assert receiver.recv(100).decode() == "STATUS=a?MAINPID=1\nREADY=1"


def test_a_descriptor_is_stored_and_removed(receiver: socket.socket, notify: NotifySocket) -> None:
    """A stored descriptor arrives with its name and refers to the same file; remove()
    names it again.
    """
    reader, writer = os.pipe()
    assert notify.store("unpd-stored-listener-1", writer)
    message, fds, _, _ = socket.recv_fds(receiver, 100, 4)
    assert message == b"FDSTORE=1\nFDNAME=unpd-stored-listener-1"
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(writer).st_ino]
    for fd in (reader, writer, *fds):
        os.close(fd)
    notify.remove("unpd-stored-listener-1")
    assert receiver.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=unpd-stored-listener-1"


def fill(receiver: socket.socket) -> None:
    """Send messages until the receiver's queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(receiver.getsockname())
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"X=1")


def test_a_full_queue_delays_for_a_bounded_time(
    receiver: socket.socket, notify: NotifySocket
) -> None:
    """With a full queue, a message that may wait does so for a bounded time. Every
    other message fails at once, and so does one that may wait if the message before it
    failed.
    """
    fill(receiver)
    with spent() as seconds:
        assert not notify.send("READY=1", wait=True)
    assert seconds[0] >= SEND_TIMEOUT_S / 2
    with spent() as seconds:
        assert not notify.send("WATCHDOG=1")
        for _ in range(50):
            assert not notify.send("READY=1", wait=True)
    assert seconds[0] < SEND_TIMEOUT_S / 2
    while True:
        try:
            receiver.recv(100)
        except BlockingIOError:
            break
    assert notify.send("READY=1")


def test_a_late_reader_gets_the_message(receiver: socket.socket, notify: NotifySocket) -> None:
    """A message that may wait arrives if the service manager reads late."""
    fill(receiver)
    pid = os.fork()
    if pid == 0:
        pause(SEND_TIMEOUT_S / 4)
        receiver.recv(100)
        os._exit(0)
    assert notify.send("READY=1", wait=True)
    os.waitpid(pid, 0)


def test_a_sign_of_life_needs_no_descriptor(receiver: socket.socket, notify: NotifySocket) -> None:
    """WATCHDOG=1 can be sent when no descriptor is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert notify.send("WATCHDOG=1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert receiver.recv(100) == b"WATCHDOG=1"


def test_the_barrier_waits_for_the_reader(receiver: socket.socket, notify: NotifySocket) -> None:
    """The barrier waits until the receiver has closed the descriptor that came with it,
    or until the timeout.
    """
    with spent() as seconds:
        assert not notify.barrier(0.2)
    assert seconds[0] >= 0.15
    message, fds, _, _ = socket.recv_fds(receiver, 100, 4)
    assert message == b"BARRIER=1"
    os.close(fds[0])
    pid = os.fork()
    if pid == 0:
        receiver.setblocking(True)
        socket.recv_fds(receiver, 100, 4)
        os._exit(0)
    assert notify.barrier(10.0)
    os.waitpid(pid, 0)


@contextlib.contextmanager
def spent() -> Iterator[list[float]]:
    """Measure how long the block takes; the list holds the seconds afterwards."""
    seconds: list[float] = []
    began = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - began)


@pytest.mark.parametrize(
    "address", ["/nowhere/notify", "@unpd-test-nobody", "/dev/null", "/" + "x" * 200]
)
def test_no_receiver(address: str) -> None:
    """A socket that is missing, of another type, or has an impossible name makes send()
    return False without an exception.
    """
    with contextlib.closing(NotifySocket(address)) as notify:
        assert not notify.send("READY=1")


@pytest.mark.parametrize("address", ["", "relative", "@", "vsock:2:1"])
def test_no_address(address: str) -> None:
    """An empty or unknown address means that there is no service manager; the variable
    is removed.
    """
    environ = {"NOTIFY_SOCKET": address, "PATH": "/bin"}
    assert NotifySocket.from_environment(environ) is None
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("usec", "pid", "wanted"),
    [
        ("30000000", "", 30.0),
        ("500000", OURS, 0.5),
        ("30000000", "1", 0.0),
        ("", "", 0.0),
        ("soon", "", 0.0),
        ("-1", "", 0.0),
        ("0", "", 0.0),
        ("9" * 400, "", 0.0),
        ("9" * 5000, "", 0.0),
    ],
)
def test_the_watchdog_s_interval(usec: str, pid: str, wanted: float) -> None:
    """The interval is in seconds, and 0 if the variables are for another process or
    invalid; both variables are removed.
    """
    environ = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": str(os.getpid()) if pid == OURS else pid}
    assert watchdog_s(environ) == wanted
    assert environ == {}
