"""The echo service."""

from unpd.services.echo import Echo, EchoOptions


def test_replies_with_the_same_bytes() -> None:
    """The reply to each piece is the piece itself, without a copy."""
    piece = memoryview(bytes(range(256)))
    assert Echo(EchoOptions()).converse().received(piece) is piece


def test_waits_for_the_client() -> None:
    """The greeting is empty: the client speaks first."""
    assert Echo(EchoOptions()).greet(0.0) == b""


def test_answers_a_datagram_with_the_same_bytes() -> None:
    """Also an empty one, with an empty one."""
    echo = Echo(EchoOptions())
    assert echo.answer(memoryview(b"hello"), ("127.0.0.1", 4711), 0.0) == b"hello"
    assert echo.answer(b"", None, 0.0) == b""
