"""Daytime answers and closes. Whatever its client sends, and whenever, the answer does
not become a reset.
"""

import contextlib
import socket
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support import clients, procs
from tests.support.clients import Address
from tests.support.counts import wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch

MIB = 1 << 20
PARSED_AS = {
    "daytime": "%a %b %d %H:%M:%S %Y\r\n",
    "full": "%A, %B %d, %Y %H:%M:%S-UTC\r\n",
    "machine": "%Y-%m-%dT%H:%M:%S+00:00\r\n",
}
"""The form of each service's line for strptime(3). Each ends with CR LF."""
SEGMENTS_RECEIVED_AT = 140
"""The offset of tcpi_segs_in in struct tcp_info (linux/tcp.h)."""


@pytest.fixture
def daytime(launch: Launch, tmp_path: Path) -> Unpd:
    """Start daytime in its three formats, the first on a UNIX socket too."""
    return launch(
        f"""
        [services.daytime]
        listen = ["tcp://[::]:0", "unix://{tmp_path}/daytime.sock"]
        timezone = "UTC"

        [services.full]
        type = "daytime"
        listen = ["tcp://127.0.0.1:0"]
        format = "rfc867"
        timezone = "UTC"

        [services.machine]
        type = "daytime"
        listen = ["tcp://127.0.0.1:0"]
        format = "iso8601"
        timezone = "UTC"
        """
    )


def is_answer(line: bytes, service: str = "daytime") -> bool:
    """Whether ``line`` is the service's one line with the present time."""
    told = datetime.strptime(line.decode("ascii"), PARSED_AS[service]).replace(tzinfo=UTC)
    return abs(datetime.now(UTC) - told) < timedelta(seconds=30)


def test_the_line_and_the_end_come_in_one_segment(daytime: Unpd) -> None:
    """After the server's SYN its client receives one more segment. It holds the line
    and the FIN.
    """
    with clients.connect(daytime.address("full")) as sock:
        assert is_answer(clients.read_all(sock), "full")
        known = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS_RECEIVED_AT + 4)
        assert struct.unpack_from("=I", known, SEGMENTS_RECEIVED_AT) == (2,)


def test_each_format_is_one_line_with_the_time(daytime: Unpd) -> None:
    """Each format answers with the present time on one line that ends with CR LF, and
    closes. The cause is done.
    """
    for service in PARSED_AS:
        for address in daytime.addresses(service):
            assert is_answer(clients.ask(address), service)
    assert wait_ended(daytime, {"done": 2}, service="daytime").sent == 2 * len(
        "Sun Nov 22 12:24:00 2026\r\n"
    )
    wait_ended(daytime, {"done": 1}, service="full")
    wait_ended(daytime, {"done": 1}, service="machine")


@pytest.mark.parametrize("index", [0, 1], ids=["tcp", "unix"])
def test_junk_before_the_answer_does_not_reset_it(daytime: Unpd, index: int) -> None:
    """A client whose bytes wait in the server's socket before the accept gets the whole
    line and a FIN.
    """
    with contextlib.ExitStack() as stack:
        with procs.stopped(daytime.workers()):
            early = [
                stack.enter_context(clients.connect(daytime.address("daytime", index)))
                for _ in range(20)
            ]
            for sock in early:
                sock.sendall(b"junk" * 1000)
        for sock in early:
            assert is_answer(clients.read_all(sock))
    wait_ended(daytime, {"done": 20}, service="daytime")


def test_a_client_that_keeps_sending_gets_its_answer(daytime: Unpd) -> None:
    """A client that sends megabytes before it reads gets the whole line and a FIN. Its
    bytes are counted and discarded.
    """
    addresses: list[Address] = daytime.addresses("daytime")
    for address in addresses:
        with clients.connect(address) as sock:
            sock.sendall(bytes(8 * MIB))
            assert is_answer(clients.read_all(sock))
            sock.sendall(b"and still")
            sock.shutdown(socket.SHUT_WR)
    counts = wait_ended(daytime, {"done": len(addresses)}, service="daytime")
    assert counts.received >= len(addresses) * 8 * MIB


@pytest.mark.parametrize("index", [0, 1], ids=["tcp", "unix"])
def test_a_client_that_resets_is_counted_by_its_moment(daytime: Unpd, index: int) -> None:
    """A reset before the answer ends as client_rst; one after it ends as done. The next
    client is served.
    """
    address = daytime.address("daytime", index)
    with procs.stopped(daytime.workers()):
        for _ in range(10):
            clients.reset(clients.connect(address))
    for _ in range(10):
        sock = clients.connect(address)
        assert is_answer(clients.read_all(sock))
        clients.reset(sock)
    counts = wait_ended(daytime, {"client_rst": 10, "done": 10}, service="daytime")
    assert counts.sent == 10 * len("Sun Nov 22 12:24:00 2026\r\n")
