"""The tcpmux service: the lines of RFC 1078."""

import pytest

from unpd.services.base import HandOver, Piece
from unpd.services.daytime import Daytime, DaytimeOptions
from unpd.services.echo import Echo, EchoOptions
from unpd.services.tcpmux import MAX_NAME_BYTES, Tcpmux, TcpmuxOptions

ECHO, DAYTIME = Echo(EchoOptions()), Daytime(DaytimeOptions())


def answers(*pieces: Piece) -> list[Piece | HandOver]:
    """What one client gets that sends ``pieces``."""
    mux = Tcpmux(TcpmuxOptions(services=("echo", "daytime")))
    mux.offer({"daytime": DAYTIME, "echo": ECHO, "secret": ECHO})
    received = mux.converse().received
    return [received(piece) for piece in pieces]


def test_hands_a_name_that_it_offers_over() -> None:
    """With "+" before the service begins, which gets what the client sent behind the
    line.
    """
    assert answers(b"echo\r\n") == [HandOver(b"+Go\r\n", ECHO, b"", "echo")]
    assert answers(memoryview(b"echo\r\nhello\r\n")) == [
        HandOver(b"+Go\r\n", ECHO, b"hello\r\n", "echo")
    ]


@pytest.mark.parametrize("line", [b"ECHO\r\n", b"Echo\n", b" echo \r\n"])
def test_takes_a_name_as_people_write_it(line: bytes) -> None:
    """It is never case sensitive; the end of the line may be LF alone."""
    assert answers(line) == [HandOver(b"+Go\r\n", ECHO, b"", "echo")]


def test_waits_for_the_whole_line() -> None:
    """However many segments bring it."""
    chosen = HandOver(b"+Go\r\n", DAYTIME, b"", "daytime")
    assert answers(b"day", b"", b"time\r", b"\n") == [b"", b"", b"", chosen]


@pytest.mark.parametrize("line", [b"finger\r\n", b"secret\r\n", b"\r\n", b"\xff\n", b"echo x\n"])
def test_refuses_another_name_and_closes(line: bytes) -> None:
    """Also that of a service of the pool which its options do not name."""
    assert answers(line) == [HandOver(b"-There is no such service\r\n")]


def test_help_lists_the_names_and_closes() -> None:
    """One a line, in the order of the options."""
    assert answers(b"HELP\r\n") == [HandOver(b"echo\r\ndaytime\r\n")]


def test_a_line_is_bounded() -> None:
    """A client cannot fill the memory with a name."""
    long = b"x" * MAX_NAME_BYTES
    assert answers(long, b"x") == [b"", HandOver(b"-The name is too long\r\n")]
    assert answers(long + b"x\r\n") == [HandOver(b"-The name is too long\r\n")]


def test_the_client_speaks_first() -> None:
    """There is no greeting."""
    assert Tcpmux(TcpmuxOptions()).greet(0.0) == b""
