"""What a process that shares a listener can change about it: the master notices and
undoes it, or opens the listener anew, and no worker hangs.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import clients, faults, procs
from tests.support.clients import Address
from tests.support.daemon import Unpd
from tests.support.descriptors import borrow
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.operating import degraded, status
from tests.support.ports import free_port
from tests.support.scale import first
from tests.support.waiting import until
from unpd.master.listening.table import CLOSE_LOOKS

PATIENCE_S = 15.0
LIBC = ctypes.CDLL(None, use_errno=True)
SO_ATTACH_FILTER, SO_LOCK_FILTER = 26, 44
F_SETSIG = 10
DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
CLEARS_THE_FLAG = "import os\nwhile True: os.set_blocking(0, True)"

TWO_SERVICES = """
[daemon]
heartbeat_timeout_s = 6.0
[services.spoilt]
type = "echo"
model = "{model}"
listen = ["unix://{path}"]
[services.echo]
model = "{model}"
listen = ["tcp://127.0.0.1:0"]
"""

pytestmark = faults.requires_root


@contextlib.contextmanager
def shared(unpd: Unpd, address: Address, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """The listener at ``address``, as a worker has it."""
    found = (
        (child.pid, fd)
        for child in procs.children(unpd.pid)
        for fd, target in procs.fds(child.pid).items()
        if target.startswith("socket:")
    )
    for pid, fd in found:
        with socket.socket(fileno=borrow(pid, fd)) as sock:
            if sock.type == kind and sock.getsockname() == address:
                yield sock
                return
    raise AssertionError(f"no child has the listener at {address}")


def attach_filter(sock: socket.socket) -> None:
    """Let the kernel drop all that comes."""
    program = ctypes.create_string_buffer(DROP_ALL, len(DROP_ALL))
    words = struct.pack("HP", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, words)


def lock_filter(sock: socket.socket) -> None:
    """The same, in a way that nobody can undo."""
    attach_filter(sock)
    sock.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)


def lose_address(sock: socket.socket) -> None:
    """Dissolve the association of a UDP socket, which gives up a port that the kernel
    chose (connect(2), AF_UNSPEC).
    """
    assert LIBC.connect(sock.fileno(), bytes(16), 16) == 0


def order_signals(sock: socket.socket) -> None:
    """Let each client send a signal, which this process ignores."""
    fcntl.fcntl(sock, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sock, F_SETSIG, signal.SIGURG)
    fcntl.fcntl(sock, fcntl.F_SETFL, os.O_ASYNC)


def queue_errors(sock: socket.socket) -> None:
    """Let the socket keep the errors of the network (IP_RECVERR), and get one."""
    sock.setsockopt(socket.IPPROTO_IP, 11, 1)
    sock.sendto(b"nobody", ("127.0.0.1", free_port()))


def an_option(level: int, number: int, value: int | bytes) -> Callable[[socket.socket], None]:
    """Set an option."""
    return lambda sock: sock.setsockopt(level, number, value)


def ask(address: Address, kind: int = socket.SOCK_STREAM) -> bytes:
    """Let the echo at ``address`` answer."""
    with socket.socket(clients.family(address), kind) as sock:
        sock.settimeout(PATIENCE_S)
        if isinstance(address, str) and kind == socket.SOCK_DGRAM:
            sock.bind("")
        sock.connect(address)
        sock.send(b"anybody?")
        return sock.recv(100)


SPOILT_STREAMS = [
    ("O_ASYNC, F_SETOWN", order_signals),
    ("SO_ATTACH_FILTER", attach_filter),
    ("SO_RCVLOWAT", an_option(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)),
    ("SO_LINGER", an_option(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))),
]
SPOILT_TCP = [
    ("O_NONBLOCK", lambda sock: sock.setblocking(True)),
    ("listen", lambda sock: sock.listen(0)),
    ("SO_BINDTOIFINDEX", an_option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")),
    ("IP_MINTTL", an_option(socket.IPPROTO_IP, 21, 255)),
    ("TCP_DEFER_ACCEPT", an_option(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 100)),
    ("TCP_USER_TIMEOUT", an_option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1)),
    ("SO_RCVBUF, SO_BUF_LOCK", an_option(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)),
]
SPOILT_UDP = [
    ("O_NONBLOCK", lambda sock: sock.setblocking(True)),
    ("IP_RECVTTL", an_option(socket.IPPROTO_IP, 12, 1)),
    ("IP_RECVERR", queue_errors),
    ("IP_PKTINFO", an_option(socket.IPPROTO_IP, 8, 0)),
    ("SO_REUSEADDR", an_option(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)),
    ("UDP_CORK", an_option(socket.IPPROTO_UDP, 1, 1)),
    ("bind", lose_address),
]


def spoil_and_wait(
    unpd: Unpd,
    address: Address,
    spoilt: list[tuple[str, Callable[[socket.socket], None]]],
    kind: int = socket.SOCK_STREAM,
) -> None:
    """Spoil the listener at ``address`` in all these ways, and wait for the repair."""
    with shared(unpd, address, kind) as sock:
        with procs.stopped([unpd.pid]):
            for _, spoil in spoilt:
                spoil(sock)
        said = unpd.wait_event("listener.mended").fields["reason"]
    names = said.removeprefix("another process changed ").split(", ")
    assert {name for row, _ in spoilt for name in row.split(", ")} <= set(names)


def test_a_spoilt_tcp_listener_is_restored(launch: Launch) -> None:
    """Flags, options, filter and backlog of a TCP listener are as before within
    seconds. The log names them, and no signal comes of them.
    """
    unpd = launch('[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nbacklog = 77\n')
    address = unpd.address("echo")
    spoil_and_wait(unpd, address, SPOILT_STREAMS + SPOILT_TCP)
    assert ask(address) == b"anybody?"
    assert status(unpd)["services"][0]["listeners"][0]["queue"]["limit"] == 77
    assert degraded(unpd) == []


def test_a_spoilt_unix_listener_is_restored(launch: Launch, tmp_path: Path) -> None:
    """The same for a UNIX listener. Its workers wait in vain for a moment at most."""
    unpd = launch(f'services.echo.listen = ["unix://{tmp_path}/echo.sock"]')
    address = f"{tmp_path}/echo.sock"
    spoil_and_wait(unpd, address, SPOILT_STREAMS)
    assert ask(address) == b"anybody?"
    assert not unpd.log_events("worker.hung")


def test_a_spoilt_udp_socket_is_restored(launch: Launch) -> None:
    """The same for a UDP socket, whose port comes back."""
    unpd = launch('services.echo.listen = ["udp://127.0.0.1:0"]')
    address = unpd.address("echo")
    spoil_and_wait(unpd, address, SPOILT_UDP, socket.SOCK_DGRAM)
    assert ask(address, socket.SOCK_DGRAM) == b"anybody?"
    assert unpd.log_events("listener.renewed") == []


def test_the_backlog_of_a_unix_listener_is_restored(launch: Launch, tmp_path: Path) -> None:
    """Nobody can read that of a UNIX listener, so the master sets it each second."""
    path = f"{tmp_path}/echo.sock"
    unpd = launch(f'services.echo.listen = ["unix://{path}"]')
    with shared(unpd, path) as sock:
        sock.listen(0)
    with procs.stopped(unpd.workers()), contextlib.ExitStack() as stack:

        def waits() -> bool:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            return client.connect_ex(path) == 0

        until(lambda: [waits() for _ in range(4)] == [True] * 4, PATIENCE_S, "room to wait")


@pytest.mark.slow
def test_each_of_many_listeners_gets_its_turn(launch: Launch) -> None:
    """With more listeners than one sweep looks at, each is still looked after."""
    addresses = ", ".join(['"tcp://127.0.0.1:0"'] * (CLOSE_LOOKS + 6))
    unpd = launch(f"[services.echo]\nlisten = [{addresses}]\n")
    for index in (0, CLOSE_LOOKS + 5):
        with shared(unpd, unpd.address("echo", index)) as sock:
            sock.setblocking(True)
        port = unpd.port("echo", index)
        unpd.wait_event("listener.mended", address=f"tcp://127.0.0.1:{port}")


@pytest.mark.slow
def test_a_change_that_comes_again_is_a_fault(launch: Launch) -> None:
    """While a process changes a listener again and again, the status, the readiness and
    the metrics say so.
    """
    unpd = launch('services.echo.listen = ["tcp://127.0.0.1:0"]')
    unpd.expect_errors("listener.broken")
    address = unpd.address("echo")
    with shared(unpd, address) as sock:
        sock.listen(0)
        unpd.wait_event("listener.mended", service="echo")
        sock.listen(0)
        broken = unpd.wait_event("listener.broken", service="echo")
    assert broken.fields["reason"].startswith("another process keeps changing its options")
    assert "another process keeps changing its options" in degraded(unpd)[0]
    unpd.metric_becomes(1, "unpd_degraded", reason="listener_broken")
    assert unpd.get("/readyz").status == 503
    assert ask(address) == b"anybody?"


@pytest.mark.parametrize("scheme", ["tcp", "udp", "unix", "unixgram"])
def test_a_listener_that_cannot_be_restored_is_opened_anew(
    launch: Launch, tmp_path: Path, scheme: str
) -> None:
    """A filter that nobody can remove costs the listener its socket. A new one takes
    its address, and serves after a reload that the daemon starts.
    """
    place = str(tmp_path / "echo") if scheme.startswith("unix") else f"127.0.0.1:{free_port()}"
    kind = socket.SOCK_STREAM if scheme in ("tcp", "unix") else socket.SOCK_DGRAM
    unpd = launch(f'services.echo.listen = ["{scheme}://{place}"]')
    address = unpd.address("echo")
    with shared(unpd, address, kind) as sock, procs.stopped([unpd.pid]):
        lock_filter(sock)
    renewed = unpd.wait_event("listener.renewed", service="echo")
    assert renewed.fields["reason"] == ("another process changed SO_LOCK_FILTER, SO_ATTACH_FILTER")
    unpd.wait_event("reload.succeeded", generation=2)
    assert ask(address, kind) == b"anybody?"
    until(lambda: degraded(unpd) == [], 5.0, "the fault to end")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["event", "fork", "iterative"])
def test_no_server_hangs_for_long(launch: Launch, tmp_path: Path, model: str) -> None:
    """While a process clears O_NONBLOCK of a UNIX listener again and again, workers and
    dispatchers go on serving the other listeners, and none is killed as hung.
    """
    unpd = launch(TWO_SERVICES.format(path=f"{tmp_path}/spoilt.sock", model=model))
    unpd.expect_errors("listener.broken")
    with (
        shared(unpd, f"{tmp_path}/spoilt.sock") as sock,
        subprocess.Popen([sys.executable, "-c", CLEARS_THE_FLAG], stdin=sock.fileno()) as hostile,
    ):
        try:
            until(
                lambda: unpd.log_events("listener.broken") or unpd.log_events("listener.renewed"),
                PATIENCE_S,
                "the master to notice",
            )
            for _ in range(20):
                assert ask(unpd.address("echo")) == b"anybody?"
        finally:
            hostile.kill()
    assert ask(f"{tmp_path}/spoilt.sock") == b"anybody?"
    for reason in ("sigabrt", "sigkill"):
        assert unpd.total("unpd_children_reaped_total", reason=reason) == 0


@pytest.mark.parametrize("restorable", first(1, [True, False]))
def test_a_stored_listener_is_like_a_new_one(
    launch: Launch, systemd: FakeSystemd, *, restorable: bool
) -> None:
    """What a worker changed about a listener does not outlive its master: the next one
    restores the stored listener, or opens it anew.
    """
    text = f'services.echo.listen = ["tcp://127.0.0.1:{free_port()}"]'
    first = systemd.start(launch, text)
    address = first.address("echo")
    with shared(first, address) as sock, procs.stopped([first.pid]):
        sock.setsockopt(socket.IPPROTO_IP, 21, 255)  # IP_MINTTL
        sock.setblocking(True)
        if not restorable:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, 5000)
        os.kill(first.pid, signal.SIGKILL)
    systemd.kill(first)
    second = systemd.start(launch, text)
    assert ask(address) == b"anybody?"
    dropped = [event.fields["reason"] for event in second.log_events("listener.dropped")]
    assert dropped == ([] if restorable else ["another process changed TCP_WINDOW_CLAMP"])
    assert second.stop() == 0
