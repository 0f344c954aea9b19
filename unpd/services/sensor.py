"""A sensor: a service that answers nothing, at a port where no honest client comes.

It closes each connection at once and answers no datagram. The master denies a source
that connects to it, on all services, for ``deny_time_s``; the worker that accepts the
connection reports it. A datagram is only counted, because its source can be forged.

Called by the table of services and the engine. Raises nothing.
"""

from unpd.libraries import Field
from unpd.services.base import Answering, Options, Peer, Piece

MAX_DENY_TIME_S = 7 * 24 * 3600


class SensorOptions(Options):
    """The keys that only sensors have."""

    deny_time_s: float = Field(
        3600.0,
        strict=True,
        allow_inf_nan=False,
        ge=1,
        le=MAX_DENY_TIME_S,
        description=f"a number of seconds from 1 to {MAX_DENY_TIME_S}",
    )


class Sensor(Answering):
    """The service that answers nothing. It has no state."""

    def __init__(self, options: SensorOptions) -> None:
        del options

    def greet(self, wall_s: float) -> bytes:
        """Nothing."""
        return b""

    def converse(self) -> None:
        """None: the server closes at once."""

    def answer(self, piece: Piece, peer: Peer, now: float) -> None:
        """None: a datagram gets no answer."""
