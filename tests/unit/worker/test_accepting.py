"""Accepting: what each failure of accept(2) costs, and how long a listener pauses. The
accepts are written down.
"""

import errno
import os
import socket
from collections.abc import Callable

import pytest

from tests.support.accepts import CLIENT, TERMS, Scripted
from unpd.worker.accepting import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    PATIENCE,
    Accepted,
    AcceptFailure,
    Listener,
    ListenerSetup,
)

# batches


def test_a_batch_ends_with_the_queue() -> None:
    """All that wait are accepted, up to the limit; an empty queue is no failure."""
    listener = Scripted(None, None, None)
    assert listener.accept(2, 0.0) == ([CLIENT] * 2, None)
    assert listener.accept(2, 0.0) == ([CLIENT], None)
    assert listener.accept(2, 0.0) == ([], None)


def test_another_worker_may_have_been_faster() -> None:
    """Of those that the queue held, what is still there is accepted, and what is gone
    is no failure.
    """
    assert Scripted(None, others=5).accept(16, 0.0) == ([CLIENT], None)


@pytest.mark.parametrize(
    "number",
    [
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
        errno.ENOPROTOOPT,
    ],
)
def test_an_error_of_one_connection_ends_the_batch_and_does_not_pause(number: int) -> None:
    """Those accepted before it are kept, the failure is told, and the listener does not
    pause.
    """
    listener = Scripted(None, number, None)
    assert listener.accept(16, 5.0) == ([CLIENT], AcceptFailure(number, paused=False))
    assert listener.resume_at is None
    assert listener.accept(16, 5.0) == ([CLIENT], None)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_lack_of_resources_pauses_the_listener_longer_each_time(number: int) -> None:
    """The pause begins at 50 ms and doubles up to a second; an accepted connection sets
    it back.
    """
    listener = Scripted(*[number] * 7, None, number)
    pauses = []
    for _ in range(7):
        assert listener.accept(16, 100.0) == ([], AcceptFailure(number, paused=True))
        assert listener.resume_at is not None
        pauses.append(listener.resume_at - 100.0)
    assert pauses == pytest.approx(
        [FIRST_PAUSE_S, 0.1, 0.2, 0.4, 0.8, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    )
    assert listener.accept(1, 100.0) == ([CLIENT], None)
    listener.accept(16, 100.0)
    assert listener.resume_at == pytest.approx(100.0 + FIRST_PAUSE_S)


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK])
def test_a_broken_listener_is_not_survived(number: int) -> None:
    """An error of the listener itself is the caller's to die of."""
    with pytest.raises(OSError, match="as written"):
        Scripted(number).accept(16, 0.0)


def test_what_was_accepted_before_the_listener_broke_is_not_lost() -> None:
    """Somebody ends it in the midst of a batch: those who are in are served, and it is
    told once that it is broken, by its next event.
    """
    listener = Scripted(None, errno.EINVAL, errno.EINVAL)
    assert listener.accept(16, 0.0) == ([CLIENT], None)
    assert listener.ended(0.0) == AcceptFailure(errno.EINVAL, paused=True)
    with pytest.raises(OSError, match="as written"):
        listener.accept(16, 0.0)


def test_an_error_that_lasts_pauses_the_listener_too() -> None:
    """Where every accept is refused, by a security module say, the connection stays in
    the queue and wakes us again; one that succeeds sets the count back.
    """
    refused = [errno.EACCES] * (PATIENCE - 1)
    listener = Scripted(*refused, None, *refused, errno.EACCES)
    for _ in refused:
        assert listener.accept(1, 0.0) == ([], AcceptFailure(errno.EACCES, paused=False))
    assert listener.accept(1, 0.0) == ([CLIENT], None)
    for _ in refused:
        assert listener.accept(1, 0.0) == ([], AcceptFailure(errno.EACCES, paused=False))
    assert listener.accept(1, 7.0) == ([], AcceptFailure(errno.EACCES, paused=True))
    assert listener.resume_at == pytest.approx(7.0 + FIRST_PAUSE_S)


# options of a connection


def unix_listener(accept_one: Callable[[], Accepted]) -> Listener:
    """A UNIX listener whose connections come from ``accept_one``. The test closes its
    socket, which is there for its family and its flags.
    """
    sock = socket.socket(socket.AF_UNIX)
    return Listener(ListenerSetup("unix:///nowhere", sock, 16, 0), TERMS, accept_one)


def test_a_refused_option_costs_only_the_connection() -> None:
    """A UNIX connection gets its option after the accept. If that fails, even with an
    errno that a broken listener has, the connection is closed and counted as failed,
    and the listener goes on.
    """
    no_socket, other_end = os.pipe()  # setsockopt(2) refuses it: ENOTSOCK
    listener = unix_listener(lambda: (no_socket, b""))
    try:
        failure = AcceptFailure(errno.ECONNABORTED, paused=False)
        assert listener.accept(1, 0.0) == ([], failure)
        assert listener.resume_at is None
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(no_socket)
    finally:
        os.close(other_end)
        listener.sock.close()
