"""A flood of SYNs from forged sources (fault row F5 of the catalogue). Their handshakes
never complete, so the kernel alone meets them: it answers with SYN cookies (tcp(7),
tcp_syncookies) when its queue is full. None of them reaches a limit of unpd.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.counts import wait_active
from tests.support.faults import Namespace, network, requires_namespaces
from tests.support.launch import Launch
from tests.support.threads import beside
from tests.support.waiting import until

PORT, SERVER = 7007, "10.99.0.1"
SYN, WINDOW_BYTES, TCP_HEADER_WORDS = 0x02, 65535, 5
ECHO = f"""
[metrics]
listen = "unix://{{directory}}/metrics.sock"

[pools.default]
workers = 2

[services.echo]
listen = ["tcp://0.0.0.0:{PORT}"]
backlog = 64
max_per_source = 10
accept_rate = "1000/s"
"""


def syn(source: str, port: int, number: int) -> bytes:
    """An IPv4 packet with a SYN of a forged source. The kernel fills in the checksum of
    its header.
    """
    addresses = socket.inet_aton(source) + socket.inet_aton(SERVER)
    words = (port, PORT, number, 0, TCP_HEADER_WORDS << 12 | SYN, WINDOW_BYTES)
    plain = struct.pack("!HHIIHHHH", *words, 0, 0)
    pseudo = addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(plain))
    segment = struct.pack("!HHIIHHHH", *words, _checksum(pseudo + plain), 0)
    size = 20 + len(segment)
    header = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, socket.IPPROTO_TCP, 0)
    return header + addresses + segment


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


@contextlib.contextmanager
def flooding(client: Namespace) -> Iterator[None]:
    """Send SYNs as fast as one thread can, each from another address of 10.99.0.0/24
    that nobody has, or from another port.
    """
    with client.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    over = threading.Event()

    def flood() -> None:
        number = 0
        while not over.is_set():
            number += 1
            packet = syn(f"10.99.0.{3 + number % 250}", 1024 + number // 250 % 60000, number)
            with contextlib.suppress(BlockingIOError, OSError):
                sock.sendto(packet, (SERVER, 0))

    with sock, beside(flood, stop=over.set):
        yield


def cookies_sent(server: Namespace) -> int:
    """How many SYN cookies the server's kernel has sent."""
    with server.entered():
        lines = Path("/proc/thread-self/net/netstat").read_text().splitlines()
    names, counts = (line.split() for line in lines[:2])
    return int(counts[names.index("SyncookiesSent")])


@pytest.mark.slow
@requires_namespaces()
def test_a_flood_of_half_open_connections_harms_nobody(launch: Launch) -> None:
    """The kernel sends cookies by the hundred. Each real client is served meanwhile,
    and the daemon accepts, counts and refuses nobody else.
    """
    with network() as net:
        unpd = launch(ECHO.format(directory=launch.directory), prefix=net.server.prefix)
        with flooding(net.client):
            until(lambda: cookies_sent(net.server) > 500, 30.0, "a flood")
            for _ in range(50):
                with net.client.entered():
                    sock = clients.connect((SERVER, PORT), timeout_s=10.0)
                with sock:
                    sock.sendall(b"x")
                    assert clients.read_exactly(sock, 1) == b"x"
        wait_active(unpd, 0)
        unpd.metric_becomes(50, "unpd_connections_accepted_total", service="echo")
        assert unpd.total("unpd_refused_total") == 0
        assert unpd.stop() == 0
