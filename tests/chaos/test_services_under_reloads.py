"""Every classic service keeps its clients through reloads under traffic."""

import struct
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from tests.support import clients
from tests.support.clients import Address
from tests.support.counts import service_counts
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.scale import many
from tests.support.waiting import until
from unpd.services.chargen import lines
from unpd.services.time868 import EPOCH_S

QUOTATIONS = (b"one\r\n", b"two\r\n")


def _echo(address: Address) -> bool:
    return clients.converse(address, b"hello") == b"hello"


def _discard(address: Address) -> bool:
    return clients.converse(address, bytes(100_000)) == b""


def _chargen(address: Address) -> bool:
    with clients.connect(address) as sock:
        return clients.read_exactly(sock, 20 * len(lines())) == 20 * lines()


def _daytime(address: Address) -> bool:
    return clients.ask(address).endswith(b"\r\n")


def _time(address: Address) -> bool:
    (seconds,) = struct.unpack("!I", clients.ask(address))
    return bool(abs(seconds - EPOCH_S - time.time()) < 30)


def _qotd(address: Address) -> bool:
    return clients.ask(address) in QUOTATIONS


def _tcpmux(address: Address) -> bool:
    return clients.converse(address, b"echo\r\nhello") == b"+Go\r\nhello"


CLIENTS: Mapping[str, Callable[[Address], bool]] = MappingProxyType(
    {
        "chargen": _chargen,
        "daytime": _daytime,
        "discard": _discard,
        "echo": _echo,
        "qotd": _qotd,
        "tcpmux": _tcpmux,
        "time": _time,
    }
)


def ask_on(unpd: Unpd, service: str, over: threading.Event) -> int:
    """Send one client after the other, over TCP and UNIX in turn, until the test is
    ``over``; return how many there were. AssertionError if one got anything wrong.
    """
    count = 0
    addresses = unpd.addresses(service)
    while not over.is_set():
        assert CLIENTS[service](addresses[count % len(addresses)]), f"{service}, client {count}"
        count += 1
    return count


def test_a_hundred_reloads_under_traffic_of_every_service(launch: Launch, tmp_path: Path) -> None:
    """No client is refused, reset or given a wrong byte, and every connection is
    counted once.
    """
    (tmp_path / "fortunes").write_text("one\n%\ntwo\n")
    text = '[log]\nlevel = "info"\n'
    own = {"qotd": f'file = "{tmp_path}/fortunes"\n', "tcpmux": 'services = ["echo"]\n'}
    for name in CLIENTS:
        listen = f'["tcp://127.0.0.1:0", "unix://{tmp_path}/{name}.sock"]'
        text += f"[services.{name}]\nlisten = {listen}\n{own.get(name, '')}"
    unpd = launch(text)
    over = threading.Event()
    with ThreadPoolExecutor(len(CLIENTS)) as threads:
        running = {name: threads.submit(ask_on, unpd, name, over) for name in CLIENTS}
        try:
            for _ in range(many(100, at_least=5)):
                reload(unpd, every_pool=True)
        finally:
            over.set()
        sent = {name: future.result() for name, future in running.items()}
    assert min(sent.values()) > 5, sent
    until(
        lambda: not any(service_counts(unpd, name).active for name in CLIENTS),
        10.0,
        "the connections to end",
    )
    assert {name: service_counts(unpd, name).accepted for name in CLIENTS} == sent
