"""Moves a run into a network namespace of its own, with only loopback, where TCP has
Debian's congestion control.

BBR paces every connection by a timer, at a bandwidth that it estimates, on loopback
too. There its estimates decide a bulk echo: one server alone, measured six times for 1
s, has 2,200 to 4,800 MiB/s, and with cubic 4,700 to 5,700. Debian's default is cubic,
so a machine with another default measures with cubic as well.
"""

import ctypes
import os
import subprocess
from pathlib import Path

from tests.benchmarks.machine import program

CONTROL = "cubic"
CLONE_NEWNET = 0x40000000
LOOPBACK = ("127.0.0.1", "127.0.0.0/8")
"""The routes that a connection of ours may take both ways: to a server, and back to one
of the generator's addresses.
"""


def enter() -> str:
    """Enter the namespace with everything that is started later. Return a note about
    the congestion control.

    A user, or root in a container, or a kernel without cubic cannot create such a
    namespace. The run then stays in the machine's network.
    """
    machines = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before:
        if libc.unshare(CLONE_NEWNET) != 0:
            return _stays(machines, f"unshare: {os.strerror(ctypes.get_errno())}")
        try:
            # By the route, because a namespace's own default must be an unrestricted
            # one (tcp_allowed_congestion_control), and cubic need not be.
            _ip("link", "set", "lo", "up")
            for to in LOOPBACK:
                _ip(
                    "route",
                    "change",
                    "table",
                    "local",
                    "local",
                    to,
                    "dev",
                    "lo",
                    "proto",
                    "kernel",
                    "scope",
                    "host",
                    "src",
                    "127.0.0.1",
                    "congctl",
                    CONTROL,
                )
        except OSError as error:
            if libc.setns(before.fileno(), CLONE_NEWNET) != 0:
                raise SystemExit(
                    "The benchmark is in a network namespace that it could neither furnish"
                    f" ({error}) nor leave."
                ) from error
            return _stays(machines, str(error))
    return (
        f"{CONTROL}, in a network namespace of its"
        f" own{'' if machines == CONTROL else f' (the machine has {machines})'}"
    )


def _stays(machines: str, why: str) -> str:
    if machines == CONTROL:
        return f"{machines}, in the machine's own network: no namespace could be had ({why})"
    return (
        f"{machines}, the machine's own: no network namespace with {CONTROL}, Debian's default,"
        f" could be had ({why}), and bulk echo differs there"
    )


def _ip(*words: str) -> None:
    done = subprocess.run((program("ip"), *words), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
