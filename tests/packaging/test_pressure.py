"""How busy the machine is, as the sandbox of the installed unit shows it, and what
limits of that do.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.installed import DAYTIME, ECHO, Installed
from tests.packaging.machine import Machine
from tests.support import clients
from tests.support.observed import total
from tests.support.waiting import until
from unpd.kernel import pressure
from unpd.names import Resource

pytestmark = pytest.mark.packaging

LIMIT, LOW = 50, 40
LIMITED = (
    ("[services.echo]", "[services.echo]\nmax_load = 0.01"),
    (
        "[services.daytime]",
        f"[services.daytime]\nmax_pressure = {{ cpu = {LIMIT}, memory = 99, io = 99 }}",
    ),
)
BUSY_S = 120.0
"""How long the average of ten seconds may take to rise above the limit, or to sink."""


@contextlib.contextmanager
def busy(machine: Machine) -> Iterator[None]:
    """Let more processes of the machine run than there are processors: in a unit,
    because a command that we run inside stays in our own cgroup.
    """
    loops = "while :; do :; done & " * 4 * (os.cpu_count() or 1)
    machine.run(
        *("systemd-run", "--quiet", "--unit=busy", f"--property=RuntimeMaxSec={BUSY_S}"),
        *("sh", "-c", f"{loops} wait"),
    )
    try:
        yield
    finally:
        machine.run("systemctl", "stop", "busy.service")


def start_limited(unpd: Installed) -> list[str]:
    """Start the daemon with limits of what the machine tells; return its warnings about
    them.
    """
    unpd.edit(*LIMITED)
    unpd.start()
    return [line for line in unpd.messages() if "so there is no limit" in line]


def seen_by(unpd: Installed) -> Path:
    """The root directory of the file system that the unit sees."""
    return Path(f"/proc/{unpd.pid}/root")


def asked() -> bytes:
    """The time; nothing if the service refuses."""
    with contextlib.suppress(OSError):
        return clients.ask(DAYTIME)
    return b""


def refused(unpd: Installed, service: str, reason: str) -> float:
    """How many clients a service has refused for a reason."""
    return total(unpd.samples(), "unpd_refused_total", service=service, reason=reason)


def test_a_busy_machine_refuses_clients(unpd: Installed) -> None:
    """ProcSubset=pid hides /proc/pressure and /proc/loadavg from the unit, but limits
    of both bite. While processes wait for the processor, clients are refused; they are
    served when those wait no more.
    """
    assert start_limited(unpd) == []
    root = seen_by(unpd)
    assert (root / "proc/self").is_symlink()
    assert not (root / "proc/pressure").exists()
    assert not (root / "proc/loadavg").exists()
    with busy(unpd.machine):
        until(lambda: not asked(), BUSY_S, "clients to be refused on a busy machine")
        until(lambda: refused(unpd, "daytime", "max_pressure"), 10.0, "that to be counted")
    # Clients that ask again and again would keep the daemon waiting for the processor.
    until(lambda: pressure.read(Resource.CPU, root) < LOW, BUSY_S, "the pressure to sink")
    until(asked, 10.0, "clients to be served again")
    with contextlib.suppress(OSError):
        assert clients.converse(ECHO, b"x") == b""
    until(lambda: refused(unpd, "echo", "max_load"), 10.0, "a client to be refused by the load")


def test_a_unit_that_does_not_see_it(unpd: Installed) -> None:
    """Where nothing tells the pressure, the start warns of each limit that cannot hold,
    and serves.
    """
    unpd.drop_in("[Service]\nInaccessiblePaths=/sys/fs/cgroup\n")
    warnings = start_limited(unpd)
    assert ["pressure on" in line for line in warnings] == [True, True, True], warnings
    assert asked()
