"""Hang-ups: which connections are dead although another process still holds them.

An epoll instance watches a connection until every descriptor of it is closed, in
whatever process (epoll(7), Q6). So a connection is registered and then closed here,
while the program that serves it goes on: the kernel reports EPOLLHUP as soon as neither
direction can carry a byte, because the peer has reset the connection, has vanished, or
has closed a UNIX socket. A half-close reports nothing. Each connection is reported
once.

Owns the epoll instance, which forked processes share. Called by a launcher, whose
successor goes on with the same instance. Calls nothing of unpd. Raises OSError.
"""

import ctypes
import os
import select

_CTL_ADD = 1
MOST = 256
"""How many hang-ups one call takes."""


class _Event(ctypes.Structure):
    """struct epoll_event, which is packed on x86-64 only (epoll_ctl(2))."""

    if os.uname().machine == "x86_64":
        # Python 3.14 wants this beside _pack_; of packed integers it changes nothing.
        _layout_ = "ms"
        _pack_ = 1
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


_libc = ctypes.PyDLL(None, use_errno=True)


class Hangups:
    """The connections of one lane. ``fd`` becomes readable when one of them has hung
    up.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()
        self._events = (_Event * MOST)()

    def watch(self, fd: int, number: int) -> None:
        """Watch the connection ``fd``, whose owner is ``number``. (The module select
        would name it by its descriptor, which is used again while this is watched.)
        """
        event = _Event(select.EPOLLONESHOT, number)  # HUP and ERR are always reported
        if _libc.epoll_ctl(self.fd, _CTL_ADD, fd, ctypes.byref(event)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def take(self) -> list[int]:
        """The owners of the connections that have hung up since the last time."""
        count = _libc.epoll_wait(self.fd, self._events, MOST, 0)
        return [int(event.data) for event in self._events[: max(0, count)]]

    def close(self) -> None:
        """Close our descriptor of the instance."""
        self._epoll.close()
