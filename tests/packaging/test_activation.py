"""Socket activation: systemd opens the sockets, and the service has no capability and
no network.
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
    """The package after the steps in the drop-in; the service is not started yet."""
    unpd.machine.run("install", "-D", "--mode=644", DROP_IN, f"{DROP_INS}/socket-activation.conf")
    unpd.edit(*BY_NAME, ('listen = ["tcp://[::]:7"]', 'listen = ["systemd:echo"]'))
    unpd.systemctl("daemon-reload")
    unpd.systemctl("enable", "--quiet", "--now", "unpd.socket")
    assert unpd.show("ActiveState") == "inactive"
    return unpd


def test_the_first_client_starts_it(activated: Installed) -> None:
    """The first client starts the service, which then serves the other sockets too."""
    assert clients.ask(DAYTIME)
    # A worker may answer before systemd has read the master's READY.
    until(lambda: activated.show("ActiveState") == "active", 5.0, "the unit to be active")
    assert clients.converse(ECHO, b"hello") == b"hello"
    assert activated.samples()


def test_it_sees_no_network(activated: Installed) -> None:
    """The main process and its children have no capability, and a network of their own
    that has only loopback.
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


def test_a_reload_is_obeyed(activated: Installed) -> None:
    """A reload by systemctl works, although the daemon's user namespace hides it from
    other processes of its user: the command comes as root.
    """
    activated.systemctl("start", SERVICE)
    activated.systemctl("reload", SERVICE)
    reloads = ("unpd_config_reloads_total", frozenset({("result", "success")}))
    assert activated.samples()[reloads] == 1


def test_exposure(activated: Installed) -> None:
    """The exposure of the unit is at most 0.4."""
    assert activated.exposure() <= 0.4


def test_kill_and_restart_under_load(activated: Installed) -> None:
    """No client is refused during a restart and after a kill, because systemd keeps the
    sockets.
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
        result = summary(load)
    assert (
        result.outcomes["refused"] == result.outcomes["timeout"] == result.outcomes["wrong"] == 0
    ), result
    assert sum(result.failed().values()) <= cut, (result, cut)


def test_clients_of_a_broken_configuration(activated: Installed) -> None:
    """A waiting client makes systemd start the service again and again while its
    configuration is broken. The sockets stay, and once the file is repaired the service
    answers that client.
    """
    activated.machine.put(f"{CONF_D}/10-broken.toml", "[daemon]\ngrace = 1\n")
    with clients.connect(DAYTIME) as waiting:
        until(
            lambda: sum('did you mean "grace_s"?' in line for line in activated.messages()) >= 3,
            30.0,
            "three starts to be refused",
        )
        activated.machine.run("rm", f"{CONF_D}/10-broken.toml")
        assert clients.read_all(waiting).endswith(b"\r\n")


def test_a_name_without_a_socket(activated: Installed) -> None:
    """If the configuration has a name that no socket unit has, the start fails and the
    journal names it.
    """
    activated.edit(*BY_NAME, ('listen = ["tcp://[::]:7"]', 'listen = ["systemd:nobody"]'))
    assert activated.systemctl("start", SERVICE, check=False).returncode != 0
    assert any("systemd:nobody" in line for line in activated.messages())
