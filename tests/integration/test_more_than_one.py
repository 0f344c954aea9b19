"""More than one machine: HAProxy before three unpd, with the configurations of unpd(8).
One is drained, one killed and one upgraded under load; limits and denials hold for each
instance alone, unless something before them counts.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM
from socket import socket

import pytest

from tests.support import ROOT, clients, faults, loads
from tests.support.balanced import (
    FAMILIES,
    HOSTS,
    IPV4,
    IPV6,
    LAME_DUCK,
    PAGE,
    PATIENCE_S,
    PORT,
    Family,
    Site,
    commands,
    orders,
    own_address,
    run_there,
    site,
    speaks,
)
from tests.support.documented import changed
from tests.support.launch import Launch
from tests.support.load_generator import OUTCOMES
from tests.support.loads import RunningLoad, cut_off
from tests.support.manual import example
from tests.support.operating import ask
from tests.support.waiting import holds, until
from unpd import __version__


def needs_machines(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that has HAProxy before namespaces."""
    marks = (pytest.mark.slow, faults.requires_root, faults.requires_namespaces())
    for mark in (*marks, faults.requires_tool("haproxy")):
        test = mark(test)
    return test


RATE, CONCURRENCY = 150, 16
OTHER_VERSION = "9.8.7"
LIMIT = 100
"""The manual's connections of a source."""
OPENED = 200
"""How many the manual lets a source open in 10 seconds."""
FOR_ALL = example(PAGE, "    stick-table")
"""The manual's lines for all instances together."""
DRAIN, READY, DENY4, DENY6, SHOW = orders()
each_family = pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])


@contextlib.contextmanager
def loaded(made: Site) -> Iterator[RunningLoad]:
    """Short connections all the time."""
    with contextlib.ExitStack() as stack:
        with made.net.clients.entered():
            running = loads.running((IPV4.front, PORT), rate=RATE, concurrency=CONCURRENCY)
            load = stack.enter_context(running)
        yield load


@contextlib.contextmanager
def held(made: Site, count: int, source: str = IPV4.client) -> Iterator[list[socket]]:
    """Long connections, each of which is served."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(made.connect(source)) for _ in range(count)]
        assert all(speaks(sock) for sock in socks)
        yield socks


def end(socks: list[socket]) -> None:
    """Close connections. HAProxy counts one that the server alone has ended, so that
    the machine would not be the one with the fewest.
    """
    for sock in socks:
        sock.close()


def failures(load: RunningLoad) -> int:
    """How many short connections were not served to their end."""
    return sum(load.count(outcome) for outcome in OUTCOMES if outcome != "ok")


@needs_machines
def test_nobody_is_refused_who_was_not_with_the_killed_one(
    launch: Launch, tmp_path: Path, public: Path
) -> None:
    """One machine is drained, one killed, one upgraded, under short and long
    connections: only those with the killed one are lost. A stop with the lame time of
    the manual loses none.

    The upgrade is a stop and the start of another program, a copy of ours with another
    version. The manual installs a package between the two: test_lifecycle.py of the
    packaging tests does so on a booted system, under a daemon that runs and without
    HAProxy.
    """
    with (
        site(launch, tmp_path) as made,
        loaded(made) as load,
        held(made, 12) as socks,
    ):
        of = {
            name: [sock for sock in socks if own_address(sock) in made.started(name)]
            for name in HOSTS
        }
        assert all(of.values()), of
        killed = [own_address(sock) for sock in of["two"]]
        load.more(RATE)
        drain_and_return(made, load, of["one"])
        assert failures(load) == 0

        lost = kill_and_return(made, load, of)
        assert lost <= CONCURRENCY

        upgrade(made, load, of["three"], public)
        stop_and_return(made, load)
        assert failures(load) == lost
        result = load.stop()
        result.assert_clean(at_least=5 * RATE, allow=cut_off(CONCURRENCY))
        assert made.balancer.machines_of([*killed, *result.lost]) == {"two"}


def drain_and_return(made: Site, load: RunningLoad, socks: list[socket]) -> None:
    """Take the first machine out as the manual does, and in again. Its long connections
    go on until they end themselves.
    """
    unpd = made.unpds["one"]
    made.balancer.perform(DRAIN)
    made.balancer.becomes("one", "DRAIN")
    load.more(CONCURRENCY)  # those that were on their way
    before = made.started("one")
    load.more(2 * RATE)
    assert made.started("one") == before
    assert all(speaks(sock) for sock in socks)
    end(socks)
    for command in commands("unpd"):
        done = unpd.run(*command, "--control", str(unpd.control))
        assert done.returncode == 0, done.stderr
        load.more(1)
    made.balancer.perform(READY)
    made.balancer.becomes("one", "UP")
    until(lambda: made.started("one") > before, PATIENCE_S, "clients on the first machine")


def kill_and_return(made: Site, load: RunningLoad, of: dict[str, list[socket]]) -> int:
    """Kill the second machine's daemon, and start it again. Return how many short
    connections were lost with it.
    """
    unpd = made.unpds["two"]
    unpd.expect_exit(-SIGKILL)
    assert unpd.stop(SIGKILL) == -SIGKILL
    made.balancer.becomes("two", "DOWN")
    load.more(2 * RATE)
    lost = failures(load)
    assert not any(speaks(sock) for sock in of["two"])
    end(of["two"])
    assert all(speaks(sock) for sock in of["three"])
    come_back(made, "two")
    assert failures(load) == lost
    return lost


def upgrade(made: Site, load: RunningLoad, socks: list[socket], place: Path) -> None:
    """Stop the third machine's daemon, and start another program in its place, which
    lies in the directory ``place``. HAProxy notices while the daemon is lame, and each
    long connection ends with a FIN.
    """
    unpd = made.unpds["three"]
    assert made.version("three") == __version__
    unpd.signal(SIGTERM)
    unpd.wait_event("master.lame")
    made.balancer.becomes("three", "DOWN")
    load.more(CONCURRENCY)
    taken = made.started("three")
    assert all(speaks(sock) for sock in socks)
    assert not unpd.log_events("master.stopping")
    unpd.signal(SIGTERM)  # ends the lame time, which is long here (HELD_LAME)
    assert [clients.read_all(sock) for sock in socks] == [b""] * len(socks)
    end(socks)
    assert unpd.wait_exit() == 0
    assert made.started("three") == taken, "a client came after HAProxy had noticed"
    assert not unpd.log_events("worker.drain_timed_out")
    put_another_program(place)
    come_back(made, "three", place)
    assert made.version("three") == OTHER_VERSION
    load.more(RATE)


def put_another_program(directory: Path) -> None:
    """Copy the program into a directory, with another version."""
    copy = directory / "unpd"
    shutil.copytree(ROOT / "unpd", copy, ignore=shutil.ignore_patterns("__pycache__"))
    module = copy / "__init__.py"
    module.write_text(changed(module.read_text(), {__version__: OTHER_VERSION}))


def stop_and_return(made: Site, load: RunningLoad) -> None:
    """Stop the first machine's daemon, which ends its lame time itself, and start it
    again.
    """
    unpd = made.unpds["one"]
    unpd.signal(SIGTERM)
    unpd.wait_event("master.lame", lame_duck_s=float(LAME_DUCK.rpartition("=")[2]))
    assert unpd.wait_exit() == 0
    assert not unpd.log_events("worker.drain_timed_out")
    load.more(RATE)
    come_back(made, "one")


def come_back(made: Site, name: str, program: Path | None = None) -> None:
    """Start a machine's daemon again, or that of another program, and wait until it has
    clients.
    """
    made.start(name, program)
    made.balancer.becomes(name, "UP")
    until(lambda: made.started(name), PATIENCE_S, f"clients on machine {name}")


@needs_machines
@each_family
def test_limits_see_the_real_client_and_hold_for_each_instance(
    launch: Launch, tmp_path: Path, family: Family
) -> None:
    """A source that has all its connections on the only machine is refused there, while
    another one, through the same HAProxy, is served. A second machine knows nothing of
    these connections, nor of a denial.
    """
    with site(launch, tmp_path) as made:
        for name in ("two", "three"):
            made.balancer.turn(name, "maint")
        with held(made, LIMIT, family.suspect):
            assert not made.serves(family.same_source)
            line = made.unpds["one"].wait_event("connection.refused", reason="max_per_source")
            assert line.fields["peer"] == family.same_source
            assert made.serves(family.client)
            made.balancer.turn("two", "ready")
            assert made.serves(family.suspect)
        made.balancer.turn("two", "maint")
        ask(made.unpds["one"].control, verb="deny", network=family.suspect)
        until(lambda: not made.serves(family.suspect), PATIENCE_S, "the denial to hold")
        made.balancer.turn("two", "ready")
        made.balancer.turn("one", "maint")
        assert made.serves(family.suspect)


@needs_machines
@each_family
def test_haproxy_limits_and_denies_for_all_instances(
    launch: Launch, tmp_path: Path, family: Family
) -> None:
    """Its table counts the connections of a source to all machines together, that of a
    /64 of IPv6 too, and what its list denies reaches none of them.
    """
    with site(launch, tmp_path, FOR_ALL) as made:
        with held(made, LIMIT, family.suspect):
            assert not made.serves(family.same_source)
            assert made.serves(family.client)
            shown = made.balancer.perform(SHOW)
            source = family.suspect if family is IPV4 else "2001:db8:7::"
            assert f"{source} " in shown
            assert f"conn_cur={LIMIT}" in shown
            assert all(len(made.started(name)) < LIMIT for name in HOSTS)
            assert not any(unpd.log_events("connection.refused") for unpd in made.unpds.values())
        until(
            lambda: made.serves(family.suspect), PATIENCE_S, "the places of connections that ended"
        )
        with held(made, 1, family.suspect) as socks:
            made.balancer.perform(DENY4 if family is IPV4 else DENY6)
            assert not made.serves(family.suspect)
            assert made.serves(family.client)
            assert speaks(socks[0]), "a connection that was open has ended"


@needs_machines
def test_haproxy_limits_the_rate_and_denies_from_its_start(launch: Launch, tmp_path: Path) -> None:
    """A source that opens many connections, one after the other, is refused once the
    rate of the manual is over, and others are served. The networks in the list reach no
    machine.
    """
    with site(launch, tmp_path, FOR_ALL, "192.0.2.0/24\n2001:db8:7::/48\n") as made:
        for family in FAMILIES:
            assert not made.serves(family.suspect)
        tries = range(10 * OPENED)
        opened = next((number for number in tries if not made.serves(IPV4.client)), 0)
        assert opened >= OPENED
        shown = made.balancer.perform(SHOW)
        (row,) = (line for line in shown.splitlines() if f"{IPV4.client} " in line)
        counts = dict(re.findall(r"(conn_\w+).*?=(\d+)", row))
        assert int(counts["conn_rate"]) > OPENED
        assert int(counts["conn_cur"]) < LIMIT
        assert made.serves(IPV6.client)


@needs_machines
@faults.requires_tool("nft")
@each_family
def test_nftables_drops_before_every_instance(
    launch: Launch, tmp_path: Path, family: Family
) -> None:
    """A network in the set reaches nobody, also over connections that are open, which
    go on when it is taken out.
    """
    with site(launch, tmp_path) as made, held(made, 1, family.suspect) as socks:
        balancer = made.net.balancer
        run_there(balancer, "nft", "-f", "-", data=example(PAGE, "add table inet"))
        assert made.serves(family.suspect)
        (command,) = (each for each in commands("nft") if family.denied in each)
        run_there(balancer, "nft", *command)
        with pytest.raises(TimeoutError):
            made.connect(family.suspect, timeout_s=1.0).close()
        socks[0].sendall(b"late")
        socks[0].setblocking(False)
        holds(lambda: not _has_come(socks[0]), 0.5, "no answer")
        assert made.serves(family.client)
        run_there(balancer, "nft", "flush", "set", "inet", "unpd", family.denied)
        socks[0].settimeout(PATIENCE_S)
        assert clients.read_exactly(socks[0], 4) == b"late"
        assert made.serves(family.suspect)


def _has_come(sock: socket) -> bool:
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return False
