"""The notification socket of the service manager (sd_notify(3)): what a unit's main process says, and the descriptors that it leaves in keeping.

Whoever listens there must not be able to hold up or end the daemon: what can be said again is lost if it cannot be sent at once. What is said only once (a descriptor, a
change of phase) waits a moment for room: the queue of a datagram socket is short (net.unix.max_dgram_qlen), and a start leaves a descriptor for each listener.
"""

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Self

PATIENCE_S = 1.0
"""How long what is said only once may wait, in seconds."""


class NotifySocket:
    """The address of the service manager's socket. Each message has a socket of its own: nothing to hold, to inherit or to connect again."""

    def __init__(self, address: str) -> None:
        """``address`` as NOTIFY_SOCKET has it: a path, or an abstract name behind "@"."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self | None:
        """The socket that NOTIFY_SOCKET names, None without one. Takes the variable out: it is not for children."""
        address = environ.pop("NOTIFY_SOCKET", "")
        return cls(address) if address[:1] in ("/", "@") and len(address) > 1 else None

    def say(self, *assignments: str, once: bool = False) -> bool:
        """Send ``assignments`` (NAME=value, without line feeds) in one message; whether it was taken. ``once``: wait up to :data:`PATIENCE_S` for room. Never raises."""
        return self._send(assignments, (), PATIENCE_S if once else 0.0)

    def store(self, name: str, fd: int) -> bool:
        """Leave a duplicate of ``fd`` as ``name`` (of a-z, 0-9, "." and "-"); whether the message was taken. Waits up to :data:`PATIENCE_S`. One that is there already stays once."""
        return self._send(("FDSTORE=1", f"FDNAME={name}"), (fd,), PATIENCE_S)

    def remove(self, name: str) -> None:
        """Have every stored descriptor called ``name`` closed."""
        self._send(("FDSTOREREMOVE=1", f"FDNAME={name}"), (), PATIENCE_S)

    def _send(self, assignments: tuple[str, ...], fds: tuple[int, ...], patience_s: float) -> bool:
        said = "\n".join(assignments).encode("utf-8", "replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(patience_s)
                sock.connect(self._address)  # send_fds() takes no notice of its address
                if fds:
                    socket.send_fds(sock, [said], list(fds))
                else:
                    sock.send(said)
        except OSError:
            return False
        return True


def watchdog_s(environ: MutableMapping[str, str]) -> float:
    """How often the service manager wants to hear WATCHDOG=1, in seconds; 0.0 if never (sd_watchdog_enabled(3)). Takes the variables out."""
    usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdecimal()) or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1_000_000


def monotonic_usec() -> int:
    """CLOCK_MONOTONIC in microseconds, as MONOTONIC_USEC wants it."""
    return time.monotonic_ns() // 1000
