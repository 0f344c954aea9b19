"""Daytime answers and closes; what its client sends, whenever and however much, does
not turn the answer into a reset.
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
"""Service by service, the form of its line as strptime(3) reads it: it ends with CR LF.
"""
SEGMENTS_RECEIVED_AT = 140
"""In struct tcp_info (linux/tcp.h): tcpi_segs_in."""


@pytest.fixture
def daytime(launch: Launch, tmp_path: Path) -> Unpd:
    """Daytime in its three formats, the first on a UNIX socket too."""
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
    """After the server's SYN its client gets one segment more, which has all."""
    with clients.connect(daytime.address("full")) as sock:
        assert is_answer(clients.read_all(sock), "full")
        known = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS_RECEIVED_AT + 4)
        assert struct.unpack_from("=I", known, SEGMENTS_RECEIVED_AT) == (2,)


def test_each_format_is_one_line_with_the_time(daytime: Unpd) -> None:
    """Each format answers with the present time on one line that ends in CR LF, and
    closes: the cause is done.
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
def test_junk_that_is_there_before_the_answer_does_not_reset_it(daytime: Unpd, index: int) -> None:
    """A client whose bytes wait in the server's socket before it is accepted gets the
    whole line and a FIN.
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


def test_a_client_that_goes_on_sending_gets_its_answer(daytime: Unpd) -> None:
    """A client that sends megabytes before it reads its first byte finds the whole line
    and a FIN; what it sent is counted and thrown away.
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
def test_a_client_that_resets_costs_nothing_but_its_count(daytime: Unpd, index: int) -> None:
    """A reset that comes before the answer is the client's end (client_rst); one that
    comes after it finds the server done. The next client is served.
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
