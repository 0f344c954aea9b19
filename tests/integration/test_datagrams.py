"""A daemon that serves datagrams: every kind of address, reloads and stops with
traffic, dead workers, systemd's sockets and its store, sockets that others spoil.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import clients, faults, procs
from tests.support.clients import Address, asking
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.ports import free_port
from tests.support.scale import many
from tests.support.threads import beside
from tests.support.waiting import until
from unpd.services.table import SERVICES

PATIENCE_S = 10.0
WAITING = 200
"""More datagrams than all workers answer in one turn, and fewer than the kernel queues.
"""
SYS_PIDFD_GETFD = 438
LIBC = ctypes.CDLL(None, use_errno=True)
UDP = """
[services.echo]
listen = ["udp://127.0.0.1:0"]
datagram_rate = 0
datagram_total_rate = 0
"""


def ask(address: Address, data: bytes) -> bytes:
    """Ask once, and return the answer."""
    with asking(address) as sock:
        sock.send(data)
        return sock.recv(1 << 16)


def test_every_kind_of_address(launch: Launch, tmp_path: Path) -> None:
    """One service serves UDP over IPv4, IPv6 and both, UNIX datagrams and TCP; the
    status and the metrics show them.
    """
    path = tmp_path / "echo.dgram"
    unpd = launch(
        f"""
[services.echo]
listen = [
    "udp://127.0.0.1:0", "udp://[::1]:0", "udp://[::]:0", "unixgram://{path}",
    "tcp://127.0.0.1:0",
]
socket_mode = "0660"

[services.daytime]
listen = ["udp://0.0.0.0:0"]
"""
    )
    ipv4, ipv6, _, unix, tcp = unpd.addresses("echo")
    both = unpd.port("echo", 2)
    reached: list[Address] = [ipv4, ipv6, ("127.0.0.3", both), ("::1", both), unix]
    for address in reached:
        for data in (b"", b"hello", bytes(65507)):
            assert ask(address, data) == data, address
    assert clients.converse(tcp, b"hello") == b"hello"
    assert ask(("127.0.0.2", unpd.port("daytime")), b"").endswith(b"\r\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    count = 3 * len(reached)
    for name in ("datagrams_received", "datagrams_sent"):
        unpd.metric_becomes(count, f"unpd_{name}_total", service="echo")
    said = unpd.run("status", "--control", str(unpd.control)).stdout.decode()
    cells = [re.split("  +", line) for line in said.splitlines()]
    (row,) = [row for row in cells if row[0] == "echo" and row[5:6] == ["1"]]
    assert row[10:12] == [str(count), str(count)]
    assert {f"unixgram://{path}", f"udp://[::]:{both}"} <= {"".join(row[1:2]) for row in cells}
    for way in ("received", "sent"):
        size = unpd.metric(f"unpd_datagram_{way}_bytes_total", service="echo")
        assert size == len(reached) * 65512
    assert unpd.total("unpd_datagrams_unanswered_total", service="echo") == 0
    assert unpd.stop() == 0
    assert not path.exists()


def test_a_client_that_reads_nothing_keeps_no_other_waiting(launch: Launch, tmp_path: Path) -> None:
    """While a UNIX client leaves its answers unread, as many as its queue takes, others
    get theirs.
    """
    unpd = launch(UDP.replace("udp://127.0.0.1:0", f"unixgram://{tmp_path}/echo"))
    address = unpd.address("echo")
    with asking(address) as greedy, asking(address) as honest:
        for number in range(15):
            greedy.send(bytes(60_000))
            honest.send(b"%d" % number)
            assert honest.recv(100) == b"%d" % number


def test_every_service_answers_datagrams(launch: Launch) -> None:
    """Each built-in service that knows datagrams answers an empty one over UDP, and
    discard answers nothing.
    """
    names = [row.name for row in SERVICES.values() if row.datagram and row.rfc]
    keys = {"qotd": 'text = "A quotation."\n'}
    unpd = launch(
        "".join(
            f'[services.{name}]\nlisten = ["udp://127.0.0.1:0"]\n{keys.get(name, "")}'
            for name in names
        )
    )
    assert set(names) == {"echo", "discard", "chargen", "daytime", "time", "qotd"}
    lengths = {
        name: len(ask(unpd.address(name), b"")) for name in names if name not in ("discard", "echo")
    }
    assert lengths["time"] == 4
    assert all(0 < length <= 56 for length in lengths.values())
    with asking(unpd.address("discard")) as sock:
        sock.send(b"nothing")
    unpd.metric_becomes(1, "unpd_datagrams_unanswered_total", service="discard", reason="no_answer")


@pytest.mark.slow
def test_no_datagram_is_lost_or_doubled_over_reloads(launch: Launch) -> None:
    """While every pool is replaced again and again, each datagram is answered once."""
    unpd = launch(UDP)
    reloads = many(20, at_least=5)
    ended = threading.Event()

    def reload() -> None:
        for _ in range(reloads):
            assert unpd.run("reload", "--all", "--control", str(unpd.control)).returncode == 0
        ended.set()

    sent = 0
    with beside(reload), asking(unpd.address("echo")) as sock:
        while not ended.is_set() or sent < 1000:
            window = [b"%d" % (sent + number) for number in range(40)]
            sent += len(window)
            for data in window:
                sock.send(data)
            assert sorted(sock.recv(100) for _ in window) == sorted(window)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)
    # A worker counts what it has sent, a moment after the client may have it.
    unpd.metric_becomes(sent, "unpd_datagrams_sent_total", service="echo")
    assert unpd.metric("unpd_datagrams_received_total", service="echo") == sent
    assert unpd.metric("unpd_datagram_kernel_drops_total", service="echo") == 0
    assert unpd.metric("unpd_generation") == reloads + 1


def _is_stopped(pid: int) -> bool:
    found = procs.stat(pid)
    return found is not None and found.state == "T"


def stop_workers(unpd: Unpd) -> list[int]:
    """Stop the workers (SIGSTOP), so that datagrams wait. Return their pids."""
    workers = unpd.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(_is_stopped(pid) for pid in workers), PATIENCE_S, "the stop")
    return workers


def test_a_new_port_reaches_the_workers_and_cuts_no_connection(launch: Launch) -> None:
    """A reload that adds a service in another pool leaves the workers that answer
    datagrams alone. They answer nothing that comes from its port, until another reload
    takes the service away.
    """
    port = free_port()
    other = f'[pools.other]\n[services.daytime]\npool = "other"\nlisten = ["tcp://[::1]:{port}"]\n'
    before = UDP.replace('"]', '", "tcp://127.0.0.1:0"]')
    unpd = launch(before)
    workers = unpd.workers()
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(clients.connect(unpd.address("echo", 1)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", port))
        udp.connect(("127.0.0.1", unpd.port("echo")))
        udp.settimeout(0.2)

        def answered() -> bool:
            udp.send(b"x")
            with contextlib.suppress(TimeoutError):
                return udp.recv(9) == b"x"
            return False

        until(answered, PATIENCE_S, "an answer to a port that is not ours")
        reload(unpd, before + other)
        until(lambda: not answered(), PATIENCE_S, "no answer to the new port")
        assert set(workers) < set(unpd.workers())
        assert unpd.metric("unpd_datagrams_unanswered_total", service="echo", reason="own_port")
        tcp.sendall(b"y")
        assert clients.read_exactly(tcp, 1) == b"y"
        reload(unpd, before)
        until(answered, PATIENCE_S, "an answer to the port that was ours")
        until(lambda: unpd.workers() == workers, PATIENCE_S, "the other workers to leave")


def test_datagrams_outlive_their_workers(launch: Launch) -> None:
    """Datagrams that wait when every worker is killed are answered by the next ones."""
    unpd = launch(UDP)
    with asking(unpd.address("echo")) as sock:
        workers = stop_workers(unpd)
        for number in range(50):
            sock.send(b"%d" % number)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        assert sorted(int(sock.recv(100)) for _ in range(50)) == list(range(50))
    unpd.wait_respawned(workers)


def test_a_stop_answers_what_waits(launch: Launch) -> None:
    """Datagrams that wait at SIGTERM are answered before the daemon ends; then the port
    is free.
    """
    unpd = launch(UDP)
    address = unpd.address("echo")
    with asking(address) as sock:
        workers = stop_workers(unpd)
        for number in range(WAITING):
            sock.send(b"%d" % number)
        unpd.signal(signal.SIGTERM)
        until(lambda: unpd.log_events("master.stopping"), PATIENCE_S, "the stop to begin")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert sorted(int(sock.recv(100)) for _ in range(WAITING)) == list(range(WAITING))
    assert unpd.wait_exit() == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(address)


def test_a_reload_that_takes_the_listener_away_answers_what_waits(launch: Launch) -> None:
    """The workers that a reload retires answer the datagrams of a listener that goes
    away.
    """
    unpd = launch(UDP.replace('"udp://127.0.0.1:0"', '"udp://127.0.0.1:0", "tcp://127.0.0.1:0"'))
    with asking(unpd.address("echo")) as sock:
        workers = stop_workers(unpd)
        for number in range(WAITING):
            sock.send(b"%d" % number)
        text = unpd.config_path.read_text().replace('"udp://127.0.0.1:0", ', "")
        unpd.config_path.write_text(text)
        unpd.signal(signal.SIGHUP)
        unpd.wait_event("listener.closed")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert sorted(int(sock.recv(100)) for _ in range(WAITING)) == list(range(WAITING))


def test_drops_of_the_kernel_are_shown(launch: Launch) -> None:
    """Datagrams beyond the receive buffer are counted as the kernel's drops: with those
    received they are all that were sent.
    """
    unpd = launch(UDP)
    with asking(unpd.address("echo")) as sock:
        workers = stop_workers(unpd)
        for _ in range(2000):
            sock.send(bytes(1000))
        for pid in workers:
            os.kill(pid, signal.SIGCONT)

        def all_counted() -> bool:
            received = unpd.metric("unpd_datagrams_received_total", service="echo")
            dropped = unpd.metric("unpd_datagram_kernel_drops_total", service="echo")
            return dropped > 0 and received + dropped == 2000

        until(all_counted, PATIENCE_S, "the drops to be counted")


def test_a_reload_loses_only_what_the_buffer_cannot_hold(launch: Launch) -> None:
    """Of more datagrams than the receive buffer holds, which come while a whole
    generation of workers hangs, the next generation answers all that the kernel did
    not drop; reloads drop none.
    """
    unpd = launch(UDP)
    count = 2000
    answered: set[int] = set()
    with asking(unpd.address("echo")) as sock:
        workers = stop_workers(unpd)
        for number in range(count):
            sock.send(b"%1000d" % number)
        for _ in range(3):
            assert unpd.run("reload", "--all", "--control", str(unpd.control)).returncode == 0
        for pid in workers:
            os.kill(pid, signal.SIGCONT)

        def all_told() -> bool:
            sock.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                while True:
                    answered.add(int(sock.recv(2000)))
            dropped = unpd.metric("unpd_datagram_kernel_drops_total", service="echo")
            return 0 < dropped == count - len(answered)

        until(all_told, PATIENCE_S, lambda: f"{len(answered)} answers and the drops to be {count}")
    unpd.metric_becomes(len(answered), "unpd_datagrams_sent_total", service="echo")
    assert answered == set(range(len(answered)))


def test_the_exporter_holds_no_datagram_socket(launch: Launch) -> None:
    """Only the master and the workers hold a datagram socket."""
    unpd = launch(UDP)
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    port = f":{unpd.port('echo'):04X}"
    (inode,) = [row[9] for row in rows if row[1].endswith(port)]
    exporter = unpd.exporter()
    assert exporter is not None
    held = {
        pid: f"socket:[{inode}]" in procs.fds(pid).values()
        for pid in [unpd.pid, *unpd.workers(), exporter]
    }
    assert held.pop(exporter) is False
    assert all(held.values())


def test_a_taken_port_is_named(launch: Launch) -> None:
    """A UDP port of another program is refused with the command that shows it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        unpd = launch(UDP.replace(":0", f":{port}"), ready=False)
        unpd.expect_exit(69)
        assert unpd.wait_exit() == 69
    assert (
        f"service echo cannot listen on udp://127.0.0.1:{port}: the address is in use by another"
        f" program (ss -lunp sport = :{port} shows it)" in unpd.stderr()
    )


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_stale_file_is_replaced_and_a_living_socket_is_not(
    launch: Launch, tmp_path: Path, kind: socket.SocketKind
) -> None:
    """The file of a dead socket is replaced, whatever its type; that of a living one is
    left alone.
    """
    path = tmp_path / "echo.dgram"
    text = f'[services.echo]\nlisten = ["unixgram://{path}"]\n'
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        refused = launch(text, ready=False)
        refused.expect_exit(69)
        refused.expect_leftover(path)
        assert refused.wait_exit() == 69
        assert "the address is in use by another program" in refused.stderr()
    launch(text)
    assert ask(str(path), b"hello") == b"hello"


def shut_down(sock: socket.socket) -> None:
    """Shut a datagram socket down for all who share it."""
    with contextlib.suppress(OSError):  # it is done all the same
        sock.shutdown(socket.SHUT_RDWR)


def connect_to_one(sock: socket.socket) -> None:
    """Let a datagram socket take the datagrams of one sender only."""
    if sock.family == socket.AF_INET:
        sock.connect(("127.0.0.1", 9))
    else:
        sock.connect(sock.getsockname())


@faults.requires_root
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (shut_down, "another process shut it down"),
        (connect_to_one, "another process connected it to one sender"),
    ],
)
@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_a_spoilt_socket_is_opened_anew(
    launch: Launch, tmp_path: Path, kind: str, spoil: Callable[[socket.socket], None], reason: str
) -> None:
    """A datagram socket that a process shuts down or connects is replaced at its
    address, and serves again after a reload that the daemon starts.
    """
    unpd = launch(
        UDP if kind == "udp" else UDP.replace("udp://127.0.0.1:0", f"unixgram://{tmp_path}/echo")
    )
    address = unpd.address("echo")
    pid = unpd.workers()[0]
    for fd, target in procs.fds(pid).items():
        if target.startswith("socket:"):
            with taken(pid, fd) as sock:
                if sock.type == socket.SOCK_DGRAM and sock.getsockname() == address:
                    spoil(sock)
    event = unpd.wait_event("listener.renewed")
    assert event.fields["reason"] == reason
    until(lambda: unpd.metric("unpd_generation") == 2, PATIENCE_S, "the reload")
    assert unpd.address("echo") == address
    assert ask(address, b"hello") == b"hello"


@contextlib.contextmanager
def taken(pid: int, fd: int) -> Iterator[socket.socket]:
    """A duplicate of the socket ``fd`` of another process (pidfd_getfd(2))."""
    pidfd = os.pidfd_open(pid)
    try:
        duplicate = LIBC.syscall(SYS_PIDFD_GETFD, pidfd, fd, 0)
        assert duplicate >= 0
        with socket.socket(fileno=duplicate) as sock:
            yield sock
    finally:
        os.close(pidfd)


# systemd


def datagram_unit(address: Address) -> socket.socket:
    """What a socket unit with ListenDatagram= passes."""
    sock = socket.socket(clients.family(address), socket.SOCK_DGRAM)
    sock.bind(address)
    return sock


def test_sockets_of_a_unit_are_adopted(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path
) -> None:
    """Datagram sockets that systemd passes serve beside a stream of the same name, and
    answer from the address that was asked; a stop leaves the file to systemd.
    """
    path = tmp_path / "echo.dgram"
    stream = socket.create_server(("127.0.0.1", 0))
    unixgram = datagram_unit(str(path))
    unixgram.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # PassCredentials=yes
    for sock in (datagram_unit(("0.0.0.0", 0)), unixgram, stream):
        systemd.listen("echo", sock)
    path.chmod(0o777)
    unpd = systemd.start(launch, '[services.echo]\nlisten = ["systemd:echo"]\n')
    _, unix, tcp = unpd.addresses("echo")
    udp = unpd.port("echo")
    assert ask(("127.0.0.9", udp), b"hello") == b"hello"
    assert ask(unix, b"hello") == b"hello"
    assert clients.converse(tcp, b"hello") == b"hello"
    assert unpd.run("reload", "--all", "--control", str(unpd.control)).returncode == 0
    assert ask(("127.0.0.9", udp), b"hello") == b"hello"
    unpd.expect_leftover(path)
    assert unpd.stop() == 0


def test_metrics_take_no_datagram_socket(launch: Launch, systemd: FakeSystemd) -> None:
    """A datagram socket under the exporter's name is refused with the key that its unit
    needs.
    """
    address = systemd.listen("metrics", datagram_unit(("127.0.0.1", 0)))
    unpd = systemd.start(launch, f'[metrics]\nlisten = "systemd:metrics"\n{UDP}', ready=False)
    unpd.expect_exit(69)
    assert unpd.wait_exit() == 69
    assert (
        "the metrics exporter cannot listen on systemd:metrics: systemd passes"
        f" udp://127.0.0.1:{address[1]}, and its socket unit needs ListenStream=" in unpd.stderr()
    )


@pytest.mark.slow
@pytest.mark.parametrize("crash", [True, False], ids=["crash", "restart"])
def test_the_store_keeps_the_datagrams(
    launch: Launch, systemd: FakeSystemd, tmp_path: Path, *, crash: bool
) -> None:
    """Datagrams that come between two lives of the daemon wait in the stored sockets,
    and the next master serves them.
    """
    path = tmp_path / "echo.dgram"
    text = UDP.replace('"udp://127.0.0.1:0"', f'"udp://127.0.0.1:0", "unixgram://{path}"')
    config = f'[daemon]\npid_file = "{tmp_path}/unpd.pid"\ncontrol = "{tmp_path}/c.sock"\n{text}'
    first = systemd.start(launch, config)
    first.expect_leftover(path)
    systemd.wait("READY")
    udp = first.address("echo")
    if crash:
        systemd.kill(first)
    else:
        assert first.stop() == 0
    with asking(udp) as remote, asking(str(path)) as local:
        for sock in (remote, local):
            sock.send(b"patience")
        second = systemd.start(launch, config)
        assert [remote.recv(100), local.recv(100)] == [b"patience"] * 2
    assert second.address("echo") == udp
    second.expect_leftover(path)
    assert second.stop() == 0
