"""The pressure of a resource, from the first file that tells it, and the load."""

import os
from pathlib import Path

import pytest

from unpd.kernel.pressure import load_average, read
from unpd.names import Resource

PROC = "proc/pressure/memory"
ROOT = "sys/fs/cgroup/memory.pressure"
HYBRID = "sys/fs/cgroup/unified/memory.pressure"
OWN = "sys/fs/cgroup/system.slice/unpd.service/memory.pressure"
OWN_HYBRID = "sys/fs/cgroup/unified/system.slice/unpd.service/memory.pressure"
HYBRID_GROUPS = "4:memory:/elsewhere\n0::/system.slice/unpd.service\n"


def told(avg10: str) -> str:
    """What the kernel writes, with this share of the last ten seconds."""
    return (
        f"some avg10={avg10} avg60=1.00 avg300=2.00 total=12345\n"
        "full avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
    )


def system(root: Path, files: dict[str, str]) -> Path:
    """Make a file system with these files; our cgroup is that of a unit."""
    for name, content in {"proc/self/cgroup": HYBRID_GROUPS, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({PROC: told("0.00")}, 0.0),
        ({PROC: told("12.34"), ROOT: told("5.00")}, 12.34),
        ({PROC: told("100.00")}, 100.0),
        ({ROOT: told("5.00"), OWN: told("6.00")}, 5.0),
        ({HYBRID: told("5.50"), OWN_HYBRID: told("6.00")}, 5.5),
        ({OWN: told("6.00")}, 6.0),
        ({OWN_HYBRID: told("6.25")}, 6.25),
        ({PROC: "nonsense", ROOT: told("5.00")}, 5.0),
        ({PROC: "", ROOT: told("5.00")}, 5.0),
        ({PROC: told("-1.00"), ROOT: told("5.00")}, 5.0),
        ({"proc/pressure/memory/x": "", ROOT: told("5.00")}, 5.0),
    ],
)
def test_the_first_file_that_tells_it(
    tmp_path: Path, files: dict[str, str], expected: float
) -> None:
    """The machine's pressure goes before that of the root of the cgroups, and this
    before that of our own cgroup; a file that makes no sense is passed over.
    """
    assert read(Resource.MEMORY, system(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("files", "groups"),
    [
        ({}, HYBRID_GROUPS),
        ({"proc/pressure/cpu": told("1.00")}, HYBRID_GROUPS),
        ({PROC: "nonsense"}, HYBRID_GROUPS),
        ({"sys/fs/cgroup/memory.pressure.old": told("1.00")}, "0::/\n"),
        ({"sys/fs/memory.pressure": told("1.00"), "sys/fs/cgroup/x": ""}, "0::/..\n"),
        ({}, ""),
        ({}, "nonsense"),
    ],
)
def test_nothing_tells_it(tmp_path: Path, files: dict[str, str], groups: str) -> None:
    """Without any of these files there is no number, but an OSError."""
    with pytest.raises(OSError, match="nothing tells the pressure of memory"):
        read(Resource.MEMORY, system(tmp_path, {**files, "proc/self/cgroup": groups}))


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """A file that makes no sense is closed, too."""
    root = system(tmp_path, {PROC: "nonsense", ROOT: told("1.00")})
    before = len(os.listdir("/proc/self/fd"))
    read(Resource.MEMORY, root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_load_average() -> None:
    """sysinfo(2) tells the load that /proc/loadavg shows. It changes every 5 seconds,
    perhaps in the middle.
    """
    tries = [(os.getloadavg()[0], load_average()) for _ in range(10)]
    assert any(load == pytest.approx(first, abs=0.006) for first, load in tries)
    assert all(load >= 0 for _, load in tries)
