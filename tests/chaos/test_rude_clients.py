"""Slow, silent and badly behaved clients. Their cost is bounded, the other clients are
served, and each connection ends for the right cause.
"""

import array
import contextlib
import os
import random
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.counts import service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.faults import Network, namespace, network, requires_namespaces
from tests.support.launch import Launch
from tests.support.operating import ask
from tests.support.scale import many
from tests.support.waiting import holds, until

MIB = 1 << 20
ONE_WORKER = "[pools.default]\nworkers = 1\n"
RESERVED = 200
"""Descriptors that many clients leave to the rest of the test run."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_clients_that_never_read_cost_a_bounded_memory(
    launch: Launch, tmp_path: Path, kind: str
) -> None:
    """Clients that send up to 100 MB each and never read are stopped by back-pressure.
    The worker grows by less than 1 MB per client, and serves others.
    """
    listen = f"unix://{tmp_path}/echo.sock" if kind == "unix" else "tcp://127.0.0.1:0"
    unpd = launch(ONE_WORKER + f'[services.echo]\nlisten = ["{listen}"]')
    (pid,) = unpd.workers()
    address = unpd.address("echo")
    assert clients.converse(address, bytes(MIB)) == bytes(MIB)  # the worker's buffers are warm
    before = procs.rss_bytes(pid)
    with contextlib.ExitStack() as stack:
        floods = [
            stack.enter_context(clients.connect(address, receive_buffer=1)) for _ in range(12)
        ]
        for sock in floods:
            assert clients.send_until_blocked(sock, 100 * MIB, stall_s=0.05) < 100 * MIB
        assert procs.rss_bytes(pid) - before < len(floods) * MIB
        assert clients.converse(address, b"hello") == b"hello"
        assert service_counts(unpd).active >= len(floods)
    wait_ended(unpd, {"client_fin": 2, "client_rst": len(floods)})


@pytest.mark.slow
def test_thousands_of_idle_clients_cost_next_to_nothing(launch: Launch) -> None:
    """Beside 10,000 silent clients (fewer in the default run) an active one is answered
    at once. The silent ones cost no time and little memory.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(many(10_000, at_least=2000), hard - RESERVED)
    unpd = launch(ONE_WORKER + "max_connections_per_worker = 20_000\n")
    (pid,) = unpd.workers()
    before = procs.rss_bytes(pid)
    with clients.idle(unpd.address("echo"), count):
        wait_active(unpd, count)
        assert procs.rss_bytes(pid) - before < count * 4096
        before_s = procs.cpu_s(pid)
        holds(lambda: procs.alive(pid), 0.5, "the worker ended")
        assert procs.cpu_s(pid) - before_s < 0.1
        with clients.connect(unpd.address("echo")) as sock:
            laps = sorted(round_trip_s(sock) for _ in range(300))
        assert laps[len(laps) * 99 // 100] < 0.25
    wait_ended(unpd, {"client_fin": count + 1})


def round_trip_s(sock: socket.socket) -> float:
    """Return how long a few bytes take to come back."""
    began = time.monotonic()
    sock.sendall(b"0123456789abcdef")
    assert clients.read_exactly(sock, 16) == b"0123456789abcdef"
    return time.monotonic() - began


def trickle(slow: list[socket.socket], waiting: socket.socket | None = None) -> bool:
    """Send a byte from each of ``slow`` that is still served, and close the others.
    True when ``waiting`` has an answer, or, without it, when no slow client is left.
    """
    for sock in select.select(slow, [], [], 0.05)[0]:
        if not sock.recv(clients.PIECE_BYTES):
            sock.close()
            slow.remove(sock)
    for sock in slow:
        sock.send(b"x")
    return bool(select.select([waiting], [], [], 0)[0]) if waiting else not slow


def test_a_crowd_of_slowloris_is_gone_when_its_sessions_are_over(launch: Launch) -> None:
    """Clients that hold every connection of a worker by sending single bytes lose it
    after session_timeout_s, and others are accepted.
    """
    unpd = launch(
        """
        [pools.default]
        workers = 1
        max_connections_per_worker = 50

        [services.echo]
        listen = ["tcp://127.0.0.1:0"]
        session_timeout_s = 0.5
        """
    )
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(50)]
        wait_active(unpd, 50)
        with clients.connect(unpd.address("echo")) as waiting:
            waiting.sendall(b"let me in")
            until(lambda: trickle(slow, waiting), 10.0, "the waiting client to be served")
            assert clients.read_exactly(waiting, 9) == b"let me in"
            until(lambda: trickle(slow), 10.0, "the slow ones to be gone")
    wait_ended(unpd, {"session_limit": 50, "client_fin": 1})


@pytest.mark.parametrize("kind", [pytest.param("tcp", marks=pytest.mark.slow), "unix"])
def test_resets_in_the_middle_of_an_answer_leave_no_trace(
    launch: Launch, tmp_path: Path, kind: str
) -> None:
    """Clients that reset while megabytes are on their way to them end as client_rst.
    The worker is the same as before and has the same number of descriptors.
    """
    listen = f"unix://{tmp_path}/echo.sock" if kind == "unix" else "tcp://127.0.0.1:0"
    unpd = launch(ONE_WORKER + f'[services.echo]\nlisten = ["{listen}"]')
    (pid,) = unpd.workers()
    before = procs.fds(pid)
    count = many(500, at_least=20)
    for _ in range(count):
        sock = clients.connect(unpd.address("echo"), receive_buffer=1)
        clients.send_until_blocked(sock, MIB, stall_s=0.002)
        clients.reset(sock)
    wait_ended(unpd, {"client_rst": count})
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    assert unpd.workers() == [pid]
    wait_ended(unpd, {"client_rst": count, "client_fin": 1})
    until(
        lambda: procs.fds(pid).keys() == before.keys(),
        10.0,
        "as many descriptors as before, without those of the relay",
    )
    assert signal.SIGPIPE in procs.signals(pid).ignored


@requires_namespaces()
def test_a_server_with_the_smallest_buffers_loses_nothing(
    launch: Launch, rng: random.Random
) -> None:
    """With send buffers of a page or two every write of the server is partial. The
    stream still comes back whole.
    """
    with namespace() as net:
        net.sysctl("net.ipv4.tcp_wmem", "4096 4096 8192")
        unpd = launch("", prefix=net.prefix)
        with net.entered():
            data = rng.randbytes(many(10 * MIB, at_least=2 * MIB))
            assert clients.converse(unpd.address("echo"), data, receive_buffer=16384) == data
            counts = wait_ended(unpd, {"client_fin": 1})
            assert counts.received == counts.sent == len(data)


def test_descriptors_that_a_client_passes_are_discarded(launch: Launch, tmp_path: Path) -> None:
    """Descriptors that a UNIX client sends with its bytes (SCM_RIGHTS) never reach the
    worker. The bytes are echoed.
    """
    unpd = launch(ONE_WORKER + f'[services.echo]\nlisten = ["unix://{tmp_path}/echo.sock"]')
    (pid,) = unpd.workers()
    with clients.connect(unpd.address("echo")) as sock:
        wait_active(unpd, 1)
        before = procs.fds(pid)
        reader, writer = os.pipe()
        for _ in range(10):
            sock.sendmsg(
                [b"hello"],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer] * 100))],
            )
            assert clients.read_exactly(sock, 5) == b"hello"
        os.close(writer)
        assert os.read(reader, 1) == b""  # no other process holds the other end
        os.close(reader)
        assert procs.fds(pid) == before


TO_THE_NETWORK = (
    ONE_WORKER + '[services.echo]\nlisten = ["tcp://10.99.0.1:0"]\nuser_timeout_s = 1\n'
)
PATIENT = TO_THE_NETWORK.replace("user_timeout_s = 1", "user_timeout_s = 30")


@pytest.mark.slow
@requires_namespaces()
def test_a_peer_that_vanished_is_noticed(launch: Launch) -> None:
    """A client whose machine is gone while an answer is on its way is dropped a few
    seconds after user_timeout_s, whether the answer is short or long. The cause is
    peer_vanished.
    """
    with network() as net:
        unpd = launch(TO_THE_NETWORK, prefix=net.server.prefix)
        with net.server.entered():
            with net.client.entered():
                socks = [clients.connect(unpd.address("echo")) for _ in range(2)]
            with socks[0], socks[1]:
                with procs.stopped(unpd.workers()):
                    for sock, limit in zip(socks, (5, MIB), strict=True):
                        clients.send_until_blocked(sock, limit, stall_s=0.1)
                        until_received(unpd.port("echo"), min(limit, 20_000))
                    net.cut()
                began = time.monotonic()
                wait_ended(unpd, {"peer_vanished": 2}, timeout_s=15.0)
                assert time.monotonic() - began < 10.0


def until_received(port: int, count: int) -> None:
    """Wait until the kernel holds ``count`` unread bytes for the service at ``port``
    (proc(5): rx_queue).
    """
    until(
        lambda: any(queued >= count for queued in established(port)),
        10.0,
        f"{count} bytes for port {port}",
    )


def established(port: int) -> list[int]:
    """Return the unread bytes in the kernel for each established connection of the
    service at ``port`` (proc(5): rx_queue).
    """
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].partition(":")[2], 16)
        for row in rows
        if row[1].endswith(f":{port:04X}") and row[3] == "01"
    ]


@pytest.mark.slow
@requires_namespaces()
def test_a_peer_that_lives_and_never_reads_is_stalled(launch: Launch) -> None:
    """Over the same wire a client that does not read, but whose machine answers, ends
    as stalled.
    """
    with deaf_client(launch) as unpd:
        counts = wait_ended(unpd, {"stalled": 1}, timeout_s=15.0)
        assert counts.sent < MIB  # the rest was pending in the worker


@pytest.mark.slow
@requires_namespaces()
def test_a_peer_that_never_reads_what_the_kernel_has_taken_is_stalled_too(
    launch: Launch,
) -> None:
    """When the worker has nothing left to send, the kernel waits for the client's
    window and gives up. The cause is stalled.
    """
    with deaf_client(launch, count=20_000) as unpd:
        unpd.metric_becomes(20_000, "unpd_sent_bytes_total", service="echo")
        wait_ended(unpd, {"stalled": 1}, timeout_s=15.0)


@pytest.mark.slow
@requires_namespaces()
def test_a_peer_that_lives_is_stalled_however_late_the_worker_looks(launch: Launch) -> None:
    """The kernel gives the client up long before the worker looks. The kernel's answer
    still shows that the client's machine was alive, so the cause is stalled.
    """
    with deaf_client(launch) as unpd:
        with procs.stopped(unpd.workers()):
            assert established(unpd.port("echo"))  # the kernel has not given up yet
            until(
                lambda: not established(unpd.port("echo")), 10.0, "the kernel to give the client up"
            )
            holds(lambda: not established(unpd.port("echo")), 1.5, "the connection came back")
        wait_ended(unpd, {"stalled": 1}, timeout_s=15.0)


@contextlib.contextmanager
def deaf_client(launch: Launch, count: int = MIB) -> Iterator[Unpd]:
    """Start a server in whose network namespace the block runs, with a live client over
    the wire that sends ``count`` bytes and reads nothing.

    1 MiB is more than the server answers while the client does not read. Filling all
    buffers (16 MiB) would take up to user_timeout_s.
    """
    with network() as net:
        unpd = launch(TO_THE_NETWORK, prefix=net.server.prefix)
        with net.server.entered():
            with net.client.entered():
                sock = clients.connect(unpd.address("echo"), receive_buffer=1)
            with sock:
                assert clients.send_until_blocked(sock, count) == count
                until(lambda: unpd.total("unpd_sent_bytes_total") > 0, 10.0, "the server to answer")
                yield unpd


@requires_namespaces()
def test_a_wire_that_is_mended_in_time_loses_nothing(launch: Launch) -> None:
    """A client whose wire was cut for less than user_timeout_s gets its answer."""
    with cut_off_client(launch, Network.cut) as (net, unpd, sock):
        unpd.metric_becomes(5, "unpd_sent_bytes_total", service="echo")
        net.mend()
        assert clients.read_exactly(sock, 5) == b"hello"
        sock.close()
        wait_ended(unpd, {"client_fin": 1})


@contextlib.contextmanager
def cut_off_client(
    launch: Launch, cut: Callable[[Network], object]
) -> Iterator[tuple[Network, Unpd, socket.socket]]:
    """Start a server in whose network namespace the block runs, with a client over the
    wire that has said hello. ``cut`` comes before the answer.
    """
    with network() as net:
        unpd = launch(PATIENT, prefix=net.server.prefix)
        with net.server.entered():
            with net.client.entered():
                sock = clients.connect(unpd.address("echo"))
            with sock:
                with procs.stopped(unpd.workers()):
                    sock.sendall(b"hello")
                    until_received(unpd.port("echo"), 5)
                    cut(net)
                yield net, unpd, sock


@pytest.mark.slow
@requires_namespaces()
def test_what_is_sent_again_is_counted(launch: Launch) -> None:
    """A client that loses its address for a moment gets its answer afterwards. The list
    of connections and the metrics have the segments that were sent again.
    """
    again = "unpd_retransmitted_segments_total"

    def change_address(net: Network, order: str) -> None:
        net.client.ip("address", order, f"{net.client_host}/24", "dev", "wire")

    with cut_off_client(launch, lambda net: change_address(net, "del")) as (net, unpd, sock):

        def sent_again() -> int:
            (found,) = ask(unpd.control, verb="connections", service="echo")["connections"]
            return int(found["retransmits"])

        until(sent_again, 10.0, "the answer to be sent again")
        change_address(net, "add")
        assert clients.read_exactly(sock, 5) == b"hello"
        assert unpd.metric(again, service="echo") == 0, "counted at the end"
        sock.close()
        wait_ended(unpd, {"client_fin": 1})
        until(lambda: unpd.metric(again, service="echo"), 10.0, "the segments on the page")
