"""Counts the lines that its client sends, and says how many there are so far."""

from pydantic import Field

from unpd.services.base import Conversation, Options, Peer, Piece, ServiceType


class LineCountOptions(Options):
    """The keys that only this type of service has."""

    first: int = Field(0, ge=0, le=1_000_000, description="a whole number from 0 to 1000000")


class LineCount:
    """The service. All connections of a worker share it."""

    def __init__(self, options: LineCountOptions) -> None:
        self._first = options.first

    def greet(self, wall_s: float) -> bytes:
        """Nothing: the client speaks first."""
        return b""

    def converse(self) -> Conversation:
        """A conversation with a count of its own."""
        return Conversation(received=Counter(self._first).received)

    def answer(self, piece: Piece, peer: Peer, now: float) -> bytes | None:
        """Answer a datagram: the number of its lines."""
        return Counter(self._first).received(piece) or None


class Counter:
    """The lines of one client."""

    def __init__(self, first: int) -> None:
        self._count = first

    def received(self, piece: Piece) -> bytes:
        """Answer a piece that ends a line: the number of lines so far."""
        ended = bytes(piece).count(b"\n")
        self._count += ended
        return f"{self._count}\r\n".encode() if ended else b""


LINECOUNT = ServiceType(
    name="linecount",
    rfc=None,
    port=10077,
    stream=True,
    datagram=True,
    options=LineCountOptions,
    make=LineCount,
)
