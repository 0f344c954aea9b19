"""The one wait of the master, of a dispatcher and of the exporter: an epoll with a
callback for each descriptor; and the clock of every deadline.

Owns the epoll and the callbacks. Calls nothing of unpd. Raises OSError. A worker's
engine has a loop of its own, because there the dispatch is most of the work.
"""

import select
import time
from collections.abc import Callable

now = time.monotonic
"""The monotonic clock, in seconds; every deadline is a time of this clock."""


class Loop:
    """An event loop that blocks in epoll_wait(2) and nowhere else. ``woken_at``: when
    its last wait was over.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self.woken_at = now()

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        """Call ``callback(events)`` whenever ``fd`` has one of the events in ``mask``
        (EPOLLIN, EPOLLOUT). For a watched ``fd``, change the mask and the callback.
        """
        if fd in self._callbacks:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; call this before the descriptor is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, timeout_s: float | None) -> None:
        """Wait for events at most ``timeout_s`` seconds (None: without limit), then
        call their callbacks. A descriptor that an earlier callback forgot is skipped.
        """
        # epoll_wait(2) takes milliseconds, and CPython rounds up: a turn never ends
        # before a deadline.
        ready = self._epoll.poll(timeout_s)
        self.woken_at = now()
        for fd, events in ready:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)
