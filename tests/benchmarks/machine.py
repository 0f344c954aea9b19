"""The machine: which processors serve and load, how many descriptors there may be, and the facts that stand beside every result."""

import os
import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FILES = 65536
LEAST_FILES = 10_500
"""Ten thousand idle connections and what a server needs beside them."""


@dataclass(frozen=True, slots=True)
class Cpus:
    """The processor of the server and that of the generator."""

    server: int
    load: int


def choose_cpus() -> Cpus:
    """The first processor that we may use, and the first other one that is no sibling of it where there is one. SystemExit with fewer than two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("The benchmark needs two processors: one for the server, one for the load.")
    siblings = _siblings(allowed[0])
    return Cpus(allowed[0], next((cpu for cpu in allowed[1:] if cpu not in siblings), allowed[1]))


def _siblings(cpu: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    found: set[int] = set()
    for part in path.read_text().strip().split(",") if path.exists() else ():
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def raise_file_limit() -> None:
    """Descriptors for us and everything that we start. SystemExit if there cannot be enough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(hard, FILES)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < LEAST_FILES:
        raise SystemExit(f"The benchmark needs {LEAST_FILES} open files; the limit is {hard} (ulimit -Hn).")


def facts(versions: bool) -> dict[str, str]:
    """What a reader has to know of the machine, and with ``versions`` of the peers' programs."""
    found = {
        "processor": f"{_field('/proc/cpuinfo', 'model name') or platform.machine()}, {os.cpu_count()} CPUs",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1e6:.1f} GB",
        "system": f"{_os_name()}, Linux {platform.release().split('-')[0]}",
        "virtual": "yes" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else "no",
        "congestion control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    if versions:
        found["gcc"] = _says("gcc", "-dumpfullversion")
        found["go"] = _says("go", "version").removeprefix("go version ").split(" ")[0]
        found["xinetd"] = _says(program("xinetd"), "-version").split(" ")[0]
        found["uvloop"] = metadata.version("uvloop")
    return found


def _field(path: str, name: str) -> str:
    """What stands behind ``name:`` in a file of /proc; "" if it is not there."""
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
    """A program of the system, also where daemons live, which is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin") or name


def _says(*command: str) -> str:
    """The first line that a program says of itself; xinetd says it on standard error."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    except FileNotFoundError:
        return "missing"
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    return lines[0] if lines else "unknown"
