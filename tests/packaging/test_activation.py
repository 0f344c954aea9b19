"""The variant in which systemd opens the sockets, and the service has neither a
capability nor a network.
"""

import os

import pytest

from tests.packaging.installed import (
    CONF_D,
    DAYTIME,
    DROP_INS,
    ECHO,
    SERVICE,
    Installed,
    open_now,
    summary,
    under_load,
)
from tests.support import clients, procs
from tests.support.waiting import until

pytestmark = pytest.mark.packaging

BY_NAME = (
    ('listen = "tcp://127.0.0.1:9867"', 'listen = "systemd:metrics"'),
    ('listen = ["tcp://[::]:13"]', 'listen = ["systemd:daytime"]'),
)
DROP_IN = "/usr/share/doc/unpd/examples/socket-activation.conf"


@pytest.fixture
def activated(unpd: Installed) -> Installed:
    """Set up as the shipped drop-in says, up to the sockets: nobody serves yet."""
    unpd.machine.run("install", "-D", "--mode=644", DROP_IN, f"{DROP_INS}/socket-activation.conf")
    unpd.edit(*BY_NAME, ('listen = ["tcp://[::]:7"]', 'listen = ["systemd:echo"]'))
    unpd.systemctl("daemon-reload")
    unpd.systemctl("enable", "--quiet", "--now", "unpd.socket")
    assert unpd.show("ActiveState") == "inactive"
    return unpd


def test_the_first_client_starts_it(activated: Installed) -> None:
    """Whoever comes first is served, and so are those of the other sockets."""
    assert clients.ask(DAYTIME)
    assert activated.show("ActiveState") == "active"
    assert clients.converse(ECHO, b"hello") == b"hello"
    assert activated.samples()


def test_it_sees_no_network(activated: Installed) -> None:
    """The main process and its children have a network of their own, in which there is
    loopback alone, and no capability.
    """
    activated.systemctl("start", SERVICE)
    ours = os.readlink("/proc/self/ns/net")
    for pid in (activated.pid, *activated.children("unpd: ")):
        assert os.readlink(f"/proc/{pid}/ns/net") != ours
        interfaces = [
            line.split(":")[0].strip()
            for line in (procs.PROC / str(pid) / "net/dev").read_text().splitlines()[2:]
        ]
        assert interfaces == ["lo"]
        capabilities = procs.credentials(pid).capabilities
        assert capabilities["CapEff"] == capabilities["CapBnd"] == capabilities["CapAmb"] == 0
    assert clients.converse(ECHO, b"hello") == b"hello"


def test_exposure(activated: Installed) -> None:
    """What is left is next to nothing."""
    assert activated.exposure() <= 0.4


def test_kill_and_restart_under_load(activated: Installed) -> None:
    """Systemd keeps the sockets, so nobody is refused whatever becomes of the
    service.
    """
    activated.systemctl("start", SERVICE)
    with under_load() as load:
        activated.systemctl("restart", SERVICE)
        load.more(500)
        with procs.stopped([load.pid]):
            cut = open_now(load)
            activated.kill_main()
        activated.wait_restarts(1)
        load.more(500)
        said = summary(load)
    assert said.outcomes["refused"] == said.outcomes["timeout"] == said.outcomes["wrong"] == 0, said
    assert sum(said.failed().values()) <= cut, (said, cut)


def test_clients_of_a_broken_configuration(activated: Installed) -> None:
    """A client has systemd start a service that is refused, again and again; the
    sockets stay, and once the file is mended the one who waited is served.
    """
    activated.machine.put(f"{CONF_D}/10-broken.toml", "[daemon]\ngrace = 1\n")
    with clients.connect(DAYTIME) as waiting:
        until(
            lambda: sum('did you mean "grace_s"?' in line for line in activated.said()) >= 3,
            30.0,
            "three starts to be refused",
        )
        activated.machine.run("rm", f"{CONF_D}/10-broken.toml")
        assert clients.read_all(waiting).endswith(b"\r\n")


def test_a_name_without_a_socket(activated: Installed) -> None:
    """A name in the configuration that no socket unit has is a clear error, and no
    start.
    """
    activated.edit(*BY_NAME, ('listen = ["tcp://[::]:7"]', 'listen = ["systemd:nobody"]'))
    assert activated.systemctl("start", SERVICE, check=False).returncode != 0
    assert any("systemd:nobody" in line for line in activated.said())
