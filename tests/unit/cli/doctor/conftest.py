"""A host on which nothing is wrong, for the checks of ``unpd doctor``."""

from collections.abc import Callable
from typing import Any

import pytest

from unpd.cli.doctor.facts import Facts, PidsLimit, ProcessLimits, Unit
from unpd.config.host import Host
from unpd.config.load import loads
from unpd.kernel.clock import Clock
from unpd.kernel.privileges import Identity

HOST = Host(
    uid=0,
    user="root",
    runtime_dir="/run/unpd",
    somaxconn=None,
    cpus=2,
    children=Identity("root", 0, "root", 0),
)
SYSCTL = {
    "kernel.pid_max": "4194304",
    "net.core.rmem_default": "212992",
    "net.core.somaxconn": "4096",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.ip_local_reserved_ports": "",
    "net.ipv4.tcp_abort_on_overflow": "0",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "vm.overcommit_memory": "0",
}
WELL: dict[str, Any] = {
    "cpus": 2,
    "unit": Unit(name="unpd.service", type="notify", kill_mode="mixed", stop_s=15.0),
    "limits": ProcessLimits(source="the daemon", open_files=524_288, processes=None),
    "pids": (PidsLimit(where="pids.max", limit=1000, current=10, key="TasksMax="),),
    "losses": (0, 0),
    "sockets": (),
    "clock": Clock(synchronised=True, max_error_s=0.01),
    "memory": {"CommitLimit": 1000, "Committed_AS": 100},
}
ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:7"]\n'

MakeFacts = Callable[..., Facts]


@pytest.fixture
def facts() -> MakeFacts:
    """Make the facts of a configuration on a host where nothing is wrong, but for
    ``changes``, and for ``sysctl``.
    """

    def make(text: str = ECHO, sysctl: dict[str, str] | None = None, **changes: Any) -> Facts:
        settings = {**SYSCTL, **(sysctl or {})}
        return Facts(configured=loads(text, HOST).config, sysctl=settings, **{**WELL, **changes})

    return make
