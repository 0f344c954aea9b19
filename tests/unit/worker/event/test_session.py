"""When and why a session ends if nothing happens until then."""

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.support.surroundings import surroundings
from unpd.config.times import ServiceTimes
from unpd.names import EndCause
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.event.session import QUIET_S, Session
from unpd.worker.event.stage import Stage
from unpd.worker.terms import Terms

OPENED = 1000.0
NEVER = math.inf
TIMES = ServiceTimes(idle_timeout_s=600.0, session_timeout_s=0.0, user_timeout_s=60.0)
NO_FD = -1
"""A descriptor that is never used."""


def opened(*, active_at: float = OPENED, out: bytes = b"", **times: Any) -> Session:
    """A session that was opened at 1000 and last active at ``active_at``, when its
    socket took some output, with this much output pending; ``times`` replaces some of
    TIMES.
    """
    terms = Terms(name="echo", service=Echo(EchoOptions()), times=replace(TIMES, **times), words=0)
    session = Session(surroundings(terms, OPENED).shared, terms, NO_FD, b"")
    session.active_at = session.taken_at = active_at
    session.stream.out = bytearray(out) if out else None
    return session


def test_a_silent_session_is_idle() -> None:
    """The idle timeout runs from the last activity on."""
    assert opened(active_at=1200.0).due_at(NEVER) == (1800.0, EndCause.IDLE)


def test_a_session_has_a_limit_if_one_is_set() -> None:
    """The limit runs from the beginning on, however active the session is; the sooner
    of the two limits counts.
    """
    assert opened(session_timeout_s=300.0, active_at=1290.0).due_at(NEVER) == (
        1300.0,
        EndCause.SESSION_LIMIT,
    )
    assert opened(session_timeout_s=900.0, active_at=1000.0).due_at(NEVER) == (
        1600.0,
        EndCause.IDLE,
    )


def test_a_peer_that_does_not_read_is_stalled() -> None:
    """The user timeout runs only while output is pending."""
    assert opened(active_at=1200.0, out=b"x").due_at(NEVER) == (1260.0, EndCause.STALLED)
    assert opened(active_at=1200.0).due_at(NEVER)[1] is EndCause.IDLE


def test_a_peer_that_sends_and_does_not_read_is_stalled() -> None:
    """Its bytes are activity, but the user timeout runs from the last output on that
    the socket took.
    """
    session = opened(active_at=1200.0, out=b"x")
    session.active_at = 1250.0
    assert session.due_at(NEVER) == (1260.0, EndCause.STALLED)


def test_stalled_comes_before_idle() -> None:
    """If both are due at once, the cause is stalled."""
    assert opened(idle_timeout_s=60.0, out=b"x").due_at(NEVER) == (
        1060.0,
        EndCause.STALLED,
    )


def test_idle_comes_before_stalled_if_it_is_shorter() -> None:
    """The sooner deadline gives the cause."""
    assert opened(idle_timeout_s=30.0, out=b"x").due_at(NEVER) == (
        1030.0,
        EndCause.IDLE,
    )


def test_nought_is_no_limit() -> None:
    """A timeout of 0 is never due, whichever it is."""
    assert opened(idle_timeout_s=0.0, user_timeout_s=0.0, out=b"x").due_at(NEVER)[0] == NEVER


def test_a_stop_ends_a_quiet_session_after_a_moment() -> None:
    """A stop waits for a quarter of a second of silence, and no longer than its end."""
    assert opened(active_at=1200.0).due_at(1300.0) == (1200.0 + QUIET_S, EndCause.SHUTDOWN)
    assert opened(active_at=1299.9).due_at(1300.0) == (1300.0, EndCause.SHUTDOWN)


def test_a_stop_waits_for_pending_output() -> None:
    """A stop waits for pending output to its end, or to the peer's own deadline."""
    assert opened(active_at=1200.0, out=b"x").due_at(1250.0) == (1250.0, EndCause.SHUTDOWN)
    assert opened(active_at=1200.0, out=b"x").due_at(1300.0) == (1260.0, EndCause.STALLED)


def test_a_stop_without_patience_ends_it_now() -> None:
    """A worker that was retired before has no patience: its sessions are due now."""
    assert opened(active_at=1200.0, out=b"x").due_at(1200.0) == (1200.0, EndCause.SHUTDOWN)


@pytest.mark.parametrize("stage", [Stage.PARTING, Stage.LINGERING])
def test_a_session_that_we_end_only_lingers(stage: Stage) -> None:
    """Once we end a session only the linger counts; the cause is why we ended it."""
    session = opened(session_timeout_s=1.0)
    session.stage, session.linger_at, session.cause = stage, 1234.0, EndCause.SESSION_LIMIT
    assert session.due_at(1100.0) == (1234.0, EndCause.SESSION_LIMIT)


def test_a_session_that_ends_without_a_cause_is_done() -> None:
    """Without another cause, a session that lingers ends by done."""
    session = opened()
    session.stage, session.linger_at = Stage.LINGERING, 1002.0
    assert session.due_at(NEVER) == (1002.0, EndCause.DONE)


def test_a_half_closed_session_keeps_its_deadlines() -> None:
    """A peer that has sent its FIN must still read what is pending."""
    session = opened(active_at=1200.0, out=b"x")
    session.stage = Stage.HALF_CLOSED
    assert session.due_at(NEVER) == (1260.0, EndCause.STALLED)


def test_a_new_session_has_done_nothing_yet() -> None:
    """It serves, owes nothing, waits for nothing and stands in no wheel."""
    new = opened()
    assert (new.stage, new.opened_at, new.active_at, new.linger_at) == (
        Stage.SERVING,
        OPENED,
        OPENED,
        NEVER,
    )
    assert (new.reply, new.cause, new.wheel_slot) == (None, None, None)
    stream = new.stream
    assert (stream.fd, stream.out, stream.received, stream.sent) == (NO_FD, None, 0, 0)


def test_a_session_is_small() -> None:
    """There may be ten thousand: neither it nor its stream has a dictionary."""
    session = opened()
    assert not hasattr(session, "__dict__")
    assert not hasattr(session.stream, "__dict__")


@pytest.mark.parametrize("limit_s", [300.0, 600.0])
def test_a_session_limit_that_is_due_with_another_deadline_gives_way(limit_s: float) -> None:
    """At the same moment the client's silence is the cause, also at the end of a
    stop.
    """
    session = opened(idle_timeout_s=limit_s, session_timeout_s=limit_s)
    assert session.due_at(NEVER) == (OPENED + limit_s, EndCause.IDLE)
    pending = opened(idle_timeout_s=limit_s, user_timeout_s=limit_s, out=b"x")
    assert pending.due_at(OPENED + limit_s) == (OPENED + limit_s, EndCause.STALLED)
