"""The hot path's net: a fault while one stream is served ends that session alone."""

import os
import select
import socket
from types import SimpleNamespace
from typing import Any, cast

from unpd.worker.event.plain import serve_plain
from unpd.worker.event.shared import Shared


class FaultyStream:
    """A plain stream that raises as soon as the hot path hands it something."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.session = SimpleNamespace(active_at=0.0, fail=self.failures.append)
        self.totals = SimpleNamespace(received=0, sent=0)
        self.received = self.sent = 0

    def go_on(self, piece: bytes, sent: int) -> None:
        """Fail as a machine without memory does."""
        raise MemoryError

    def failed(self, error: OSError, piece: bytes) -> None:
        """Fail as a machine without memory does."""
        raise MemoryError


def test_a_fault_on_the_hot_path_ends_one_session() -> None:
    """The end of one stream and a broken descriptor raise; the stream behind them is
    served all the same.
    """
    ours, theirs = socket.socketpair()
    ended, gone = socket.socketpair()
    gone.close()
    closed = os.dup(ours.fileno())
    os.close(closed)
    streams = {fd: FaultyStream() for fd in (ended.fileno(), closed, ours.fileno())}
    plain = [cast(Any, streams.get(fd)) for fd in range(max(streams) + 1)]
    shared = cast(Shared, SimpleNamespace(poller=SimpleNamespace(plain=plain, targets=[]), now=7.0))
    with ours, theirs, ended:
        theirs.sendall(b"hello")
        serve_plain([(fd, select.EPOLLIN) for fd in streams], shared)
        assert theirs.recv(10) == b"hello"
    served = [stream for stream in streams.values() if not stream.failures]
    assert [(stream.received, stream.session.active_at) for stream in served] == [(5, 7.0)]
    assert sum(len(stream.failures) for stream in streams.values()) == 2
