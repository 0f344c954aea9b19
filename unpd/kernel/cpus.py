"""How many CPUs this process may use: the smaller of its affinity
(sched_getaffinity(2)) and the CPU quota of its cgroup and the cgroups above it.

Reads /proc/self/cgroup, /proc/self/mountinfo and the cgroup's files; what is absent or
not understood is no limit. Version 2 says ``cpu.max`` ("max 100000" or "150000
100000"), version 1 ``cpu.cfs_quota_us`` (-1: none) and ``cpu.cfs_period_us``
(Documentation/admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst).
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted cgroup hierarchy: ``root`` is the cgroup seen at ``point``."""

    version: int
    root: str
    point: str


def usable_cpus(root: Path = Path("/")) -> int:
    """How many workers can run at once here, at least 1. A quota of one and a half CPUs
    counts as two: one worker could not use it up.
    """
    affinity = len(os.sched_getaffinity(0))
    quota = cgroup_quota(root)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The tightest CPU quota over this process's cgroups, in CPUs; None: no limit.
    ``root`` is where the file system begins (tests bring their own).
    """
    own = _own_cgroups(_read(root / "proc/self/cgroup"))
    quotas = [
        quota
        for mount in _mounts(_read(root / "proc/self/mountinfo"))
        if mount.version in own
        for directory in _upwards(root, mount, own[mount.version])
        if (quota := _quota(mount.version, directory)) is not None
    ]
    return min(quotas, default=None)


def _own_cgroups(text: str) -> dict[int, str]:
    """The cgroup in each hierarchy that can hold a CPU quota, from lines like
    ``0::/a/b`` (version 2) and ``4:cpu,cpuacct:/a/b`` (version 1).
    """
    found: dict[int, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found[2] = path
        elif "cpu" in controllers.split(","):
            found[1] = path
    return found


def _mounts(text: str) -> Iterator[_Mount]:
    """The cgroup mounts in mountinfo (proc_pid_mountinfo(5)): the file system's type
    and its options stand after " - ".
    """
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, file_system = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(file_system) < 3:
            continue
        if file_system[0] == "cgroup2":
            yield _Mount(2, _plain(fields[3]), _plain(fields[4]))
        elif file_system[0] == "cgroup" and "cpu" in file_system[2].split(","):
            yield _Mount(1, _plain(fields[3]), _plain(fields[4]))


def _plain(field: str) -> str:
    """A field of mountinfo with its octal escapes undone: a space is written as
    backslash 040.
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _upwards(root: Path, mount: _Mount, cgroup: str) -> Iterator[Path]:
    """The directories of ``cgroup`` and its ancestors up to the mount point. One
    outside what is mounted (a container's view) is the point itself.
    """
    top = root / mount.point.lstrip("/")
    inside = cgroup == mount.root or cgroup.startswith(mount.root.rstrip("/") + "/")
    relative = (
        Path(cgroup[len(mount.root.rstrip("/")) :].lstrip("/"))
        if inside and ".." not in cgroup
        else Path()
    )
    yield top / relative
    for parent in relative.parents:
        yield top / parent


def _quota(version: int, directory: Path) -> float | None:
    if version == 2:
        quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
    else:
        quota, period = (
            _read(directory / "cpu.cfs_quota_us").strip(),
            _read(directory / "cpu.cfs_period_us").strip(),
        )
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or hidden from us: then it limits nothing that we could know
        return ""
