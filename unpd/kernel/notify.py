"""Sends to the notification socket of the service manager (sd_notify(3)): assignments
such as READY=1, and descriptors for its store.

A service manager that reads nothing must not hold up or end the daemon. A message that
will be repeated (WATCHDOG=1) is dropped if it cannot be sent at once. A message that is
sent only once (a descriptor, a change of phase) waits up to :data:`SEND_TIMEOUT_S` for
room: the queue of a datagram socket is short (net.unix.max_dgram_qlen), and a start
stores a descriptor for each listener.

Owns our socket and the environment variables NOTIFY_SOCKET, WATCHDOG_USEC and
WATCHDOG_PID. Called by unpd.master.systemd. Calls nothing of unpd. Sending returns
False when it fails; only :meth:`NotifySocket.barrier` and making the socket raise
OSError.
"""

import array
import os
import select
import socket
import struct
import time
from collections.abc import MutableMapping
from typing import Self

MAX_USEC_DIGITS = 20
"""The length of the largest 64-bit number, which is what systemd can mean."""
SEND_TIMEOUT_S = 1.0
"""How long a message that is sent only once may wait for room, in seconds."""


class NotifySocket:
    """Our end of the service manager's socket.

    It is open for the process's whole life, so that WATCHDOG=1 can be sent when no
    descriptor is free.
    """

    def __init__(self, address: str) -> None:
        """``address`` as in NOTIFY_SOCKET: a path, or an abstract name after "@"."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sock.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_SNDTIMEO,
            struct.pack("@ll", int(SEND_TIMEOUT_S), int(SEND_TIMEOUT_S % 1 * 1_000_000)),
        )
        self._last_failed = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Open the socket that NOTIFY_SOCKET names; None if it names none.

        Removes the variable, so that no child inherits it.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        return cls(address) if address[:1] in ("/", "@") and len(address) > 1 else None

    def close(self) -> None:
        """Close our socket; nothing can be sent afterwards."""
        self._sock.close()

    def send(self, *assignments: str, wait: bool = False) -> bool:
        """Send ``assignments`` (NAME=value) in one message. A line feed in one would
        begin another assignment, so control characters become "?".

        Return whether the socket took it. ``wait``: up to :data:`SEND_TIMEOUT_S` for
        room. Never raises.
        """
        return self._send_message(assignments, (), wait=wait)

    def store(self, name: str, fd: int) -> bool:
        """Put a duplicate of ``fd`` into the descriptor store as ``name`` (at most 255
        printable ASCII characters, no colon).

        Return whether the socket took the message. systemd keeps only one duplicate of
        the same file under one name.
        """
        return self._send_message(("FDSTORE=1", f"FDNAME={name}"), (fd,), wait=True)

    def remove(self, name: str) -> bool:
        """Ask the service manager to close every stored descriptor called ``name``.

        Return whether the socket took the message. The service manager closes them when
        it reads the message: see :meth:`barrier`.
        """
        return self._send_message(("FDSTOREREMOVE=1", f"FDNAME={name}"), (), wait=True)

    def barrier(self, timeout_s: float) -> bool:
        """Wait until the service manager has handled every earlier message, at most
        ``timeout_s`` seconds (sd_notify_barrier(3)).

        Return whether it has. OSError if no descriptor is free.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            sent = self._send_message(("BARRIER=1",), (writer,), wait=True)
            os.close(writer)
            writer = -1
            poll = select.poll()
            poll.register(reader, 0)  # poll(2) always reports POLLHUP, the close of the writer
            return sent and bool(poll.poll(timeout_s * 1000))
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)

    def _send_message(
        self, assignments: tuple[str, ...], fds: tuple[int, ...], *, wait: bool
    ) -> bool:
        """Send one message. Wait only if the message before it was taken: a service
        manager that reads nothing costs one timeout, not one for each listener.
        """
        message = "\n".join(map(_one_line, assignments)).encode("utf-8", "replace")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        flags = socket.MSG_NOSIGNAL | (0 if wait and not self._last_failed else socket.MSG_DONTWAIT)
        try:
            self._sock.sendmsg([message], ancillary, flags, self._address)
        except OSError:
            self._last_failed = True
            return False
        self._last_failed = False
        return True


def _one_line(assignment: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in assignment)


def watchdog_s(environ: MutableMapping[str, str]) -> float:
    """How often the service manager expects WATCHDOG=1, in seconds; 0.0 for never
    (sd_watchdog_enabled(3)).

    Removes the variables.
    """
    usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal()) or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1_000_000 if len(usec) <= MAX_USEC_DIGITS else 0.0


def monotonic_usec() -> int:
    """CLOCK_MONOTONIC in microseconds, the unit of MONOTONIC_USEC (sd_notify(3))."""
    return time.monotonic_ns() // 1000
