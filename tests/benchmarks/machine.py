"""Describes the machine: which processors run server and load, how many descriptors are
allowed, and the facts beside every result.
"""

import datetime as dt
import os
import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.benchmarks.memory import counts_pages
from tests.support import ROOT
from unpd import __version__

FILES = 65536
LEAST_FILES = 10_500
"""Ten thousand idle connections and what a server needs beside them."""

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of the kernel."""


@dataclass(frozen=True, slots=True)
class Cpus:
    """The processor of the server and that of the generator."""

    server: int
    load: int


def choose_cpus() -> Cpus:
    """Choose the first processor that we may use, and the first other one, preferably
    not a sibling of it. SystemExit with fewer than two.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit(
            "The benchmark needs two processors: one for the server, one for the load."
        )
    siblings = _siblings(allowed[0])
    return Cpus(allowed[0], next((cpu for cpu in allowed[1:] if cpu not in siblings), allowed[1]))


def _siblings(cpu: int) -> set[int]:
    """Return the processors that share the core of ``cpu``, including itself."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    found: set[int] = set()
    for part in path.read_text().strip().split(",") if path.exists() else ():
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def raise_file_limit() -> None:
    """Raise the limit of descriptors for this process and all it starts. SystemExit if
    it cannot be high enough.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < LEAST_FILES:
        raise SystemExit(
            f"The benchmark needs {LEAST_FILES} open files; the limit is {hard} (ulimit -Hn)."
        )


def facts(cpus: Cpus, congestion: str, versions: bool, other: Path | None = None) -> dict[str, str]:
    """Return the facts about the run and its machine, its ``congestion`` control, the
    ``versions`` of the peers' programs, and the ``other`` tree.
    """
    found = {
        "unpd": f"{__version__}, {commit(ROOT)}",
        "day": f"{dt.datetime.now(dt.UTC):%Y-%m-%d} (UTC)",
        "processor": (
            f"{_field('/proc/cpuinfo', 'model name') or platform.machine()}, {os.cpu_count()} CPUs"
        ),
        "used": (
            f"CPU {cpus.server} for the server, CPU {cpus.load} for the load;"
            f" {'' if cpus.load in _siblings(cpus.server) else 'not '}of one core"
        ),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) * 1024 / 1e9:.1f} GB",
        "system": f"{_os_name()}, Linux {platform.release().split('-')[0]}",
        "virtual": "yes" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else "no",
        "congestion control": congestion,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    if other:
        found["the other unpd"] = commit(other)
    if not sees_others():
        found["other processes"] = (
            "those outside of this PID namespace cannot be seen: what they use is noticed only"
            " where the hypervisor takes it (stolen time)"
        )
    if not counts_pages():
        found["PSS"] = (
            "as smaps_rollup says it: the share that the harness and other Python programs have in"
            " unpd's pages is missing (run as root to have it counted)"
        )
    if versions:
        found["gcc"] = _says("gcc", "-dumpfullversion")
        found["go"] = _says("go", "version").removeprefix("go version ").split(" ")[0]
        found["xinetd"] = _says(program("xinetd"), "-version").split(" ")[0]
        found["uvloop"] = metadata.version("uvloop")
    return found


def sees_others() -> bool:
    """Whether /proc shows all processes of the machine, as the first PID namespace does
    and a container's does not.
    """
    return Path("/proc/self/ns/pid").stat().st_ino == INITIAL_PID_NAMESPACE


def _field(path: str, name: str) -> str:
    """Return the text after ``name:`` in a file of /proc; "" if it is missing."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def program(name: str) -> str:
    """Find a program of the system, also in directories of daemons that are not on
    every user's PATH.
    """
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin") or name


def commit(tree: Path) -> str:
    """Return the commit of a tree, and whether the tree was changed since. A new
    results page does not count as a change.
    """
    git = ("git", "-C", str(tree))
    name = _says(*git, "describe", "--always", failed="unknown")
    if name == "unknown":
        return "commit unknown"
    changed = _says(
        *git,
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":!tests/benchmarks/RESULTS.md",
        silent="",
    )
    return f"commit {name}{'-dirty' if changed else ''}"


def _says(*command: str, failed: str = "", silent: str = "unknown") -> str:
    """Return the first line that a program prints (xinetd prints on standard error).
    ``failed`` replaces it if the program fails, ``silent`` if it prints nothing.
    """
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    except FileNotFoundError:
        return failed or "missing"
    if failed and done.returncode != 0:
        return failed
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    return lines[0] if lines else silent
