"""unpd as its package installs it on a machine, and the actions of an administrator.

The tests call it through the fixture ``unpd``, which also puts the test into the
machine's network.
"""

import contextlib
import http.client
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Literal

from tests.packaging.machine import Machine
from tests.support import loads, procs
from tests.support.clients import Address
from tests.support.load_generator import OUTCOMES
from tests.support.observed import Samples, parse_samples
from tests.support.waiting import until

CONFIG = "/etc/unpd/unpd.toml"
CONF_D = "/etc/unpd/conf.d"
SERVICE = "unpd.service"
SOCKETS = ("unpd.socket", "unpd-daytime.socket", "unpd-metrics.socket")
DROP_INS = f"/etc/systemd/system/{SERVICE}.d"
PROGRAMS_CONF = "/usr/share/doc/unpd/examples/programs.conf"

ECHO: Address = ("127.0.0.1", 7)
DAYTIME: Address = ("127.0.0.1", 13)
METRICS = ("127.0.0.1", 9867)

PREVIOUS = "0.0.1"
"""A version below every released one."""

RATE = 800.0
PROMISED_RATE = 500.0
"""Connections a second under load: the rate that the tests try, and the rate that the
daemon promises.
"""


class Installed:
    """The package on ``machine``, installed and not changed since."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._shipped = machine.path(CONFIG).read_text()
        self.since = ""

    def reset(self) -> None:
        """Restore the state after the installation: stopped, the shipped configuration,
        no drop-in, all counters 0. :meth:`messages` begins here.
        """
        self.systemctl("stop", *SOCKETS, SERVICE)
        self.systemctl("disable", "--quiet", *SOCKETS)
        self.machine.run("rm", "-rf", DROP_INS)
        self.machine.run("find", CONF_D, "-mindepth", "1", "-delete")
        self.configure(self._shipped)
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed")
        self.since = self.machine.cursor()

    # actions of the administrator

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run systemctl."""
        return self.machine.run("systemctl", *arguments, check=check)

    def start(self) -> None:
        """``systemctl start``, which returns when the daemon is ready."""
        self.systemctl("start", SERVICE)

    def configure(self, text: str) -> None:
        """Replace the configuration file in one step."""
        self.machine.put(f"{CONFIG}.new", text)
        self.machine.path(f"{CONFIG}.new").rename(self.machine.path(CONFIG))

    def edit(self, *changes: tuple[str, str]) -> None:
        """Replace lines of the shipped configuration: the first line of each pair,
        which must occur once, by the second.
        """
        text = self._shipped
        for old, new in changes:
            assert text.count(f"\n{old}\n") == 1, (
                f"{old!r} is not one line of the shipped configuration"
            )
            text = text.replace(f"\n{old}\n", f"\n{new}\n")
        self.configure(text)

    def drop_in(self, text: str) -> None:
        """Change the unit by a drop-in file."""
        self.machine.put(f"{DROP_INS}/test.conf", text)
        self.systemctl("daemon-reload")

    def allow_other_users(self) -> None:
        """Copy the drop-in programs.conf as its comment says."""
        self.machine.run("mkdir", "-p", DROP_INS)
        self.machine.run("cp", PROGRAMS_CONF, f"{DROP_INS}/programs.conf")
        self.systemctl("daemon-reload")

    # observations

    def show(self, name: str) -> str:
        """The unit's property ``name``."""
        return self.systemctl("show", "--property", name, "--value", SERVICE).stdout.strip()

    @property
    def pid(self) -> int:
        """The pid of the main process, in our namespace."""
        return self.machine.outer_pid(int(self.show("MainPID")))

    def children(self, title: str = "unpd: worker") -> list[int]:
        """The pids, in our namespace, of the children whose title begins so."""
        return [child.pid for child in procs.children(self.pid) if child.title.startswith(title)]

    def exposure(self) -> float:
        """The exposure that ``systemd-analyze security`` finds, from 0 (safe) to 10."""
        printed = self.machine.run("systemd-analyze", "security", "--no-pager", SERVICE).stdout
        return float(printed.rpartition(f"Overall exposure level for {SERVICE}: ")[2].split()[0])

    def samples(self) -> Samples:
        """The metrics now."""
        connection = http.client.HTTPConnection(*METRICS, timeout=10.0)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return parse_samples(connection.getresponse().read().decode())

    def messages(self) -> list[str]:
        """The messages of the daemon in the journal, in this test."""
        return [
            str(entry["MESSAGE"])
            for entry in self.machine.journal(self.since, _SYSTEMD_UNIT=SERVICE)
        ]

    def systemd_messages(self) -> list[str]:
        """The messages of systemd about the unit, in this test."""
        return [
            str(entry["MESSAGE"])
            for entry in self.machine.journal(self.since, _PID="1", UNIT=SERVICE)
        ]

    # failures

    def kill_main(self) -> None:
        """Kill the main process with SIGKILL. Return when its children are gone too:
        they die with it.
        """
        pid = self.pid
        family = [pid, *procs.child_pids(pid)]
        os.kill(pid, SIGKILL)
        until(
            lambda: not any(procs.alive(one) for one in family),
            5.0,
            "the children of a killed main process to go",
        )

    def wait_restarts(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until systemd has restarted the daemon ``count`` times and it is ready
        again.
        """

        def restarted() -> bool:
            return self.show("NRestarts") == str(count) and self.show("ActiveState") == "active"

        until(
            restarted,
            timeout_s,
            lambda: f"{count} restarts: {self.systemd_messages()} {self.messages()}",
        )


@contextlib.contextmanager
def under_load(
    address: Address = ECHO, kind: Literal["echo", "daytime"] = "echo"
) -> Iterator[loads.RunningLoad]:
    """Run short sessions at :data:`RATE`, some hundreds of them before the block."""
    with loads.running(address, kind, rate=RATE, concurrency=2000) as load:
        load.more(200)
        yield load


def summary(load: loads.RunningLoad) -> loads.LoadResult:
    """End the load, print its result and return it. AssertionError if its rate was
    below :data:`PROMISED_RATE`.
    """
    result = load.stop()
    latency = {name: round(value, 3) for name, value in result.latency_s.items()}
    print(
        f"{result.attempts} sessions at {result.rate:.0f} a second: {result.failed()}, latency in s"
        f" {latency}, longest gap {result.longest_gap_s:.2f} s"
    )
    assert result.rate >= PROMISED_RATE
    return result


def open_now(load: loads.RunningLoad) -> int:
    """How many connections of a load have no outcome yet. The number is exact while the
    generator is stopped.
    """
    return load.attempts() - sum(load.count(outcome) for outcome in OUTCOMES)


def package_path(directory: Path, version: str) -> Path:
    """The path of the deb of ``version``, as the build names it."""
    return directory / f"unpd_{version}_amd64.deb"


def install(machine: Machine, package: Path) -> str:
    """Install the file with apt, without a network. Return what apt prints."""
    place = f"/root/{package.name}"
    machine.put(place, package.read_bytes())
    done = machine.run("apt-get", "install", "--yes", "--quiet", place)
    return done.stdout + done.stderr
