"""Takes over the descriptors that the service manager passes at the start
(sd_listen_fds(3)): listeners of socket units, and the contents of its descriptor store.

Owns the environment variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. Called by
unpd.master.systemd.offers, once at boot. Calls nothing of unpd. Raises ValueError if
the variables contradict each other, OSError if a descriptor is not open.
"""

import fcntl
import os
from collections.abc import MutableMapping
from dataclasses import dataclass

FIRST_FD = 3
"""The first descriptor that is passed: SD_LISTEN_FDS_START of <systemd/sd-daemon.h>."""
MAX_DIGITS = 6
"""The most digits of LISTEN_FDS: no process can have a million descriptors."""
UNNAMED = "unknown"
"""The name of a descriptor that came without one (sd_listen_fds_with_names(3))."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A descriptor that was passed.

    ``name``: FileDescriptorName= of its unit, or the name under which it was stored;
    several descriptors may share a name.
    """

    name: str
    fd: int


def take_passed(environ: MutableMapping[str, str]) -> tuple[Passed, ...]:
    """Return the descriptors passed to this process, and remove the variables.

    The descriptors are close-on-exec from now on. The tuple is empty if the variables
    name another process. ValueError if the variables contradict each other, OSError if
    a descriptor is not open.
    """
    pid, count, names = (
        environ.pop(variable, "") for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()) or not count:
        return ()
    if not (count.isascii() and count.isdecimal() and len(count) <= MAX_DIGITS):
        raise ValueError(f"LISTEN_FDS is not a number of descriptors: {count[:20]!r}")
    number = int(count)
    fd_names = names.split(":") if names else [UNNAMED] * number
    if len(fd_names) != number:
        raise ValueError(
            f"LISTEN_FDS announces {number} descriptors, but LISTEN_FDNAMES has {len(fd_names)}"
        )
    passed = tuple(Passed(name, FIRST_FD + index) for index, name in enumerate(fd_names))
    for descriptor in passed:
        flags = fcntl.fcntl(descriptor.fd, fcntl.F_GETFD)
        fcntl.fcntl(descriptor.fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
    return passed
