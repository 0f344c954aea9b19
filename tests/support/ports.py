"""Ports for tests that must know one before anybody listens on it."""

import contextlib
import random
import socket
from pathlib import Path

FIRST = 10_000
_OWN_CHOICE = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, of those that the kernel gives to nobody who
    does not name it (ip_local_port_range, ip(7)).

    One that it had just given us would be anybody's again as soon as we let it go, and
    other tests run beside this one.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _OWN_CHOICE.randrange(FIRST, ephemeral)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
