"""The notification socket of the service manager (sd_notify(3)): what a unit's main
process says, and the descriptors that it leaves in keeping.

Whoever listens there must not be able to hold up or end the daemon: what can be said
again is lost if it cannot be sent at once. What is said only once (a descriptor, a
change of phase) waits a moment for room: the queue of a datagram socket is short
(net.unix.max_dgram_qlen), and a start leaves a descriptor for each listener.
"""

import array
import os
import select
import socket
import struct
import time
from collections.abc import MutableMapping
from typing import Self

PATIENCE_S = 1.0
"""How long what is said only once may wait, in seconds."""


class NotifySocket:
    """Our end of the service manager's socket: one for the process's life, so that a
    sign of life needs no descriptor that may not be had.
    """

    def __init__(self, address: str) -> None:
        """``address`` as NOTIFY_SOCKET has it: a path, or an abstract name
        behind "@".
        """
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sock.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_SNDTIMEO,
            struct.pack("@ll", int(PATIENCE_S), int(PATIENCE_S % 1 * 1_000_000)),
        )
        self._clogged = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self | None:
        """The socket that NOTIFY_SOCKET names, None without one. Takes the variable
        out: it is not for children.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        return cls(address) if address[:1] in ("/", "@") and len(address) > 1 else None

    def close(self) -> None:
        """Say no more."""
        self._sock.close()

    def say(self, *assignments: str, once: bool = False) -> bool:
        """Send ``assignments`` (NAME=value, without line feeds) in one message; whether
        it was taken. ``once``: worth waiting for. Never raises.
        """
        return self._send(assignments, (), once)

    def store(self, name: str, fd: int) -> bool:
        """Leave a duplicate of ``fd`` as ``name`` (at most 255 printable ASCII
        characters, no colon); whether the message was taken. One that is there already
        stays once.
        """
        return self._send(("FDSTORE=1", f"FDNAME={name}"), (fd,), once=True)

    def remove(self, name: str) -> bool:
        """Have every stored descriptor called ``name`` closed; whether the message was
        taken. It is closed when the message is read: see :meth:`barrier`.
        """
        return self._send(("FDSTOREREMOVE=1", f"FDNAME={name}"), (), once=True)

    def barrier(self, timeout_s: float) -> bool:
        """Wait until everything said before has been acted on, at most ``timeout_s``
        seconds (sd_notify_barrier(3)); whether it has. OSError without a descriptor to
        spare.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            sent = self._send(("BARRIER=1",), (writer,), once=True)
            os.close(writer)
            writer = -1
            poll = select.poll()
            poll.register(reader, 0)  # that the other end is closed is always told
            return sent and bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)

    def _send(self, assignments: tuple[str, ...], fds: tuple[int, ...], once: bool) -> bool:
        """Wait only if the message before was taken: a manager that reads nothing costs
        one patience, not one for each listener.
        """
        said = "\n".join(assignments).encode("utf-8", "replace")
        carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        flags = socket.MSG_NOSIGNAL | (0 if once and not self._clogged else socket.MSG_DONTWAIT)
        try:
            self._sock.sendmsg([said], carried, flags, self._address)
        except OSError:
            self._clogged = True
            return False
        self._clogged = False
        return True


def watchdog_s(environ: MutableMapping[str, str]) -> float:
    """How often the service manager wants to hear WATCHDOG=1, in seconds; 0.0 if never
    (sd_watchdog_enabled(3)). Takes the variables out.
    """
    usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal()) or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1_000_000


def monotonic_usec() -> int:
    """CLOCK_MONOTONIC in microseconds, as MONOTONIC_USEC wants it."""
    return time.monotonic_ns() // 1000
