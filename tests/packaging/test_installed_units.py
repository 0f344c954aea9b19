"""``unpd install-units`` where unpd comes from no package: the steps that it prints
lead to a service that serves.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

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
    printed = unpackaged.run(PROGRAM, "install-units").stdout
    for step in printed.partition("\nnext:\n")[2].splitlines():
        if not step.strip().startswith("write "):
            unpackaged.run("sh", "-c", step)
    assert clients.converse(("127.0.0.1", 7), b"hello") == b"hello"
    assert unpackaged.run("systemctl", "is-enabled", "unpd").stdout == "enabled\n"
    show = ("systemctl", "show", "--value", "--property")
    assert unpackaged.run(*show, "User", "unpd").stdout == "unpd\n"
    assert unpackaged.run(*show, "ProtectSystem", "unpd").stdout == "strict\n"
    units = ("unpd.service", "unpd.socket", "unpd-daytime.socket", "unpd-metrics.socket")
    verified = unpackaged.run("systemd-analyze", "verify", "--man=no", *units)
    assert verified.stdout + verified.stderr == ""
    again = unpackaged.run(PROGRAM, "install-units", "--force").stdout
    assert again.count("unchanged: /etc/systemd/system/unpd") == 5


def test_a_user_has_a_service(unpackaged: Machine) -> None:
    """It starts, is asked, reloaded and stopped without a right of root."""
    unpackaged.run("useradd", "--create-home", "alice")
    uid = unpackaged.run("id", "--user", "alice").stdout.strip()
    unpackaged.run("systemctl", "start", f"user@{uid}.service")
    variables = ("HOME=/home/alice", f"XDG_RUNTIME_DIR=/run/user/{uid}")
    become = ("setpriv", "--reuid=alice", "--regid=alice", "--init-groups", "env", *variables)
    config = "/home/alice/.config/unpd/unpd.toml"
    unpackaged.run(*become, PROGRAM, "install-units", "--user")
    unpackaged.put(config, ECHO.format(port=10007))
    unpackaged.run(*become, "systemctl", "--user", "daemon-reload")
    unpackaged.run(*become, "systemctl", "--user", "enable", "--now", "unpd.service")
    assert clients.converse(("127.0.0.1", 10007), b"hello") == b"hello"
    status = (*become, PROGRAM, "status", "--config", config)
    assert "generation 1" in unpackaged.run(*status).stdout
    unpackaged.run(*become, "systemctl", "--user", "reload", "unpd.service")
    assert "generation 2" in unpackaged.run(*status).stdout
    unpackaged.run(*become, "systemctl", "--user", "stop", "unpd.service")
    assert unpackaged.run(*status, check=False).returncode == 3
    with pytest.raises(ConnectionRefusedError):
        clients.connect(("127.0.0.1", 10007)).close()
