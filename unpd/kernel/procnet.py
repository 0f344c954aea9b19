"""Reads /proc/net/tcp and udp, and those of IPv6 (proc(5)): whether a TCP listener or a
UDP socket is still open somewhere, after we have closed our own descriptor of it. Reads
/proc/self/net/netstat: how many clients the kernel turned away before any accept.

Owns nothing. Called by unpd.master. Calls nothing of unpd. Raises nothing.

Known gap: where /proc has no net (ProcSubset=pid of systemd.exec(5)), every listener
counts as open.
"""

from pathlib import Path
from typing import Literal

NETSTAT = Path("/proc/self/net/netstat")
_LISTENING = "0A"
_STATE, _INODE = 3, 9


def is_open(inode: int, transport: Literal["tcp", "udp"]) -> bool:
    """Whether a process of this network namespace has a TCP listener, or a UDP socket,
    with the inode that fstat(2) gave for its descriptor.
    """
    try:
        return any(_lists(transport, version, str(inode)) for version in ("", "6"))
    except OSError:
        return True


def _lists(transport: str, version: str, inode: str) -> bool:
    with open(f"/proc/net/{transport}{version}", encoding="ascii") as lines:
        next(lines, "")  # the heads of the columns
        for line in lines:
            fields = line.split()
            if transport == "tcp" and fields[_STATE] != _LISTENING:
                return False  # the kernel lists all listeners first (tcp_seq_start())
            if fields[_INODE] == inode:
                return True
    return False


def listen_losses(path: Path = NETSTAT) -> tuple[int, int] | None:
    """How many connections of this network namespace the kernel has dropped because an
    accept queue was full (ListenOverflows), and how many for that or any other reason
    (ListenDrops), since the namespace was made; None where /proc does not tell.
    """
    try:
        with path.open("rb") as lines:
            names, values = (line.split() for line in lines if line.startswith(b"TcpExt:"))
        counts = dict(zip(names[1:], map(int, values[1:]), strict=True))
        return counts[b"ListenOverflows"], counts[b"ListenDrops"]
    except (OSError, ValueError, KeyError):
        return None
