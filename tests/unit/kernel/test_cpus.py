"""How many CPUs a process may use, with cgroups of version 1 and 2."""

import os
from pathlib import Path

import pytest

from unpd.kernel.cpus import cgroup_quota, usable_cpus

V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n33 31 0:30 /"
    " /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def system(root: Path, own: str, mounts: str, files: dict[str, str]) -> Path:
    """Make a file system with this /proc/self/cgroup, this /proc/self/mountinfo and
    these files.
    """
    for name, content in {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("own", "mounts", "files", "quota"),
    [
        ("0::/a/b\n", V2, {"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", V2, {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            V2,
            {
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            },
            0.5,
        ),
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/a\n", V2, {}, None),
        ("0::/a\n", V2, {"sys/fs/cgroup/a/cpu.max": "nonsense\n"}, None),
        ("0::/a\n", V2, {"sys/fs/cgroup/a/cpu.max": "1000 0\n"}, None),
        ("0::/a\n", "", {"sys/fs/cgroup/a/cpu.max": "1000 1000\n"}, None),
        ("", "", {}, None),
        ("nonsense", "also nonsense - \n", {}, None),
        ("0::/../other\n", V2, {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1.0),
        (
            "0::/docker/x/sub\n",
            V2.replace(" / ", " /docker/x ", 1),
            {"sys/fs/cgroup/sub/cpu.max": "100000 100000\n"},
            1.0,
        ),
        (
            "0::/elsewhere\n",
            V2.replace(" / ", " /docker/x ", 1),
            {"sys/fs/cgroup/cpu.max": "400000 100000\n"},
            4.0,
        ),
        (
            "0::/a\n",
            V2.replace("/sys/fs/cgroup", "/odd\\040place"),
            {"odd place/a/cpu.max": "100000 100000\n"},
            1.0,
        ),
        (
            "4:cpu,cpuacct:/a\n3:memory:/m\n0::/\n",
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            "4:cpu,cpuacct:/a\n",
            V1,
            {
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_quota(
    tmp_path: Path, own: str, mounts: str, files: dict[str, str], quota: float | None
) -> None:
    """The quota is the smallest of the process's cgroup and its ancestors, in either
    version; an absent or odd file is no limit.
    """
    assert cgroup_quota(system(tmp_path, own, mounts, files)) == quota


@pytest.mark.parametrize(
    ("maximum", "expected"),
    [("1000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("100000000 100000", None)],
)
def test_usable(tmp_path: Path, maximum: str, expected: int | None) -> None:
    """The usable CPUs are the smaller of affinity and quota, and at least one."""
    root = system(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": maximum})
    assert usable_cpus(root) == (expected or len(os.sched_getaffinity(0)))


def test_usable_rounds_up(tmp_path: Path) -> None:
    """A part of a CPU counts as one: with one worker fewer, part of the quota would
    stay unused.
    """
    root = system(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": "150000 100000"})
    assert usable_cpus(root) == min(2, len(os.sched_getaffinity(0)))


def test_here() -> None:
    """On this machine at least one CPU is usable."""
    assert 1 <= usable_cpus() <= len(os.sched_getaffinity(0))
