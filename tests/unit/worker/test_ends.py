"""Why a silent peer is given up: what the kernel tells, taken for what it means."""

import pytest

from unpd.kernel.sockets import Silence
from unpd.names import EndCause
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.connection import Connection, Terms
from unpd.worker.ends import why_silent

TERMS = Terms("echo", Echo(EchoOptions()), 0, idle_timeout_s=600.0, session_timeout_s=0.0, user_timeout_s=10.0)


@pytest.mark.parametrize(
    ("known", "pending", "cause"),
    [
        (Silence(10.0, 10.0, in_flight=True, probes=0), True, EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=True, probes=0), False, EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=False, probes=2), True, EndCause.PEER_VANISHED),
        (Silence(70.0, 70.0, in_flight=False, probes=1), False, EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=False, probes=1), True, EndCause.STALLED),
        (Silence(10.0, 5.0, in_flight=False, probes=2), True, EndCause.STALLED),
        (Silence(10.0, 99.0, in_flight=False, probes=0), True, EndCause.STALLED),
    ],
)
def test_why(known: Silence, pending: bool, cause: EndCause) -> None:
    """Data or several probes without an answer for most of the user timeout, or one of keepalive: gone. Else it lives and does not read."""
    connection = Connection(3, TERMS, 0.0, None)
    connection.out = bytearray(b"x") if pending else None
    assert why_silent(known, connection) is cause
