"""Every classic service keeps its clients through reloads under traffic, over TCP, UDP
and both kinds of UNIX sockets.
"""

import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support import clients
from tests.support.clients import Address
from tests.support.counts import service_counts
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import reload
from tests.support.waiting import until
from unpd.services.chargen import lines
from unpd.services.table import SERVICES
from unpd.services.time868 import EPOCH_S

PATIENCE_S = 10.0
QUOTATIONS = (b"one\r\n", b"two\r\n")


# clients of streams: whether one got what it should


def _echo(address: Address) -> bool:
    return clients.converse(address, b"hello") == b"hello"


def _discard(address: Address) -> bool:
    return clients.converse(address, bytes(100_000)) == b""


def _chargen(address: Address) -> bool:
    with clients.connect(address) as sock:
        return clients.read_exactly(sock, 20 * len(lines())) == 20 * lines()


def _is_daytime(answer: bytes) -> bool:
    return answer.endswith(b"\r\n")


def _is_time(answer: bytes) -> bool:
    (seconds,) = struct.unpack("!I", answer)
    return bool(abs(seconds - EPOCH_S - time.time()) < 30)


def _is_quotation(answer: bytes) -> bool:
    return answer in QUOTATIONS


def _tcpmux(address: Address) -> bool:
    return clients.converse(address, b"echo\r\nhello") == b"+Go\r\nhello"


CLIENTS: Mapping[str, Callable[[Address], bool]] = MappingProxyType(
    {
        "chargen": _chargen,
        "daytime": lambda address: _is_daytime(clients.ask(address)),
        "discard": _discard,
        "echo": _echo,
        "qotd": lambda address: _is_quotation(clients.ask(address)),
        "tcpmux": _tcpmux,
        "time": lambda address: _is_time(clients.ask(address)),
    }
)

ANSWERS: Mapping[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        "chargen": lambda answer: bool(answer) and answer in 2 * lines(),
        "daytime": _is_daytime,
        "echo": lambda answer: answer == b"",
        "qotd": _is_quotation,
        "time": _is_time,
    }
)
"""Whether an answer to an empty datagram is right."""


def connect_on(unpd: Unpd, service: str, over: threading.Event) -> int:
    """Send one client after the other, over TCP and UNIX in turn, until the test is
    ``over``; return how many there were. AssertionError if one got anything wrong.
    """
    count = 0
    addresses = unpd.addresses(service)[:2]
    while not over.is_set():
        assert CLIENTS[service](addresses[count % 2]), f"{service}, client {count}"
        count += 1
    return count


def ask_on(unpd: Unpd, service: str, over: threading.Event) -> int:
    """Send one datagram after the other, over UDP and UNIX in turn, and wait for each
    answer; return how many there were. AssertionError if an answer is wrong, or a
    second one comes.
    """
    count = 0
    udp, unix = unpd.addresses(service)[2:]
    with clients.asking(udp) as remote, clients.asking(unix) as local:
        socks = (remote, local)
        while not over.is_set():
            sock = socks[count % 2]
            sock.send(b"")
            assert ANSWERS[service](sock.recv(1 << 16)), f"{service}, datagram {count}"
            count += 1
        for sock in socks:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1 << 16)
    return count


def discard_on(unpd: Unpd, over: threading.Event) -> int:
    """Send datagrams to discard, over UDP and UNIX in turn; return how many there were.
    Nothing answers them, but a UNIX sender waits while the queue is full.
    """
    count = 0
    udp, unix = unpd.addresses("discard")[2:]
    with clients.asking(udp) as remote, clients.asking(unix) as local:
        socks = (remote, local)
        while not over.is_set():
            socks[count % 2].send(b"nothing")
            count += 1
    return count


def configuration(directory: Path) -> str:
    """Every service at every kind of address, without a rate for datagrams."""
    (directory / "fortunes").write_text("one\n%\ntwo\n")
    own = {"qotd": f'file = "{directory}/fortunes"\n', "tcpmux": 'services = ["echo"]\n'}
    text = '[log]\nlevel = "info"\n'
    for name, row in SERVICES.items():
        listen = ["tcp://127.0.0.1:0", f"unix://{directory}/{name}.sock"]
        if row.datagram:
            listen += ["udp://127.0.0.1:0", f"unixgram://{directory}/{name}.dgram"]
        text += f"[services.{name}]\nlisten = {listen}\n{own.get(name, '')}"
        text += "datagram_rate = 0\ndatagram_total_rate = 0\n"
    return text


def datagram_counts(unpd: Unpd, service: str) -> dict[str, int]:
    """How many datagrams of a service came, were answered, had no answer, were not
    answered for another reason, and were dropped by the kernel.
    """
    samples = unpd.metrics()
    counts = {
        name: int(total(samples, f"unpd_{metric}_total", service=service))
        for name, metric in (
            ("received", "datagrams_received"),
            ("sent", "datagrams_sent"),
            ("unanswered", "datagrams_unanswered"),
            ("dropped", "datagram_kernel_drops"),
        )
    }
    reason = {"service": service, "reason": "no_answer"}
    counts["no_answer"] = int(total(samples, "unpd_datagrams_unanswered_total", **reason))
    return counts


@pytest.mark.slow
def test_reloads_under_traffic_of_every_service(launch: Launch, public: Path) -> None:
    """A hundred times: no client is refused, reset or given a wrong byte, each datagram
    is answered once, and every connection and every datagram is counted once. The
    kernel drops datagrams to discard only, whose client waits for no answer.
    """
    assert set(SERVICES) == set(CLIENTS)
    assert {name for name, row in SERVICES.items() if row.datagram} == {*ANSWERS, "discard"}
    unpd = launch(configuration(public))
    over = threading.Event()

    def outcome(running: Mapping[str, Future[int]]) -> dict[str, int]:
        return {name: future.result() for name, future in running.items()}

    with ThreadPoolExecutor(len(CLIENTS) + len(ANSWERS) + 1) as threads:
        streams = {name: threads.submit(connect_on, unpd, name, over) for name in CLIENTS}
        datagrams = {name: threads.submit(ask_on, unpd, name, over) for name in ANSWERS}
        datagrams["discard"] = threads.submit(discard_on, unpd, over)
        try:
            for _ in range(100):
                reload(unpd, every_pool=True)
        finally:
            over.set()
        connected, sent = outcome(streams), outcome(datagrams)
    assert min(*connected.values(), *sent.values()) > 5, (connected, sent)
    until(
        lambda: not any(service_counts(unpd, name).active for name in CLIENTS),
        PATIENCE_S,
        "the connections to end",
    )
    assert {name: service_counts(unpd, name).accepted for name in CLIENTS} == connected
    for name, count in sent.items():
        add_up(unpd, name, count)


def add_up(unpd: Unpd, service: str, sent: int) -> None:
    """Assert that each of ``sent`` datagrams was answered, had no answer (discard) or
    was dropped by the kernel (discard), once it was counted.
    """

    def all_counted() -> bool:
        counts = datagram_counts(unpd, service)
        came, done = counts["received"], counts["sent"] + counts["unanswered"]
        return came + counts["dropped"] == sent and done == came

    until(all_counted, PATIENCE_S, lambda: f"{service}: {sent} of {datagram_counts(unpd, service)}")
    counts = datagram_counts(unpd, service)
    if service == "discard":
        assert (counts["sent"], counts["no_answer"]) == (0, counts["received"]), counts
    else:
        assert (counts["sent"], counts["dropped"]) == (sent, 0), counts
    assert counts["unanswered"] == counts["no_answer"], counts
