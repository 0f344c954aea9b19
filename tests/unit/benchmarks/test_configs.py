"""The configuration files of the servers, and the lines that the generator expects."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.benchmarks.configs import (
    CHARGEN_LINES,
    DENIED,
    GUARDS,
    XINETD_LINES,
    Place,
    Service,
    balancer_config,
    changed,
    haproxy_config,
    unpd_config,
    xinetd_config,
)
from unpd.access.network import V4
from unpd.access.peer import Peer
from unpd.config.host import Host
from unpd.config.load import loads
from unpd.dispatcher.launch import prepare
from unpd.kernel.privileges import identify
from unpd.names import RefusalReason
from unpd.services.chargen import PERIOD_BYTES, lines
from unpd.services.program import ProgramOptions

ECHO, DAYTIME, METRICS, OWN, TARGET = 10007, 10013, 10080, 10099, 10098
PROGRAM = Path("/bin/true")
HOST = Host(uid=0, user="root", runtime_dir="/run", somaxconn=None, cpus=2)


def place(service: Service, directory: Path) -> Place:
    """A place of one row."""
    return Place(ECHO, DAYTIME, METRICS, OWN, service, directory, TARGET)


@pytest.mark.parametrize("service", list(Service))
def test_unpd_serves_what_the_row_measures(service: Service, tmp_path: Path) -> None:
    """Unpd takes the configuration of each row, and listens on the port to which the
    row's load goes.
    """
    where = place(service, tmp_path)
    config = loads(unpd_config(where, workers=1, program=PROGRAM), HOST).config
    scheme = "udp" if service is Service.UDP else "tcp"
    addresses = [address.text for each in config.services.values() for address in each.listen]
    assert f"{scheme}://127.0.0.1:{where.port}" in addresses
    own = service not in (Service.ECHO, Service.DAYTIME)
    assert len(addresses) == 2 + own


@pytest.mark.parametrize("service", [Service.ECHO, Service.DAYTIME])
def test_the_guarded_unpd_has_all_rules_and_limits(service: Service, tmp_path: Path) -> None:
    """Each service of the row decides about lists, shares and rates, none of which is
    only observed. They let every client of the benchmark in.
    """
    text = unpd_config(place(service, tmp_path), workers=1) + GUARDS
    for each in loads(text, HOST).config.services.values():
        terms = each.access
        assert {*terms.decided, *terms.queued} == {
            RefusalReason.DENIED,
            RefusalReason.DENY,
            RefusalReason.ALLOW,
            RefusalReason.MAX_PER_SOURCE,
            RefusalReason.ACCEPT_RATE,
            RefusalReason.ACCEPT_RATE_PER_SOURCE,
        }
        assert not terms.observe
        assert len(terms.deny) == DENIED
        client = Peer(V4, int(ip_address("127.0.0.1")))
        assert terms.allow.find(client)
        assert not terms.deny.find(client)


@pytest.mark.parametrize("service", [one for one in Service if one is not Service.REDIRECT])
def test_xinetd_serves_what_the_row_measures(service: Service, tmp_path: Path) -> None:
    """The configuration of xinetd has the row's port, once."""
    where = place(service, tmp_path)
    text = xinetd_config(where, PROGRAM)
    assert text.count(f"port = {where.port}\n") == 1
    assert ("socket_type = dgram" in text) is (service is Service.UDP)


@pytest.mark.parametrize("service", [Service.PROGRAM, Service.PROGRAM_USER])
def test_only_a_program_of_another_user_needs_a_fork(service: Service, tmp_path: Path) -> None:
    """What posix_spawn(3) can do is measured by one row, and a start by fork by the
    other. The row's key stands in the configuration of xinetd too.
    """
    where = place(service, tmp_path)
    options = loads(unpd_config(where, 1, PROGRAM), HOST).config.services["program"].options
    assert isinstance(options, ProgramOptions)
    changes = service is Service.PROGRAM_USER
    # Only for another user does the launcher stay root.
    children = identify("nobody", None, ()) if options.user else None
    assert prepare(options, "program", children, None).is_plain is not changes
    ((key, value),) = changed().items()
    assert (f"{key} = {value}\n" in xinetd_config(where, PROGRAM)) is changes


def test_haproxy_relays_to_the_target_of_the_row(tmp_path: Path) -> None:
    """In mode tcp and with one thread, from the row's port."""
    text = haproxy_config(place(Service.REDIRECT, tmp_path))
    assert "mode tcp\n" in text
    assert "nbthread 1\n" in text
    assert f"bind 127.0.0.1:{OWN} " in text
    assert f"server target 127.0.0.1:{TARGET}\n" in text


def test_the_lines_are_those_of_the_rfc() -> None:
    """The generator expects what unpd says, and of xinetd a period of the same
    length.
    """
    assert lines() == CHARGEN_LINES
    assert len(XINETD_LINES) == len(CHARGEN_LINES) == PERIOD_BYTES
    assert len(set(XINETD_LINES.split(b"\r\n"))) == 94


def test_haproxy_treats_each_unpd_as_the_manual_does(tmp_path: Path) -> None:
    """In the row with several of them: only the addresses are others."""
    targets = [replace(place(Service.ECHO, tmp_path), echo=1001, metrics=2001)] * 2
    text = balancer_config(place(Service.ECHO, tmp_path), targets)
    assert f"bind 127.0.0.1:{OWN} " in text
    for number in (1, 2):
        assert f"    server unpd{number} 127.0.0.1:1001 port 2001\n" in text
    for setting in ("leastconn", "httpchk", "check port", "send-proxy-v2", "tcp-ut", "redispatch"):
        assert setting in text
    assert "10.0.0." not in text
