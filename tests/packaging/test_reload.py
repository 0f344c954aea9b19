"""Reloads: an administrator edits the configuration under /etc/unpd and runs `systemctl
reload`.
"""

import pytest

from tests.packaging.installed import CONF_D, DAYTIME, ECHO, Installed, summary, under_load
from tests.support import clients

pytestmark = pytest.mark.packaging

SECOND = '[services.second]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:7007"]\n'


def test_edit_and_reload(unpd: Installed) -> None:
    """When `systemctl reload` returns, the new configuration is in use."""
    unpd.start()
    unpd.edit(('format = "ctime"', 'format = "iso8601"'))
    unpd.systemctl("reload", "unpd")
    assert clients.ask(DAYTIME)[10:11] == b"T"
    assert "generation 2" in unpd.show("StatusText")


def test_a_refused_reload(unpd: Installed) -> None:
    """`systemctl reload` fails, the reason is in the journal, and the old configuration
    goes on.
    """
    unpd.start()
    unpd.edit(("grace_s = 10", "grace = 10"))
    refused = unpd.systemctl("reload", "unpd", check=False)
    assert refused.returncode != 0
    assert any('did you mean "grace_s"?' in line for line in unpd.messages())
    assert unpd.show("ActiveState") == "active"
    assert clients.converse(ECHO, b"hello") == b"hello"
    assert "generation 1" in unpd.show("StatusText")


def test_a_reload_of_what_is_no_toml(unpd: Installed) -> None:
    """The daemon also answers for a file that it cannot parse: it logs the reason, and
    the metric shows that the last reload failed.
    """
    unpd.start()
    unpd.machine.put(f"{CONF_D}/10-broken.toml", "[[[ oops\n")
    assert unpd.systemctl("reload", "unpd", check=False).returncode != 0
    assert any("10-broken.toml:1: not valid TOML" in line for line in unpd.messages())
    assert unpd.samples()[("unpd_config_last_reload_successful", frozenset())] == 0
    assert clients.converse(ECHO, b"hello") == b"hello"


def test_a_configuration_of_services_alone(unpd: Installed) -> None:
    """Every key may be missing. Without [daemon] the control socket lies in the unit's
    runtime directory, where root's commands look for it.
    """
    unpd.configure('[services.echo]\nlisten = ["tcp://127.0.0.1:7"]\n')
    unpd.start()
    assert "generation 1" in unpd.machine.run("unpd", "status").stdout
    unpd.systemctl("reload", "unpd")
    assert "generation 2" in unpd.machine.run("unpd", "status").stdout
    unpd.machine.run("unpd", "stop")


def test_a_drop_in_file(unpd: Installed) -> None:
    """A check shows the service of a file in conf.d, and a reload serves it."""
    unpd.start()
    unpd.machine.put(f"{CONF_D}/10-second.toml", SECOND)
    assert "second" in unpd.machine.run("unpd", "check", "--show").stdout
    unpd.systemctl("reload", "unpd")
    assert clients.converse(("127.0.0.1", 7007), b"hello") == b"hello"


def test_a_service_that_is_defined_twice(unpd: Installed) -> None:
    """If two files define one service, the check names both and the reload fails."""
    unpd.start()
    unpd.machine.put(f"{CONF_D}/10-second.toml", SECOND)
    unpd.machine.put(f"{CONF_D}/20-second.toml", SECOND)
    checked = unpd.machine.run("unpd", "check", check=False)
    assert checked.returncode == 78
    assert "10-second.toml" in checked.stderr
    assert "20-second.toml" in checked.stderr
    assert unpd.systemctl("reload", "unpd", check=False).returncode != 0
    assert clients.converse(ECHO, b"hello") == b"hello"


def test_reloads_under_load(unpd: Installed) -> None:
    """Reloads, each with another configuration, refuse and reset no client."""
    unpd.start()
    with under_load() as load:
        for size in (3000, 4096, 2000):
            unpd.edit(("backlog = 4096", f"backlog = {size}"))
            unpd.systemctl("reload", "unpd")
            load.more(200)
        result = summary(load)
    result.assert_clean(at_least=800)
