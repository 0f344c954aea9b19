"""The one wait of the master and of the exporter: an epoll whose descriptors each have
their callback; and the clock of every deadline.

A worker's engine has a loop of its own, for there the dispatch is the work.
"""

import select
import time
from collections.abc import Callable

now = time.monotonic
"""Seconds of the monotonic clock: every deadline is one of its values."""


class Loop:
    """Blocks in epoll_wait(2) and nowhere else."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int], None]] = {}

    def watch(self, fd: int, mask: int, call: Callable[[int], None]) -> None:
        """Call ``call(events)`` whenever ``fd`` shows one of ``mask`` (EPOLLIN,
        EPOLLOUT); again for an fd that is watched changes its mask.
        """
        if fd in self._calls:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._calls[fd] = call

    def forget(self, fd: int) -> None:
        """Watch ``fd`` no more; before it is closed."""
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout_s: float | None) -> None:
        """Wait until something happens or ``timeout_s`` is over (None: without end),
        then make the calls. A descriptor that an earlier call forgot is passed over.
        """
        # epoll_wait counts milliseconds and CPython rounds them up: a deadline is never
        # looked at early.
        for fd, events in self._epoll.poll(timeout_s):
            call = self._calls.get(fd)
            if call is not None:
                call(events)
