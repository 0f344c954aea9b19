"""The life of the package: installation, upgrade, removal, purge, each on a machine of
its own.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.installed import (
    CONF_D,
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
from tests.support import ROOT, clients
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
REFUSED = (
    "unpd: the configuration (/etc/unpd/unpd.toml) is refused, checked with the rights of the"
    " service"
)
LOGS = ("/var/log/apt", "/var/log/journal", "/var/log/alternatives.log", "/var/log/dpkg.log")
"""Paths that apt, dpkg and the journal write for themselves."""


def test_install_and_start(fresh: Machine, package: Path) -> None:
    """On a fresh Debian, `apt install ./unpd_*.deb && systemctl start unpd && nc -N
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
    assert REFUSED in printed
    assert unpd.pid == pid
    assert clients.converse(ECHO, b"hello") == b"hello"


def test_an_upgrade_checks_as_the_daemon(fresh: Machine, previous: Path, package: Path) -> None:
    """An upgrade does not restart a daemon that could no longer read its configuration,
    although root can: a drop-in that only root may read, and then one that the sandbox
    hides. It says so, and the daemon serves on. Once that is repaired, the next upgrade
    restarts it.
    """
    install(fresh, previous)
    unpd = Installed(fresh)
    unpd.start()
    pid = unpd.pid
    fresh.put(f"{CONF_D}/secret.toml", "[log]\nlevel = 'debug'\n", mode=0o600)
    verdict = f"configuration OK: {CONFIG} and 1 drop-in in {CONF_D}\n"
    assert fresh.run("unpd", "check").stdout == verdict
    printed = install(fresh, package)
    assert f"unpd: {CONF_D}/secret.toml: the file cannot be read by user unpd" in printed
    assert REFUSED in printed
    assert unpd.pid == pid
    fresh.run("rm", f"{CONF_D}/secret.toml")
    fresh.put("/home/admin/hidden.toml", "[log]\nlevel = 'debug'\n")
    fresh.run("ln", "-s", "/home/admin/hidden.toml", CONF_D)
    printed = reinstall(fresh, package)
    assert f"unpd: {CONF_D}/hidden.toml: " in printed
    assert REFUSED in printed
    assert unpd.pid == pid
    assert clients.converse(ECHO, b"hello") == b"hello"
    fresh.run("rm", f"{CONF_D}/hidden.toml")
    assert REFUSED not in reinstall(fresh, package)
    assert unpd.pid != pid
    assert clients.converse(ECHO, b"hello") == b"hello"


def reinstall(machine: Machine, package: Path) -> str:
    """Upgrade to the same version once more; return what apt prints."""
    done = machine.run("apt-get", "install", "--reinstall", "--yes", f"/root/{package.name}")
    return done.stdout + done.stderr


def test_an_upgrade_of_the_rpm_checks_as_the_daemon(
    fresh: Machine, package: Path, posttrans: str
) -> None:
    """The rpm's last scriptlet takes the mark back by which systemd would restart a
    daemon that could no longer read its configuration. A daemon that can come back
    keeps its mark, and systemd restarts it.
    """
    install(fresh, package)
    unpd = Installed(fresh)
    unpd.start()
    pid = unpd.pid
    mark = ("systemctl", "set-property", SERVICE, "Markers=+needs-restart")
    restart = ("systemctl", "reload-or-restart", "--marked")  # systemd's own trigger
    fresh.put(f"{CONF_D}/secret.toml", "[log]\nlevel = 'debug'\n", mode=0o600)
    fresh.run(*mark)
    done = fresh.run("sh", "-c", posttrans, "posttrans", "1")
    assert f"unpd: {CONF_D}/secret.toml: the file cannot be read by user unpd" in done.stderr
    assert REFUSED in done.stderr
    fresh.run(*restart, check=False)
    assert unpd.pid == pid
    fresh.path(f"{CONF_D}/secret.toml").chmod(0o644)
    fresh.run(*mark)
    assert fresh.run("sh", "-c", posttrans, "posttrans", "1").stderr == ""
    fresh.run(*restart)
    assert unpd.pid != pid
    unpd.systemctl("stop", SERVICE)
    fresh.path(f"{CONF_D}/secret.toml").chmod(0o600)
    assert fresh.run("sh", "-c", posttrans, "posttrans", "1").stderr == ""


def test_an_upgrade_checks_a_main_process_that_is_root(
    fresh: Machine, previous: Path, package: Path, posttrans: str
) -> None:
    """With programs.conf, too, an upgrade of either package leaves a daemon alone whose
    configuration is refused, and restarts one that can come back.
    """
    install(fresh, previous)
    unpd = Installed(fresh)
    unpd.allow_other_users()
    unpd.start()
    pid = unpd.pid
    unpd.edit(("grace_s = 10", "grace = 10"))
    printed = install(fresh, package)
    assert REFUSED in printed
    assert "cannot check" not in printed
    assert REFUSED in fresh.run("sh", "-c", posttrans, "posttrans", "1").stderr
    assert unpd.pid == pid
    assert clients.converse(ECHO, b"hello") == b"hello"
    unpd.edit()
    assert fresh.run("sh", "-c", posttrans, "posttrans", "1").stderr == ""
    assert REFUSED not in reinstall(fresh, package)
    assert unpd.pid != pid
    assert clients.converse(ECHO, b"hello") == b"hello"


@pytest.fixture
def posttrans(tmp_path: Path) -> str:
    """The scriptlet that the rpm runs last, out of a built rpm, with Debian's Python in
    place of RHEL's.
    """
    command = [sys.executable, "packaging/build.py", "rpm", "--output", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    (rpm,) = tmp_path.glob("*.rpm")
    query = ["rpm", "--query", "--package", "--queryformat", "%{POSTTRANS}", str(rpm)]
    script = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    assert script.count("/usr/bin/python3.12 ") == 1
    return script.replace("/usr/bin/python3.12 ", "/usr/bin/python3 ")


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
