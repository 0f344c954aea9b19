"""Reads how much the processes of this machine wait for a resource (PSI), and its load.

The pressure of a resource is the share of the last ten seconds in which at least one
process waited for it, in per cent ("some avg10" in Documentation/accounting/psi.rst).
It is read from the first of these that has it:

1. ``/proc/pressure``, of the whole machine.
2. The root of the cgroups of version 2. There the kernel gives the same numbers, since
   5.2 (its commit df5ba5be7425); but in a container, the root and its pressure are
   those of the container. The packaged unit has only this one: its ``ProcSubset=pid``
   hides the first.
3. Our own cgroup, on an older kernel: the pressure of our own processes.

The load average comes from sysinfo(2), because the getloadavg(3) of older C libraries
reads /proc/loadavg, which ``ProcSubset=pid`` hides too. It is that of the whole
machine, in a container as well.

Owns nothing. Called by unpd.config.host, and by the master once a second. Calls
unpd.names. Raises OSError where nothing tells the number: a kernel without PSI, or one
that wants psi=1 on its command line (CONFIG_PSI_DEFAULT_DISABLED).
"""

import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from unpd.names import Resource

_FILE_BYTES = 1024
_CGROUPS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
"""Where systemd mounts the cgroups of version 2: the second on a hybrid system."""
_SYSINFO = struct.Struct("@l3L")
"""How struct sysinfo begins: the uptime and three load averages."""
_SYSINFO_BYTES = 256
"""More than the kernel writes: 112 bytes at most (sysinfo(2))."""
_LOAD_SHIFT = 16
"""SI_LOAD_SHIFT of <linux/sysinfo.h>: the fraction of a load average has 16 bits."""


def read(resource: Resource, root: Path = Path("/")) -> float:
    """The pressure of ``resource``, from 0 to 100 per cent.

    ``root``: the root directory of the file system (tests make their own). OSError.
    """
    for path in _files(resource, root):
        try:
            return _some_avg10(path)
        except OSError:
            continue
    raise OSError(errno.EOPNOTSUPP, f"nothing tells the pressure of {resource}")


def _files(resource: Resource, root: Path) -> Iterator[Path]:
    yield root / "proc/pressure" / resource
    for cgroups in _CGROUPS:
        yield root / cgroups / f"{resource}.pressure"
    own = _own_cgroup(root)
    if own:
        for cgroups in _CGROUPS:
            yield root / cgroups / own / f"{resource}.pressure"


def _own_cgroup(root: Path) -> str:
    """Our cgroup of version 2 (cgroups(7)); "" for its root, and without one. A cgroup
    above the root that we see has no files for us.
    """
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"^0::/(.+)$", text, re.MULTILINE)
    return found.group(1) if found and ".." not in found.group(1) else ""


def _some_avg10(path: Path) -> float:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, _FILE_BYTES)
    finally:
        os.close(fd)
    found = re.match(rb"some avg10=([0-9]{1,3}\.[0-9]{2}) ", text)
    if found is None:
        raise OSError(errno.EBADMSG, "this is no file of pressures", str(path))
    return float(found.group(1))


def load_average() -> float:
    """The load average of the last minute: how many processes ran or waited to. OSError
    if a system call filter refuses sysinfo(2).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    info = ctypes.create_string_buffer(_SYSINFO_BYTES)
    if libc.sysinfo(info) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    _, last_minute, _, _ = _SYSINFO.unpack_from(info)
    return float(last_minute) / (1 << _LOAD_SHIFT)
