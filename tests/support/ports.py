"""Finds a free port for tests that must know it before anything listens there."""

import contextlib
import random
import socket
from pathlib import Path

FIRST = 10_000
_OWN_CHOICE = random.SystemRandom()


def free_port() -> int:
    """Return a free port of 127.0.0.1 outside of the range that the kernel assigns by
    itself (ip_local_port_range, ip(7)).

    Other tests run beside this one. A port of the kernel's range could go to one of
    them at any moment.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _OWN_CHOICE.randrange(FIRST, ephemeral)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
