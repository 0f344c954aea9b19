"""Time (RFC 868): the server sends the time as 32 bits, the seconds since 1900-01-01
00:00 UTC, most significant byte first, and closes; it answers each datagram with the
same four bytes.

Called by the table of services and the engine. Raises nothing.

Known gap, of the RFC: the number has 32 bits, so it begins again at 0 on 2036-02-07 at
06:28:16 UTC. The client must know in which of these 136 years it lives.
"""

import math

from unpd.services.base import Options, Peer, Piece

EPOCH_S = 2_208_988_800
"""The seconds from 1900 to 1970, as RFC 868 has it."""

ANSWER_BYTES = 4
WRAPS_S = 1 << 32

NOTE = "the 32 bits of RFC 868 begin again at 0 on 2036-02-07 06:28:16 UTC"
"""For the log, when such a service begins."""


class TimeOptions(Options):
    """No options: all keys of a time service are common keys."""


def answer_sizes(options: TimeOptions) -> tuple[int, ...]:
    """How many bytes the answer to a datagram has."""
    del options
    return (ANSWER_BYTES,)


class Time:
    """The time service."""

    def __init__(self, options: TimeOptions) -> None:
        del options

    def greet(self, wall_s: float) -> bytes:
        """The four bytes for ``wall_s`` seconds since the epoch, rounded down."""
        return ((math.floor(wall_s) + EPOCH_S) % WRAPS_S).to_bytes(ANSWER_BYTES, "big")

    def converse(self) -> None:
        """None: the server closes after the greeting and discards what the client
        sends.
        """

    def answer(self, piece: Piece, peer: Peer, now: float) -> bytes:
        """The four bytes for ``now``, whatever the client sent."""
        return self.greet(now)
