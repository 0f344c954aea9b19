"""A second instance of unpd beside unpd.service: ``systemctl start unpd@NAME``."""

from collections.abc import Iterator

import pytest

from tests.packaging.installed import ECHO, Installed
from tests.support import clients

pytestmark = pytest.mark.packaging

CONFIG = "/etc/unpd/lab/unpd.toml"
TEXT = """
[metrics]
listen = "tcp://127.0.0.1:9868"
[services.echo]
listen = ["tcp://127.0.0.1:1007"]
"""
LAB_ECHO = ("127.0.0.1", 1007)


@pytest.fixture
def both(unpd: Installed) -> Iterator[Installed]:
    """unpd.service and an instance run side by side."""
    unpd.start()
    unpd.machine.run("mkdir", "-p", "/etc/unpd/lab/conf.d")
    unpd.machine.put(CONFIG, TEXT)
    unpd.systemctl("start", "unpd@lab")
    yield unpd
    unpd.systemctl("stop", "unpd@lab", check=False)
    unpd.machine.run("rm", "-r", "/etc/unpd/lab")


def main_pid(unpd: Installed, unit: str) -> str:
    """The pid of the unit's main process, "0" if it does not run."""
    return unpd.systemctl("show", "--property", "MainPID", "--value", unit).stdout.strip()


def test_each_instance_is_a_daemon_of_its_own(both: Installed) -> None:
    """Each serves its own ports. The commands find the one that the configuration
    belongs to, without --control: status, reload and stop reach no other.
    """
    assert clients.converse(ECHO, b"first") == b"first"
    assert clients.converse(LAB_ECHO, b"second") == b"second"
    shown = both.machine.run("unpd", "status", "--config", CONFIG).stdout
    assert f"pid {main_pid(both, 'unpd@lab')}," in shown
    assert "tcp://127.0.0.1:1007" in shown
    both.systemctl("reload", "unpd@lab")
    assert "generation 2" in both.machine.run("unpd", "status", "--config", CONFIG).stdout
    assert "generation 1" in both.machine.run("unpd", "status").stdout
    both.machine.run("unpd", "stop", "--config", CONFIG)
    assert main_pid(both, "unpd@lab") == "0"
    assert clients.converse(ECHO, b"first") == b"first"


def test_an_instance_is_as_confined(both: Installed) -> None:
    """The instance has the exposure of unpd.service."""
    printed = both.machine.run(
        "systemd-analyze", "security", "--no-pager", "unpd@lab.service"
    ).stdout
    assert float(printed.rpartition("unpd@lab.service: ")[2].split()[0]) == both.exposure()
