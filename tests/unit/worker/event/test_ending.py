"""Why a silent peer is given up, and why a socket failed: what the kernel tells, taken
for what it means.
"""

import errno
import math
import os
import socket

import pytest

from unpd.kernel.tcp_info import Silence
from unpd.names import EndCause
from unpd.worker.event.ending import cause_of, silence_of, why_silent


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        (Silence(10.0, 10.0, in_flight=True, queued=True, probes=0), EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=True, queued=False, probes=0), EndCause.PEER_VANISHED),
        (Silence(10.0, 10.0, in_flight=False, queued=True, probes=2), EndCause.PEER_VANISHED),
        (Silence(70.0, 70.0, in_flight=False, queued=False, probes=1), EndCause.KEEPALIVE),
        (Silence(10.0, 7.5, in_flight=True, queued=True, probes=0), EndCause.PEER_VANISHED),
        (Silence(10.0, 7.4, in_flight=True, queued=True, probes=0), EndCause.STALLED),
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


def never() -> Silence:
    """The kernel is asked only where the error does not tell."""
    raise AssertionError


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ECONNRESET, EndCause.CLIENT_RST),
        (errno.EPIPE, EndCause.CLIENT_RST),
        (errno.ENOTCONN, EndCause.CLIENT_RST),
        (errno.ESHUTDOWN, EndCause.CLIENT_RST),
        (errno.EHOSTUNREACH, EndCause.UNREACHABLE),
        (errno.ENETUNREACH, EndCause.UNREACHABLE),
        (errno.EHOSTDOWN, EndCause.UNREACHABLE),
        (errno.ENETDOWN, EndCause.UNREACHABLE),
        (errno.ECONNREFUSED, EndCause.UNREACHABLE),
        (errno.EACCES, EndCause.UNREACHABLE),
        (errno.ENONET, EndCause.UNREACHABLE),
        (errno.ENOPROTOOPT, EndCause.UNREACHABLE),
        (errno.EOPNOTSUPP, EndCause.UNREACHABLE),
        (errno.EPROTO, EndCause.UNREACHABLE),
        (errno.ENOBUFS, EndCause.ERROR),
        (errno.EIO, EndCause.ERROR),
    ],
)
def test_an_error_tells_the_cause(number: int, cause: EndCause) -> None:
    """A reset, a peer that cannot be reached, or anything else."""
    assert cause_of(OSError(number, "as the test says"), never, 10.0) is cause


@pytest.mark.parametrize(
    ("acknowledged_s", "cause"), [(10.0, EndCause.PEER_VANISHED), (5.0, EndCause.STALLED)]
)
def test_a_timeout_of_the_kernel_leaves_two_causes(acknowledged_s: float, cause: EndCause) -> None:
    """TCP_USER_TIMEOUT ends both a peer that is gone and one that does not read."""
    known = Silence(10.0, acknowledged_s, in_flight=True, queued=True, probes=0)
    error = OSError(errno.ETIMEDOUT, "as the test says")
    assert cause_of(error, lambda: known, 10.0) is cause


def test_a_unix_peer_is_always_there() -> None:
    """And the kernel does not tell what it reads."""
    with socket.socket(socket.AF_UNIX) as sock:
        known = silence_of(sock.fileno())
    assert known == Silence(math.inf, 0.0, in_flight=False, queued=False, probes=0)
    assert why_silent(known, 10.0) is EndCause.STALLED


def test_a_peer_about_which_the_kernel_tells_nothing_is_gone() -> None:
    """A pipe stands for a socket that cannot be asked any more."""
    read_fd, write_fd = os.pipe()
    try:
        known = silence_of(read_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert known == Silence(math.inf, math.inf, in_flight=True, queued=False, probes=0)
    assert why_silent(known, 10.0) is EndCause.PEER_VANISHED
