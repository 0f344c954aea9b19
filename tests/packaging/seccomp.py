"""Notices the system calls that seccomp filters refuse, through the kernel's audit.

systemd makes the kernel log every refusal if its own environment has
SYSTEMD_LOG_SECCOMP=1 (systemd's docs/ENVIRONMENT.md); the booted system has it. So the
tests notice a refusal even if the program ignores the error. The records come over the
multicast group of netlink's audit family (CAP_AUDIT_READ, no rate limit), which does
not disturb an audit daemon of the host.
"""

import contextlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_AUDIT = 9
AUDIT_NLGRP_READLOG = 1
AUDIT_SECCOMP = 1326
"""From <linux/netlink.h> and <linux/audit.h>."""
BUFFER_BYTES = 8 << 20
SO_RCVBUFFORCE = 33
HEADER_BYTES = 16
"""The header of a netlink message: length, type, flags, sequence number, port."""

CLONE3 = 435
MEANT = frozenset({CLONE3})
"""The system calls that systemd refuses on purpose, by their numbers on x86-64.
RestrictNamespaces= answers clone3(2) with ENOSYS, because no filter can see its
arguments, which lie in memory. libc then uses clone(2).
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One system call that a filter refused: the path of the program, the name of the
    process, the number of the call, and the signal that the process got (0: none).
    """

    program: str
    name: str
    call: int
    signal: int


class Watch:
    """Collects refusals from its creation on, of programs whose path contains
    ``program``. :func:`watching` makes it.
    """

    def __init__(self, program: str, sock: socket.socket | None) -> None:
        self.possible = sock is not None
        self._program = program
        self._sock = sock
        self._seen: list[Refusal] = []

    def refusals(self) -> list[Refusal]:
        """The refusals so far, without those of :data:`MEANT`."""
        self._read()
        return [
            refusal
            for refusal in self._seen
            if self._program in refusal.program and refusal.call not in MEANT
        ]

    def excuse(self, call: int) -> int:
        """Forget the refusals so far of a system call, which a test has provoked.
        Return how many they were.
        """
        meant = [refusal for refusal in self.refusals() if refusal.call == call]
        self._seen = [refusal for refusal in self._seen if refusal not in meant]
        return len(meant)

    def _read(self) -> None:
        if self._sock is None:
            return
        with contextlib.suppress(BlockingIOError):
            while True:
                message = self._sock.recv(65536)
                if int.from_bytes(message[4:6], "little") == AUDIT_SECCOMP:
                    self._seen.append(
                        _parse(message[HEADER_BYTES:].rstrip(b"\0").decode(errors="replace"))
                    )


@contextlib.contextmanager
def watching(program: str) -> Iterator[Watch]:
    """Watch programs whose path contains ``program`` for the length of the block; the
    kernel tells about those of all machines. If the kernel has no audit, or we may not
    read it, the watch sees nothing and its ``possible`` is False.
    """
    with contextlib.ExitStack() as stack:
        try:
            sock = stack.enter_context(
                socket.socket(
                    socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_AUDIT
                )
            )
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            sock.bind((0, 1 << (AUDIT_NLGRP_READLOG - 1)))
        except OSError:
            yield Watch(program, None)
            return
        yield Watch(program, sock)


def _parse(text: str) -> Refusal:
    fields = dict(re.findall(r'(\w+)=("[^"]*"|\S*)', text))
    return Refusal(
        _unquoted(fields["exe"]),
        _unquoted(fields["comm"]),
        int(fields["syscall"]),
        int(fields["sig"]),
    )


def _unquoted(word: str) -> str:
    """The text of a string as audit writes it: in quotes, or in hexadecimal if it has a
    space or another special character.
    """
    return word.strip('"') if word.startswith('"') else bytes.fromhex(word).decode(errors="replace")
