"""Chargen, the character generator (RFC 864): sends lines of printing characters for as
long as the client reads, and throws away what it receives.

The lines have 72 of the 95 printing characters of ASCII and CR LF. Each begins one
character later than the line before it, so that they repeat after 95 lines.

Called by the table of services and the engine. Raises nothing.
"""

from unpd.services.base import MAX_PIECE_BYTES, Conversation, Options, Peer, Piece, chance, nothing

PRINTING = bytes(range(0x20, 0x7F))
LINE_CHARACTERS = 72
PERIOD_BYTES = len(PRINTING) * (LINE_CHARACTERS + len(b"\r\n"))
"""How many bytes the lines have until they repeat."""

MAX_ANSWER_BYTES = 512
"""RFC 864: a datagram has a random number of characters, from 0 to 512."""

FACTOR = 3
HEADER_BYTES = 28
"""An answer has at most FACTOR times the bytes of the datagram that it answers, if both
have the headers of IPv4 and UDP: a sender that forges its address wins no more. This is
the default of ``amplification``; the headers of IPv6 would allow more.
"""


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

    def answer(self, piece: Piece, peer: Peer, now: float) -> bytes:
        """The beginning of the lines, of a random length from 1 to 512."""
        longest = FACTOR * (len(piece) + HEADER_BYTES) - HEADER_BYTES
        return self._lines[: 1 + chance(now, min(MAX_ANSWER_BYTES, longest))]


def lines() -> bytes:
    """The lines of one period."""
    ring = PRINTING * 2
    return b"".join(
        ring[first : first + LINE_CHARACTERS] + b"\r\n" for first in range(len(PRINTING))
    )
