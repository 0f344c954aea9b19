"""The poller: the epoll of a worker, and the object behind each descriptor.

Owns the epoll and the table by descriptor. The engine waits on it; streams and the
intake add and remove their descriptors. Raises OSError where epoll_ctl(2) does.
"""

import itertools
import select
from collections.abc import Callable
from typing import Protocol

from unpd.worker.terms import Totals


class Target(Protocol):
    """The object behind a descriptor."""

    def ready(self, mask: int) -> None:
        """Serve the descriptor, which shows the events ``mask`` (epoll_ctl(2))."""


class Active(Protocol):
    """A session, as far as :func:`unpd.worker.event.plain.serve_plain` knows it."""

    active_at: float

    def fail(self, error: BaseException) -> None:
        """End because of a fault of ours."""


class Plain(Protocol):
    """A stream that is marked plain, as far as ``serve_plain`` knows it: it echoes, it
    makes small reads, and no output is pending.
    """

    received: int
    sent: int

    @property
    def session(self) -> Active:
        """The session to which the stream belongs."""

    @property
    def totals(self) -> Totals:
        """The bytes of its service."""

    def go_on(self, piece: bytes, sent: int) -> None:
        """Go on with a piece that was read: with ``sent`` -1 it is the end or a large
        message, else the socket took only ``sent`` bytes of its echo.
        """

    def failed(self, error: OSError, piece: bytes) -> None:
        """Go on after an error of the socket, in the read (``piece`` is empty) or in
        the write of ``piece``.
        """


class Watcher:
    """A target that calls a function: for a listener, the wake-up pipe, the channel."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call

    def ready(self, mask: int) -> None:
        """Call the function with the events."""
        self._call(mask)


class NoTarget:
    """The target of a descriptor that an earlier event of the same turn closed."""

    def ready(self, mask: int) -> None:
        """Do nothing: epoll_wait(2) had returned the event before the close."""


class Poller:
    """``targets``: the target behind each descriptor, with a :class:`NoTarget` in each
    gap. ``plain``: the same target if it is a stream that is marked plain, else None.

    The kernel gives out the lowest free number, so the lists have few gaps. One costs 8
    bytes for each connection where a dict costs 60, and half of a dict's time.
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.targets: list[Target] = []
        self.plain: list[Plain | None] = []
        self._no_target = NoTarget()

    def place(self, fd: int, target: Target) -> None:
        """Put ``target`` behind ``fd``, which ``epoll`` watches in this turn."""
        gap = fd + 1 - len(self.targets)
        if gap > 0:
            self.targets.extend(itertools.repeat(self._no_target, gap))
            self.plain.extend(itertools.repeat(None, gap))
        self.targets[fd] = target

    def watch(self, fd: int, target: Target, mask: int) -> None:
        """Call ``target.ready(events)`` when ``fd`` shows one of ``mask``. OSError."""
        self.epoll.register(fd, mask)
        self.place(fd, target)

    def unwatch(self, fd: int) -> None:
        """Watch ``fd`` no more, which stays open."""
        self.epoll.unregister(fd)
        self.forget(fd)

    def forget(self, fd: int) -> None:
        """Put no target behind ``fd``. Closing it takes it out of the epoll (epoll(7));
        a descriptor that stays open has to be unregistered.
        """
        self.targets[fd] = self._no_target
        self.plain[fd] = None

    def after(self, fd: int) -> list[Target]:
        """Return the targets of all descriptors above ``fd``, in ascending order."""
        return self.targets[fd + 1 :]
