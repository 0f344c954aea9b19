"""The hot path alone: which messages it echoes, what it hands on to the stream, and
that a fault while one stream is served ends that session alone.
"""

import os
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.worker.event.plain import serve_plain
from unpd.worker.event.shared import SMALL_READ_BYTES, Shared

NOW = 7.0
IN = select.EPOLLIN


@dataclass(slots=True)
class FakeStream:
    """A plain stream that writes down what the hot path hands it. ``fault`` is raised
    then.
    """

    fault: Exception | None = None
    received: int = 100
    sent: int = 200
    totals: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(received=1000, sent=2000)
    )
    handed: list[Any] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    session: SimpleNamespace = field(init=False)

    def __post_init__(self) -> None:
        """Make the session."""
        self.session = SimpleNamespace(active_at=0.0, fail=self.failures.append)

    def go_on(self, piece: bytes, sent: int) -> None:
        """Note it."""
        self.handed.append((piece, sent))
        if self.fault is not None:
            raise self.fault

    def failed(self, error: OSError, piece: bytes) -> None:
        """Note it."""
        self.handed.append((type(error), piece))
        if self.fault is not None:
            raise self.fault

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Bytes received and sent: of the stream, then of its service."""
        return (self.received, self.sent, self.totals.received, self.totals.sent)

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was counted."""
        return self.counts == (100, 200, 1000, 2000) and self.session.active_at == 0.0


def surroundings(streams: dict[int, FakeStream]) -> Shared:
    """Surroundings in which these streams are plain, by descriptor."""
    plain = [streams.get(fd) for fd in range(max(streams) + 1)]
    poller = SimpleNamespace(plain=plain, targets=[])
    return cast(Shared, SimpleNamespace(poller=poller, now=NOW))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our socket, which does not block, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10.0)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [1, 5, SMALL_READ_BYTES - 1])
def test_a_small_message_goes_back(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    """It is counted both ways, and is activity; the stream need not know."""
    ours, theirs = pair
    stream, message = FakeStream(), os.urandom(size)
    theirs.sendall(message)
    serve_plain([(ours.fileno(), IN)], surroundings({ours.fileno(): stream}))
    assert theirs.recv(2 * SMALL_READ_BYTES) == message
    assert stream.counts == (100 + size, 200 + size, 1000 + size, 2000 + size)
    assert (stream.session.active_at, stream.handed) == (NOW, [])


def test_a_message_that_fills_the_read_is_handed_on(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """There may be more of it."""
    ours, theirs = pair
    stream, message = FakeStream(), os.urandom(SMALL_READ_BYTES + 1)
    theirs.sendall(message)
    serve_plain([(ours.fileno(), IN)], surroundings({ours.fileno(): stream}))
    assert stream.handed == [(message[:SMALL_READ_BYTES], -1)]
    assert stream.is_untouched
    assert ours.recv(10) == message[SMALL_READ_BYTES:]


def test_the_end_is_handed_on(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is no message."""
    ours, theirs = pair
    stream = FakeStream()
    theirs.shutdown(socket.SHUT_WR)
    serve_plain([(ours.fileno(), IN)], surroundings({ours.fileno(): stream}))
    assert (stream.handed, stream.is_untouched) == ([(b"", -1)], True)


def test_an_error_of_the_read_is_handed_on(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also that nothing was there. The stream behind it is served."""
    ours, theirs = pair
    idle, idle_client = socket.socketpair()
    idle.setblocking(False)
    stream, served = FakeStream(), FakeStream()
    theirs.sendall(b"x")
    with idle, idle_client:
        events = [(idle.fileno(), IN), (ours.fileno(), IN)]
        serve_plain(events, surroundings({idle.fileno(): stream, ours.fileno(): served}))
    assert (stream.handed, stream.is_untouched) == ([(BlockingIOError, b"")], True)
    assert theirs.recv(10) == b"x"


def test_an_error_of_the_write_is_handed_on_with_its_piece(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The piece must not be lost."""
    ours, theirs = pair
    stream = FakeStream()
    theirs.sendall(b"hello")
    theirs.close()
    serve_plain([(ours.fileno(), IN)], surroundings({ours.fileno(): stream}))
    assert (stream.handed, stream.is_untouched) == ([(BrokenPipeError, b"hello")], True)


def test_what_is_not_plain_is_served_by_its_target(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """It gets its events. It may be an order that takes time: then it is later for the
    streams behind it.
    """
    ours, theirs = pair
    stream, masks = FakeStream(), list[int]()
    shared = surroundings({ours.fileno(): stream})

    def drain(mask: int) -> None:
        masks.append(mask)
        shared.now = NOW + 1.0

    order_fd = 0
    cast(Any, shared.poller).targets = [SimpleNamespace(ready=drain)]
    theirs.sendall(b"x")
    serve_plain([(order_fd, IN | select.EPOLLHUP), (ours.fileno(), IN)], shared)
    assert masks == [IN | select.EPOLLHUP]
    assert (theirs.recv(10), stream.session.active_at) == (b"x", NOW + 1.0)


def test_a_fault_on_the_hot_path_ends_one_session(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The end of one stream and a broken descriptor raise; the stream behind them is
    served all the same.
    """
    ours, theirs = pair
    ended, gone = socket.socketpair()
    gone.close()
    closed = os.dup(ours.fileno())
    os.close(closed)
    faults = {ended.fileno(): MemoryError(), closed: MemoryError()}
    streams = {fd: FakeStream(fault=fault) for fd, fault in faults.items()}
    streams[ours.fileno()] = FakeStream()
    theirs.sendall(b"hello")
    with ended:
        serve_plain([(fd, IN) for fd in streams], surroundings(streams))
    assert theirs.recv(10) == b"hello"
    assert [streams[fd].failures for fd in faults] == [[fault] for fault in faults.values()]
    assert streams[ours.fileno()].failures == []
