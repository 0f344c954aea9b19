"""The load generator distinguishes every kind of failure, and a result that does not
balance is noticed. Faulty servers fail in one way each.
"""

import contextlib
import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faulty, loads
from tests.support.clients import Address
from tests.support.load_generator import OUTCOMES, end_of_daytime, end_of_echo
from tests.support.loads import LoadFailed, LoadResult

BALANCED = LoadResult(
    3, dict.fromkeys(OUTCOMES, 0) | {"ok": 2, "shed": 1}, 1.0, 0.0, {}, {"shed: FIN": 1}, ["a:1"]
)


def outcome_of(address: Address, *, attempts: int = 20, timeout_s: float = 5.0) -> LoadResult:
    """Return the result of a short load on ``address``."""
    client = loads.start(address, concurrency=4, timeout_s=timeout_s)
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
    """Every attempt on a server that fails in one way ends in the outcome of that
    failure. The result names the addresses of those that failed, and of no others.
    """
    with faulty.serving(mode) as address:
        result = outcome_of(address)
    assert result.outcomes[outcome] == result.attempts >= 20, f"{result}"
    assert len(set(result.lost)) == sum(result.failed().values())
    assert all(each.startswith("127.0.1.") and each[-2:] != ":0" for each in result.lost)


def test_silence_is_a_timeout() -> None:
    """An attempt on a server that accepts and never answers ends in a timeout."""
    with faulty.serving("silent") as address:
        result = outcome_of(address, attempts=4, timeout_s=0.2)
    assert result.outcomes["timeout"] == result.attempts


def test_a_closed_port_refuses() -> None:
    """An attempt on a port that is bound but not listening is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        result = outcome_of(bound.getsockname())
    assert result.outcomes["refused"] == result.attempts


def test_a_missing_unix_socket_refuses(tmp_path: Path) -> None:
    """An attempt on a path without a socket is refused."""
    result = outcome_of(str(tmp_path / "nothing.sock"))
    assert result.outcomes["refused"] == result.attempts


def test_a_server_that_dies_is_seen() -> None:
    """Connections after a server's death are refused, and assert_clean() fails."""
    with faulty.serving("echo") as address:
        client = loads.start(address, rate=500, concurrency=16)
        client.more(20)
    with contextlib.closing(_Abandoned(client)):
        client.wait(lambda: client.count("refused") > 0, 10.0, "a refusal")
        result = client.stop()
    with pytest.raises(AssertionError, match="refused"):
        result.assert_clean()


class _Abandoned:
    def __init__(self, client: loads.RunningLoad) -> None:
        self.close = client.abandon


def test_daytime_is_one_line() -> None:
    """A daytime server's answer is complete when it ends with CR LF."""
    with faulty.serving("daytime") as address, loads.running(address, "daytime") as client:
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
    """An empty, partial, whole and too long daytime answer have different outcomes."""
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
    """An empty, partial, whole, too long and different echo have different outcomes."""
    assert end_of_echo(b"nonce", received) == outcome


def test_a_result_that_does_not_balance_is_noticed() -> None:
    """check_balance() fails when an attempt has no outcome, or two."""
    BALANCED.check_balance()
    for attempts in (2, 4):
        with pytest.raises(AssertionError, match="attempts but 3 outcomes"):
            dataclasses.replace(BALANCED, attempts=attempts).check_balance()


def test_a_clean_result_has_no_failure_and_enough_successes() -> None:
    """A result with one failure too many, or with too few attempts, is not clean."""
    BALANCED.assert_clean(allow={"shed": 1})
    with pytest.raises(AssertionError, match="shed"):
        BALANCED.assert_clean()
    with pytest.raises(AssertionError, match="only 2 attempts were ok"):
        BALANCED.assert_clean(at_least=3, allow={"shed": 1})


def test_a_generator_that_fails_gives_no_result(capfd: pytest.CaptureFixture[str]) -> None:
    """A fault of the generator itself is never counted as one of the server."""
    with listening() as address:
        client = loads.start(address, payload_bytes=1 << 26, concurrency=1)
        try:
            with pytest.raises(LoadFailed, match="ended with 1"):
                client.wait(lambda: False, 10.0, "the generator's end")
            with pytest.raises(LoadFailed, match="ended with 1"):
                client.stop()
        finally:
            client.abandon()
    assert "BrokenLoad" in capfd.readouterr().err


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, int]]:
    """Provide a listener that accepts no connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


@pytest.mark.slow
def test_many_more_connections_than_source_ports_would_allow() -> None:
    """At 2,000 connections per second the load keeps its rate and no attempt fails."""
    with faulty.serving("echo") as address, loads.running(address, rate=2000) as client:
        client.more(3000)
        result = client.stop()
    result.assert_clean(at_least=3000)
    assert result.rate > 1500, f"{result.rate:.0f} attempts a second instead of 2000"
