"""Reads what /proc and the cgroups say about processes: limits, sockets, and which one
holds a socket.

Called by :mod:`unpd.cli.doctor.gather`. Raises nothing: what cannot be read is missing.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from unpd.cli.doctor.facts import Holder, PidsLimit, ProcessLimits
from unpd.cli.doctor.queues import KEEP
from unpd.kernel.likeness import title_of
from unpd.kernel.procfs import all_processes
from unpd.names import MASTER_TITLE

CGROUPS = Path("/sys/fs/cgroup")
_LIMIT = re.compile(r"^(Max [a-z ]+?) {2,}(\S+) +(\S+)", re.MULTILINE)


def limits(pid: int, source: str) -> ProcessLimits | None:
    """The limits of a process (proc(5), /proc/PID/limits)."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return None
    return parsed_limits(text, source)


def parsed_limits(text: str, source: str) -> ProcessLimits:
    """The limits in the text of /proc/PID/limits."""
    found = {name: (soft, hard) for name, soft, hard in _LIMIT.findall(text)}
    unlimited = ("unlimited", "unlimited")
    return ProcessLimits(
        source=source,
        open_files=_number(found.get("Max open files", unlimited)[1]),
        processes=_number(found.get("Max processes", unlimited)[0]),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def cgroup_limits(
    pid: int, cgroups: Path = CGROUPS, proc: Path = Path("/proc")
) -> Iterator[PidsLimit]:
    """The limits of the cgroup of a process and of those above it (cgroups(7)); none
    where they are not limited.
    """
    try:
        lines = (proc / f"{pid}/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "pids" not in controllers.split(","):
            continue
        root = cgroups / "pids" if controllers else cgroups
        place = root / path.lstrip("/")
        for directory in (place, *place.parents):
            if not directory.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                most = int((directory / "pids.max").read_text())  # "max": no number
                yield PidsLimit(
                    where=f"pids.max of {directory}",
                    limit=most,
                    current=int((directory / "pids.current").read_text()),
                    key="TasksMax= in [Service] (systemctl edit), or the limit of the container",
                )


def kernel_limits(sysctl: Mapping[str, str]) -> Iterator[PidsLimit]:
    """The limits of the whole host."""
    current = len(all_processes())
    for name in ("kernel.pid_max", "kernel.threads-max"):
        if (text := sysctl.get(name, "")).isdecimal():
            yield PidsLimit(
                where=name,
                limit=int(text),
                current=current,
                key=f"sysctl -w {name}={2 * int(text)}, {KEEP}",
            )


def socket_inodes(pid: int) -> Iterator[int]:
    """The inodes of the sockets of a process; none if it is of another user."""
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                target = os.readlink(f"{directory}/{name}")
                if found := re.fullmatch(r"socket:\[([0-9]+)\]", target):
                    yield int(found[1])


def holder(inode: int) -> Holder | None:
    """Find the process that has the socket, the master before its children. systemd may
    hold it for a socket unit. None: it is of another user, or of another pid namespace.
    """
    pids = [pid for pid in all_processes() if inode in socket_inodes(pid)]
    found = [Holder(pid=pid, title=_title(pid)) for pid in pids]
    masters = [one for one in found if one.title.startswith(MASTER_TITLE)]
    return next(iter(masters + found), None)


def _title(pid: int) -> str:
    try:
        title = title_of(pid).strip()
        return title or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
