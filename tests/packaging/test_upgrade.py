"""The upgrade of a whole system from Debian 12 to 13 under a running daemon."""

import os
from pathlib import Path

import pytest

from tests.packaging.installed import ECHO, Installed, install
from tests.packaging.machine import booted
from tests.packaging.root import BOOKWORM, TRIXIE, upgradable
from tests.support import clients

pytestmark = pytest.mark.packaging

UPGRADE = (
    *("apt-get", "full-upgrade", "--yes", "--quiet", "--no-download"),
    *("--option", "Dpkg::Options::=--force-confold"),
    *("--option", "APT::Install-Recommends=false"),  # as when its packages were downloaded
)
UPGRADE_S = 540.0


def python_of(unpd: Installed) -> str:
    """The file name of the program that the main process runs."""
    return Path(os.readlink(f"/proc/{unpd.pid}/exe").removesuffix(" (deleted)")).name


def test_unpd_survives_the_upgrade(can_boot: None, package: Path, tmp_path: Path) -> None:
    """The package stays installed, the daemon that runs serves on, and its next start
    is with the new Python, for which there is bytecode.
    """
    with booted(upgradable(), tmp_path / "console") as machine:
        install(machine, package)
        unpd = Installed(machine)
        unpd.since = machine.cursor()
        unpd.start()
        pid = unpd.pid
        assert python_of(unpd) == BOOKWORM.python
        with machine.network():
            assert clients.converse(ECHO, b"before") == b"before"
            machine.run(*UPGRADE, timeout_s=UPGRADE_S)
            assert machine.path("/etc/debian_version").read_text().startswith(str(TRIXIE.number))
            kept = machine.run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", "unpd")
            assert kept.stdout.strip() == "ii"
            assert unpd.pid == pid
            assert clients.converse(ECHO, b"after") == b"after"
            tag = TRIXIE.python.replace("python3.", "cpython-3")
            assert list(machine.path("/usr/lib/unpd/unpd/__pycache__").glob(f"*.{tag}.pyc"))
            unpd.systemctl("restart", "unpd")
            assert python_of(unpd) == TRIXIE.python
            assert clients.converse(ECHO, b"again") == b"again"
            assert machine.run("nc", "-N", "localhost", "13").stdout.endswith("\n")
        assert "Traceback" not in "".join(unpd.messages())
