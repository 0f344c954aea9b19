"""Why a silent peer is given up: what the kernel tells, taken for what it means."""

import pytest

from unpd.kernel.sockets import Silence
from unpd.names import EndCause
from unpd.worker.event.ending import why_silent


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        (Silence(10.0, 10.0, in_flight=True, queued=True, probes=0), EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=True, queued=False, probes=0), EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=False, queued=True, probes=2), EndCause.PEER_VANISHED),
        (Silence(70.0, 70.0, in_flight=False, queued=False, probes=1), EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=False, queued=True, probes=1), EndCause.STALLED),
        (Silence(10.0, 5.0, in_flight=False, queued=True, probes=2), EndCause.STALLED),
        (Silence(10.0, 99.0, in_flight=False, queued=True, probes=0), EndCause.STALLED),
    ],
)
def test_why(known: Silence, cause: EndCause) -> None:
    """Data or several probes without an answer for most of the user timeout, or one of
    keepalive: gone. Else it lives and does not read.
    """
    assert why_silent(known, user_timeout_s=10.0) is cause
