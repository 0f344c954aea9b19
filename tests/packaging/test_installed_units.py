"""``unpd install-units`` where unpd comes from no package: the steps that it prints
lead to a service that serves.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.account import root, user
from tests.packaging.machine import Machine
from tests.support import clients

pytestmark = pytest.mark.packaging

PROGRAM = "/opt/unpd/bin/unpd"
LAUNCHER = """#!/usr/bin/python3 -IS
import sys

sys.path.insert(0, "/opt/unpd/lib")
from unpd.cli.main import main

sys.exit(main())
"""
DROP_IN = "/etc/systemd/system/unpd.service.d/socket-activation.conf"
ACTIVATED = """
[metrics]
listen = "systemd:metrics"
[services.daytime]
listen = ["systemd:daytime"]
[services.echo]
listen = ["systemd:echo"]
"""
ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:{port}"]\n'


@pytest.fixture
def unpackaged(fresh: Machine, package: Path, tmp_path: Path) -> Machine:
    """A machine with unpd and its libraries in /opt, where pip could have put them. It
    has no package of unpd, and no user unpd.
    """
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "deb"], check=True)
    fresh.put(PROGRAM, LAUNCHER, mode=0o755)
    shutil.copytree(tmp_path / "deb/usr/lib/unpd", fresh.path("/opt/unpd/lib"))
    return fresh


def test_the_steps_start_a_service(unpackaged: Machine) -> None:
    """Of the system: as the user unpd, with the sandbox of the packaged unit. systemd
    has no complaint about the units, and a second call changes nothing.
    """
    unpackaged.put("/etc/unpd/unpd.toml", ECHO.format(port=7))
    administrator = root(unpackaged, {})
    administrator.follow(administrator.run(f"{PROGRAM} install-units").stdout)
    assert clients.converse(("127.0.0.1", 7), b"hello") == b"hello"
    assert unpackaged.run("systemctl", "is-enabled", "unpd").stdout == "enabled\n"
    show = ("systemctl", "show", "--value", "--property")
    assert unpackaged.run(*show, "User", "unpd").stdout == "unpd\n"
    assert unpackaged.run(*show, "ProtectSystem", "unpd").stdout == "strict\n"
    units = ("unpd.service", "unpd.socket", "unpd-daytime.socket", "unpd-metrics.socket")
    verified = unpackaged.run("systemd-analyze", "verify", "--man=no", *units)
    assert verified.stdout + verified.stderr == ""
    again = unpackaged.run(PROGRAM, "install-units", "--force").stdout
    assert again.count("unchanged: /etc/systemd/system/unpd") == 7


def test_the_steps_of_the_drop_in_lead_to_socket_activation(unpackaged: Machine) -> None:
    """The first client starts the service, which has no network of its own. A reload
    finds the program.
    """
    unpackaged.put("/etc/unpd/unpd.toml", ACTIVATED)
    unpackaged.run(PROGRAM, "install-units")
    unpackaged.run("useradd", "--system", "unpd")
    unpackaged.run("cp", f"{DROP_IN}.example", DROP_IN)
    unpackaged.run("systemctl", "daemon-reload")
    unpackaged.run("systemctl", "enable", "--quiet", "--now", "unpd.socket")
    assert unpackaged.run("systemctl", "is-active", "unpd", check=False).stdout == "inactive\n"
    assert clients.converse(("127.0.0.1", 7), b"hello") == b"hello"
    unpackaged.run("systemctl", "start", "unpd.service")
    unpackaged.run("systemctl", "reload", "unpd.service")
    status = unpackaged.run(PROGRAM, "status", "--config", "/etc/unpd/unpd.toml").stdout
    assert "generation 2" in status
    show = ("systemctl", "show", "--value", "--property", "PrivateNetwork", "unpd")
    assert unpackaged.run(*show).stdout == "yes\n"


def test_a_user_has_a_service(unpackaged: Machine) -> None:
    """It starts, is asked, reloaded and stopped without a right of root."""
    alice = user(unpackaged, "alice", {})
    config = "/home/alice/.config/unpd/unpd.toml"
    printed = alice.run(f"{PROGRAM} install-units --user").stdout
    unpackaged.put(config, ECHO.format(port=10007))
    alice.follow(printed)
    assert clients.converse(("127.0.0.1", 10007), b"hello") == b"hello"
    status = f"{PROGRAM} status --config {config}"
    assert "generation 1" in alice.run(status).stdout
    alice.run("systemctl --user reload unpd.service")
    assert "generation 2" in alice.run(status).stdout
    alice.run("systemctl --user stop unpd.service")
    assert alice.run(status, check=False).returncode == 3
    with pytest.raises(ConnectionRefusedError):
        clients.connect(("127.0.0.1", 10007)).close()
