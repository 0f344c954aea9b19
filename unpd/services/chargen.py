"""Chargen, the character generator (RFC 864): sends lines of printing characters for as
long as the client reads, and throws away what it receives.

The lines have 72 of the 95 printing characters of ASCII and CR LF. Each begins one
character later than the line before it, so that they repeat after 95 lines.

Called by the table of services and the engine. Raises nothing.
"""

from functools import partial

from unpd.services.base import (
    MAX_PIECE_BYTES,
    Conversation,
    Fitted,
    Options,
    Peer,
    Piece,
    chance,
    nothing,
)

PRINTING = bytes(range(0x20, 0x7F))
LINE_CHARACTERS = 72
PERIOD_BYTES = len(PRINTING) * (LINE_CHARACTERS + len(b"\r\n"))
"""How many bytes the lines have until they repeat."""

MAX_ANSWER_BYTES = 512
"""RFC 864: a datagram has a random number of characters, from 0 to 512."""


class ChargenOptions(Options):
    """No options: all keys of a chargen service are common keys."""


class Chargen:
    """The chargen service. A piece is a whole number of periods, so that every piece of
    every connection is the same, and no connection has a state.
    """

    def __init__(self, options: ChargenOptions) -> None:
        del options
        piece = memoryview(lines() * (MAX_PIECE_BYTES // PERIOD_BYTES))
        self._lines = bytes(piece[:MAX_ANSWER_BYTES])
        self._conversation = Conversation(received=nothing, more=lambda: piece)

    def greet(self, wall_s: float) -> bytes:
        """Nothing: the lines come when the socket has room for them."""
        return b""

    def converse(self) -> Conversation:
        """The conversation that goes on with the lines for ever."""
        return self._conversation

    def answer(self, piece: Piece, peer: Peer, now: float) -> Fitted:
        """The beginning of the lines, of a random length from 1 to 512, or to as many
        bytes as are allowed; nothing if none is.
        """
        return partial(self._beginning, now)

    def _beginning(self, now: float, room: int) -> bytes:
        longest = min(MAX_ANSWER_BYTES, room)
        return self._lines[: 1 + chance(now, longest)] if longest else b""


def lines() -> bytes:
    """The lines of one period."""
    ring = PRINTING * 2
    return b"".join(
        ring[first : first + LINE_CHARACTERS] + b"\r\n" for first in range(len(PRINTING))
    )
