"""What the user asked to measure, and whether it makes sense.

Called by the way to the clients and by ``command``; ``measuring`` does it. It is apart
from that, so that a client that measures nothing imports nothing of it. Pure. Errors:
UsageError with one sentence.
"""

from dataclasses import dataclass

from unpd.cli.client.targets import MAX_UDP_BYTES, Target, UsageError

DEFAULT_SIZE = 56
"""The size of ping(8)."""
DEFAULT_INTERVAL_S = 1.0

BULK_PIECE_BYTES = 65_536
BULK_DATAGRAM_BYTES = 1_400
"""A datagram that needs no fragments on an Ethernet."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asked to measure; None stands for an option that was not given."""

    count: int | None
    interval_s: float | None
    size: int | None
    bulk_s: float | None
    as_json: bool


def refuse_contradictions(asked: Asked, target: Target, *, raw: bool) -> None:
    """Raise UsageError if the options contradict each other or the target."""
    if raw:
        raise UsageError("--raw sends standard input, and a measurement sends bytes of its own")
    if asked.bulk_s is not None and (asked.count is not None or asked.interval_s is not None):
        raise UsageError("--bulk sends without a pause: leave --count and --interval out")
    size = size_of(asked, target)
    if target.datagrams and target.port is not None and size > MAX_UDP_BYTES:
        raise UsageError(
            f"--size {size} does not fit a datagram of UDP: give at most {MAX_UDP_BYTES}"
        )


def size_of(asked: Asked, target: Target) -> int:
    """Return the size of a request, or the default."""
    if asked.size is not None:
        return asked.size
    if asked.bulk_s is None:
        return DEFAULT_SIZE
    return BULK_DATAGRAM_BYTES if target.datagrams else BULK_PIECE_BYTES
