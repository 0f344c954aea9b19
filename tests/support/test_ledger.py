"""The ledger has to tell every way to fail apart, and to notice books that do not
balance: shown with servers that fail in one way each.
"""

import contextlib
import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faulty, ledger
from tests.support.clients import Address
from tests.support.ledger import BrokenLedger, Ledger
from tests.support.load import OUTCOMES, end_of_daytime, end_of_echo

BALANCED = Ledger(
    3, dict.fromkeys(OUTCOMES, 0) | {"ok": 2, "shed": 1}, 1.0, 0.0, {}, {"shed: FIN": 1}
)


def outcome_of(address: Address, *, attempts: int = 20, timeout_s: float = 5.0) -> Ledger:
    """The ledger of a short load on ``address``."""
    client = ledger.start(address, concurrency=4, timeout_s=timeout_s)
    try:
        client.wait(lambda: client.attempts() >= attempts, 10.0, f"{attempts} attempts")
        return client.stop()
    finally:
        client.abandon()


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("echo", "ok"),
        ("reset_before", "reset_before"),
        ("reset_after", "reset_after"),
        ("closed_early", "closed_early"),
        ("shed", "shed"),
        ("wrong", "wrong"),
        ("twice", "wrong"),
    ],
)
def test_each_failure_has_its_outcome(mode: str, outcome: str) -> None:
    """Every attempt on a server that fails in one way ends in that one outcome."""
    with faulty.serving(mode) as address:
        result = outcome_of(address)
    assert result.outcomes[outcome] == result.attempts >= 20, f"{result}"


def test_silence_is_a_timeout() -> None:
    """A server that accepts and never answers."""
    with faulty.serving("silent") as address:
        result = outcome_of(address, attempts=4, timeout_s=0.2)
    assert result.outcomes["timeout"] == result.attempts


def test_a_closed_port_refuses() -> None:
    """A port that is bound and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        result = outcome_of(bound.getsockname())
    assert result.outcomes["refused"] == result.attempts


def test_a_missing_unix_socket_refuses(tmp_path: Path) -> None:
    """A path where nothing is bound."""
    result = outcome_of(str(tmp_path / "nothing.sock"))
    assert result.outcomes["refused"] == result.attempts


def test_a_server_that_dies_is_seen() -> None:
    """Connections after a server's death are refused, and a ledger that should be clean
    is not.
    """
    with faulty.serving("echo") as address:
        client = ledger.start(address, rate=500, concurrency=16)
        client.more(20)
    with contextlib.closing(_Abandoned(client)):
        client.wait(lambda: client.count("refused") > 0, 10.0, "a refusal")
        result = client.stop()
    with pytest.raises(AssertionError, match="refused"):
        result.assert_clean()


class _Abandoned:
    def __init__(self, client: ledger.Client) -> None:
        self.close = client.abandon


def test_daytime_is_one_line() -> None:
    """A daytime server's answer is judged by its CR LF."""
    with faulty.serving("daytime") as address, ledger.running(address, "daytime") as client:
        client.more(50)
        client.stop().assert_clean(at_least=50)


@pytest.mark.parametrize(
    ("received", "outcome"),
    [
        (b"", "shed"),
        (b"Sun Nov", "closed_early"),
        (b"Sun Nov 22 12:24:00 2026\r\n", "ok"),
        (b"a\r\nb\r\n", "wrong"),
    ],
)
def test_judging_daytime(received: bytes, outcome: str) -> None:
    """Nothing, a part, the whole, too much."""
    assert end_of_daytime(b"", received) == outcome


@pytest.mark.parametrize(
    ("received", "outcome"),
    [
        (b"", "shed"),
        (b"non", "closed_early"),
        (b"nonce", "ok"),
        (b"nonceX", "wrong"),
        (b"nomce", "wrong"),
    ],
)
def test_judging_echo(received: bytes, outcome: str) -> None:
    """Nothing, a part, the whole, too much, something else."""
    assert end_of_echo(b"nonce", received) == outcome


def test_books_that_do_not_balance_are_noticed() -> None:
    """I1 fails when an attempt has no outcome, or two."""
    BALANCED.balance()
    for attempts in (2, 4):
        with pytest.raises(AssertionError, match="attempts but 3 outcomes"):
            dataclasses.replace(BALANCED, attempts=attempts).balance()


def test_a_clean_ledger_has_no_failure_and_enough_successes() -> None:
    """One failure too many, or too few attempts to say anything, is not clean."""
    BALANCED.assert_clean(allow={"shed": 1})
    with pytest.raises(AssertionError, match="shed"):
        BALANCED.assert_clean()
    with pytest.raises(AssertionError, match="only 2 attempts were ok"):
        BALANCED.assert_clean(at_least=3, allow={"shed": 1})


def test_a_generator_that_fails_is_no_ledger(capfd: pytest.CaptureFixture[str]) -> None:
    """A fault on the client's own side is never booked as one of the server's."""
    with listening() as address:
        client = ledger.start(address, payload_bytes=1 << 26, concurrency=1)
        try:
            with pytest.raises(BrokenLedger, match="ended with 1"):
                client.wait(lambda: False, 10.0, "the generator's end")
            with pytest.raises(BrokenLedger, match="ended with 1"):
                client.stop()
        finally:
            client.abandon()
    assert "BrokenLoad" in capfd.readouterr().err


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, int]]:
    """A listener that nobody accepts from."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


def test_many_more_connections_than_source_ports_would_allow() -> None:
    """At 2,000 connections a second the load keeps its rate and no attempt fails."""
    with faulty.serving("echo") as address, ledger.running(address, rate=2000) as client:
        client.more(3000)
        result = client.stop()
    result.assert_clean(at_least=3000)
    assert result.rate > 1500, f"{result.rate:.0f} attempts a second instead of 2000"
