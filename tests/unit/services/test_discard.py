"""The discard service."""

from unpd.services.discard import Discard, DiscardOptions


def test_throws_everything_away() -> None:
    """It answers no bytes, and it says nothing unasked."""
    discard = Discard(DiscardOptions())
    conversation = discard.converse()
    assert conversation.received(b"hello") == b""
    assert conversation.more is None
    assert discard.greet(0.0) == b""


def test_answers_no_datagram() -> None:
    """Not even with an empty one."""
    answer = Discard(DiscardOptions()).answer(b"hello", None, 0.0)  # type: ignore[func-returns-value]
    assert answer is None
