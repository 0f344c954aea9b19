"""Descriptors that the service manager passes at the start (sd_listen_fds(3)):
listeners of socket units, and what the descriptor store kept.
"""

import fcntl
import os
from collections.abc import MutableMapping
from dataclasses import dataclass

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""
MAX_DIGITS = 6
"""Of LISTEN_FDS: more descriptors than any process can have."""
UNNAMED = "unknown"
"""What sd_listen_fds_with_names(3) calls a descriptor that came without a name."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A descriptor that was passed, by the name that its unit or its storer gave it;
    names may repeat.
    """

    name: str
    fd: int


def take_passed(environ: MutableMapping[str, str]) -> tuple[Passed, ...]:
    """The descriptors passed to this very process, close-on-exec from now on; none if
    the variables are meant for another one. Takes the variables out.

    ValueError if they contradict themselves, OSError if a descriptor is not open.
    """
    pid, count, names = (
        environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()) or not count:
        return ()
    if not (count.isascii() and count.isdecimal() and len(count) <= MAX_DIGITS):
        raise ValueError(f"LISTEN_FDS is no number of descriptors: {count[:20]!r}")
    number = int(count)
    called = names.split(":") if names else [UNNAMED] * number
    if len(called) != number:
        raise ValueError(
            f"LISTEN_FDS announces {number} descriptors, LISTEN_FDNAMES names {len(called)}"
        )
    passed = tuple(Passed(name, FIRST_FD + at) for at, name in enumerate(called))
    for one in passed:
        fcntl.fcntl(one.fd, fcntl.F_SETFD, fcntl.fcntl(one.fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
    return passed
