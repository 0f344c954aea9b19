"""The life of the package: installation, upgrade, removal, purge, each on a machine of
its own.
"""

import re
from pathlib import Path

import pytest

from tests.packaging.installed import (
    CONFIG,
    ECHO,
    PREVIOUS,
    SERVICE,
    Installed,
    install,
    summary,
    under_load,
)
from tests.packaging.machine import Machine
from tests.support import clients
from unpd import __version__

pytestmark = pytest.mark.packaging

KEEPERS = (
    "/dev",
    "/proc",
    "/run",
    "/root",
    "/sys",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd/catalog",
)
LOGS = ("/var/log/apt", "/var/log/journal", "/var/log/alternatives.log", "/var/log/dpkg.log")
"""Paths that apt, dpkg and the journal write for themselves."""


def test_install_and_start(fresh: Machine, package: Path) -> None:
    """On a fresh Debian 12, `apt install ./unpd_*.deb && systemctl start unpd && nc -N
    localhost 13` prints the time.
    """
    install(fresh, package)
    fresh.run("systemctl", "start", "unpd")
    assert re.fullmatch(
        r"\w{3} \w{3} .* \d{4}\r?\n", fresh.run("nc", "-N", "localhost", "13").stdout
    )
    assert fresh.run("systemctl", "is-enabled", "unpd").stdout.strip() == "enabled"


def test_upgrade_under_load(fresh: Machine, previous: Path, package: Path) -> None:
    """An upgrade replaces the running daemon and refuses or resets no client. The
    administrator's configuration stays, and the counters go on.
    """
    install(fresh, previous)
    unpd = Installed(fresh)
    unpd.edit(("idle_timeout_s = 600", "idle_timeout_s = 500"))
    unpd.start()
    edited = fresh.path(CONFIG).read_text()
    assert PREVIOUS in fresh.run("unpd", "status").stdout
    pid = unpd.pid
    with under_load() as load:
        install(fresh, package)
        load.more(500)
        result = summary(load)
    result.assert_clean(at_least=700)
    assert unpd.pid != pid
    assert __version__ in fresh.run("unpd", "status").stdout
    assert fresh.path(CONFIG).read_text() == edited
    assert (
        unpd.samples()[("unpd_connections_accepted_total", frozenset({("service", "echo")}))]
        == result.attempts
    )


def test_remove_and_purge(fresh: Machine, package: Path) -> None:
    """A removal stops the daemon and keeps the configuration. A purge leaves nothing of
    unpd.
    """
    before = files(fresh)
    users = fresh.path("/etc/passwd").read_text()
    install(fresh, package)
    unpd = Installed(fresh)
    unpd.edit(
        ("idle_timeout_s = 600", "idle_timeout_s = 500"),
        ('file = ""', 'file = "/var/log/unpd/unpd.log"'),
    )
    unpd.start()
    assert fresh.path("/var/log/unpd/unpd.log").stat().st_size > 0
    fresh.run("apt-get", "remove", "--yes", "--quiet", "unpd")
    with pytest.raises(ConnectionRefusedError):
        clients.connect(ECHO).close()
    assert unpd.show("MainPID") == "0"
    assert fresh.path(CONFIG).exists()
    fresh.run("apt-get", "purge", "--yes", "--quiet", "unpd")
    assert files(fresh) - before == set()
    assert not fresh.path("/run/unpd").exists()
    assert fresh.run("systemctl", "cat", SERVICE, check=False).returncode != 0
    assert fresh.path("/etc/passwd").read_text() == users


def test_an_upgrade_leaves_a_daemon_that_could_not_come_back(
    fresh: Machine, previous: Path, package: Path
) -> None:
    """If the configuration on disk is broken, an upgrade says so, and the daemon serves
    on.
    """
    install(fresh, previous)
    unpd = Installed(fresh)
    unpd.start()
    pid = unpd.pid
    unpd.edit(("grace_s = 10", "grace = 10"))
    printed = install(fresh, package)
    assert "the configuration is refused" in printed
    assert unpd.pid == pid
    assert clients.converse(ECHO, b"hello") == b"hello"


def test_what_was_removed_comes_back(fresh: Machine, package: Path) -> None:
    """After a removal and a new installation, the service is enabled and serves as
    before, with the administrator's configuration.
    """
    install(fresh, package)
    unpd = Installed(fresh)
    unpd.edit(('format = "ctime"', 'format = "iso8601"'))
    edited = fresh.path(CONFIG).read_text()
    fresh.run("apt-get", "remove", "--yes", "--quiet", "unpd")
    install(fresh, package)
    assert fresh.path(CONFIG).read_text() == edited
    unpd.start()
    assert clients.converse(ECHO, b"hello") == b"hello"


def files(machine: Machine) -> set[str]:
    """Every path on the machine, without those that other programs write."""
    pruned = [word for keeper in KEEPERS + LOGS for word in ("-path", keeper, "-prune", "-o")]
    return set(machine.run("find", "/", *pruned, "-print").stdout.splitlines())
