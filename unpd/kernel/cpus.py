"""Finds how many CPUs this process may use: the smaller of its affinity
(sched_getaffinity(2)) and the CPU quota of its cgroup and of that cgroup's ancestors.

Reads /proc/self/cgroup, /proc/self/mountinfo and the cgroups' files. Version 2 has
``cpu.max`` ("max 100000" or "150000 100000"), version 1 has ``cpu.cfs_quota_us`` (-1:
no limit) and ``cpu.cfs_period_us`` (Documentation/admin-guide/cgroup-v2.rst,
scheduler/sched-bwc.rst).

Owns nothing. Called by unpd.config. Calls nothing of unpd. Raises nothing: a file that
is absent, or whose text it does not understand, counts as no limit.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted cgroup hierarchy: the cgroup ``root`` is visible at ``mount_point``."""

    version: int
    root: str
    mount_point: str


def usable_cpus(root: Path = Path("/")) -> int:
    """How many workers can run at the same time, at least 1.

    A quota is rounded up: with one and a half CPUs, one worker could not use the whole
    quota. ``root``: see :func:`cgroup_quota`.
    """
    try:
        affinity = len(os.sched_getaffinity(0))
    except OSError:  # a system call filter refuses it
        affinity = os.cpu_count() or 1
    quota = cgroup_quota(root)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def cgroup_quota(root: Path = Path("/")) -> float | None:
    """The smallest CPU quota of this process's cgroups and their ancestors, in CPUs;
    None if there is no limit.

    ``root``: the root directory of the file system (tests make their own).
    """
    own = _own_cgroups(_read_or_empty(root / "proc/self/cgroup"))
    quotas = [
        quota
        for mount in _cgroup_mounts(_read_or_empty(root / "proc/self/mountinfo"))
        if mount.version in own
        for directory in _cgroup_and_ancestors(root, mount, own[mount.version])
        if (quota := _quota(mount.version, directory)) is not None
    ]
    return min(quotas, default=None)


def _own_cgroups(text: str) -> dict[int, str]:
    """This process's cgroup by version, from lines such as ``0::/a/b`` (version 2) and
    ``4:cpu,cpuacct:/a/b`` (version 1). Other hierarchies have no CPU quota.
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


def _cgroup_mounts(text: str) -> Iterator[_Mount]:
    """The cgroup mounts in mountinfo (proc_pid_mountinfo(5)): the type and the options
    of the file system follow " - ".
    """
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, file_system = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(file_system) < 3:
            continue
        if file_system[0] == "cgroup2":
            yield _Mount(2, _unescaped(fields[3]), _unescaped(fields[4]))
        elif file_system[0] == "cgroup" and "cpu" in file_system[2].split(","):
            yield _Mount(1, _unescaped(fields[3]), _unescaped(fields[4]))


def _unescaped(field: str) -> str:
    r"""A field of mountinfo without its octal escapes, such as \040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _cgroup_and_ancestors(root: Path, mount: _Mount, cgroup: str) -> Iterator[Path]:
    """The directories of ``cgroup`` and its ancestors, up to the mount point. A cgroup
    outside the mount (in a container) counts as the mount point.
    """
    top = root / mount.mount_point.lstrip("/")
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
        quota, _, period = _read_or_empty(directory / "cpu.max").strip().partition(" ")
    else:
        quota, period = (
            _read_or_empty(directory / "cpu.cfs_quota_us").strip(),
            _read_or_empty(directory / "cpu.cfs_period_us").strip(),
        )
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read_or_empty(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # absent, or hidden from us: either way we know no limit
        return ""
