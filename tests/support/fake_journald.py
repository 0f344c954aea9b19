"""A fake journald: a datagram socket that reads entries of the native protocol and the
pid of each sender. The tests of the journal use it.
"""

import contextlib
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

UCRED = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One datagram: its fields in order, and the sender's pid according to the
    kernel.
    """

    fields: tuple[tuple[str, str], ...]
    pid: int

    def __getitem__(self, name: str) -> str:
        return dict(self.fields)[name]

    def get(self, name: str) -> str | None:
        """Return the field's value, or None if the field is missing."""
        return dict(self.fields).get(name)


class FakeJournald:
    """Listens at ``path`` until it is closed. :meth:`stop` and :meth:`start` act as the
    real socket unit does. The queue is the kernel's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = self._bound()

    def _bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.bind(str(self.path))
        self.path.chmod(0o666)
        return sock

    def start(self) -> None:
        """Listen again after :meth:`stop`, with a new socket at the same path."""
        self.path.unlink(missing_ok=True)
        self._sock = self._bound()

    def stop(self, *, remove: bool = True) -> None:
        """Close the socket; with ``remove`` delete its file too."""
        self._sock.close()
        if remove:
            self.path.unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """Return all entries since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                datagram, ancillary, _, _ = self._sock.recvmsg(
                    1 << 20, socket.CMSG_SPACE(UCRED.size)
                )
                found.append(Entry(parse(datagram), UCRED.unpack(ancillary[0][2])[0]))
        return found


def parse(datagram: bytes) -> tuple[tuple[str, str], ...]:
    """Parse the fields of an entry as journald does: ``NAME=value`` up to the line end,
    or ``NAME``, the value's length in eight bytes, and the value.
    """
    fields = []
    while datagram:
        line, end, rest = datagram.partition(b"\n")
        assert end, f"a line without an end: {line!r}"
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, after = rest[8 : 8 + size], rest[8 + size :]
            assert len(value) == size, f"{name!r} is shorter than it says"
            assert after[:1] == b"\n", f"{name!r} is longer than it says"
            rest = after[1:]
        fields.append((name.decode("ascii"), value.decode()))
        datagram = rest
    return tuple(fields)
