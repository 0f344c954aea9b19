"""sd_notify(3): what arrives, what does not, and that nobody waits for long."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import pause
from unpd.kernel.notify import PATIENCE_S, NotifySocket, watchdog_s

OURS = "our own"


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def notify(receiver: socket.socket) -> Iterator[NotifySocket]:
    """Ours."""
    with contextlib.closing(NotifySocket(receiver.getsockname())) as found:
        yield found


def test_assignments_come_in_one_message(receiver: socket.socket, notify: NotifySocket) -> None:
    """One a line."""
    assert notify.say("READY=1", "STATUS=läuft")
    assert receiver.recv(100).decode() == "READY=1\nSTATUS=läuft"


def test_a_descriptor_is_stored_and_removed(receiver: socket.socket, notify: NotifySocket) -> None:
    """It comes with its name, and refers to the same file."""
    reader, writer = os.pipe()
    assert notify.store("unpd-stored-listener-1", writer)
    said, fds, _, _ = socket.recv_fds(receiver, 100, 4)
    assert said == b"FDSTORE=1\nFDNAME=unpd-stored-listener-1"
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(writer).st_ino]
    for fd in (reader, writer, *fds):
        os.close(fd)
    notify.remove("unpd-stored-listener-1")
    assert receiver.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=unpd-stored-listener-1"


def fill(receiver: socket.socket) -> None:
    """Send until its queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(receiver.getsockname())
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"X=1")


def test_a_full_queue_is_not_waited_for(receiver: socket.socket, notify: NotifySocket) -> None:
    """What can be said again is lost at once; what cannot waits, but not for ever, and
    no more once nobody was found to read.
    """
    fill(receiver)
    with spent() as seconds:
        assert not notify.say("READY=1", once=True)
    assert seconds[0] >= PATIENCE_S / 2
    with spent() as seconds:
        assert not notify.say("WATCHDOG=1")
        for _ in range(50):
            assert not notify.say("READY=1", once=True)
    assert seconds[0] < PATIENCE_S / 2
    while True:
        try:
            receiver.recv(100)
        except BlockingIOError:
            break
    assert notify.say("READY=1")


def test_a_queue_that_moves_is_waited_for(receiver: socket.socket, notify: NotifySocket) -> None:
    """Whoever reads late gets what is said once."""
    fill(receiver)
    pid = os.fork()
    if pid == 0:
        pause(PATIENCE_S / 4)
        receiver.recv(100)
        os._exit(0)
    assert notify.say("READY=1", once=True)
    os.waitpid(pid, 0)


def test_a_sign_of_life_needs_no_descriptor(receiver: socket.socket, notify: NotifySocket) -> None:
    """Where none can be had, by somebody else's fault perhaps, the daemon still
    lives.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert notify.say("WATCHDOG=1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert receiver.recv(100) == b"WATCHDOG=1"


def test_the_barrier_waits_for_the_reader(receiver: socket.socket, notify: NotifySocket) -> None:
    """Until the descriptor that came with it is closed, which is after everything
    before it was read; or until the time is over.
    """
    with spent() as seconds:
        assert not notify.barrier(0.2)
    assert seconds[0] >= 0.15
    said, fds, _, _ = socket.recv_fds(receiver, 100, 4)
    assert said == b"BARRIER=1"
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
    """How long the block took, once it is over."""
    seconds: list[float] = []
    began = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - began)


@pytest.mark.parametrize(
    "address", ["/nowhere/notify", "@unpd-test-nobody", "/dev/null", "/" + "x" * 200]
)
def test_nobody_there(address: str) -> None:
    """A socket that is missing, none, or has no possible name: False, no error."""
    with contextlib.closing(NotifySocket(address)) as notify:
        assert not notify.say("READY=1")


@pytest.mark.parametrize("address", ["", "relative", "@", "vsock:2:1"])
def test_no_address(address: str) -> None:
    """An empty or unknown kind of address means that there is no service manager; the
    variable is taken out.
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
    ],
)
def test_the_watchdog_s_interval(usec: str, pid: str, wanted: float) -> None:
    """In seconds, if it is ours; both variables are taken out."""
    environ = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": str(os.getpid()) if pid == OURS else pid}
    assert watchdog_s(environ) == wanted
    assert environ == {}
