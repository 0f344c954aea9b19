"""Connections of load balancers in a dispatcher that is turned by hand, over real
sockets; its sessions have no processes. What a header means is told by
tests/integration/test_arrivals.py.
"""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.integration.test_arrivals import MALFORMED, header, rules
from tests.support import clients
from tests.support.dispatching import DispatcherBench
from unpd.access.network import Network
from unpd.access.terms import AccessTerms, OnLimit
from unpd.board import layout
from unpd.board.layout import Service
from unpd.kernel.connections import address_text
from unpd.loop import now
from unpd.names import ChildOrder, HeaderResult
from unpd.worker.selection import Kick, Selection

PLACES = 3
PROXIES = rules("127.0.0.1")
BALANCED = AccessTerms(max_connections=PLACES, proxies=PROXIES)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes what a test leaves open."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(stack: contextlib.ExitStack) -> DispatcherBench:
    """A dispatcher whose clients all come from a load balancer."""
    return DispatcherBench(stack, BALANCED, places=PLACES)


def served(bench: DispatcherBench) -> list[str]:
    """The clients of the sessions that were forked."""
    return [address_text(peer) for peer in bench.processes.peers]


def becomes(bench: DispatcherBench, *peers: str) -> None:
    """Turn until these clients are served."""
    bench.until(lambda: served(bench) == list(peers), f"the sessions of {peers}")


def arriving(bench: DispatcherBench, count: int) -> None:
    """Turn until so many connections wait for their header."""
    arrivals = bench.dispatcher._arrivals  # noqa: SLF001
    bench.until(lambda: len(arrivals) == count, f"{count} arrivals")


def over(bench: DispatcherBench) -> dict[HeaderResult, int]:
    """What came of the headers."""
    counts = {
        result: bench.count(Service.PROXY_HEADERS + index)
        for index, result in enumerate(layout.HEADER_RESULTS)
    }
    return {result: count for result, count in counts.items() if count}


def gone(sock: socket.socket) -> bool:
    """Whether the connection has ended."""
    with contextlib.suppress(ConnectionResetError):
        return clients.read_all(sock) == b""
    return True


def test_a_header_that_is_awaited_holds_up_nobody(bench: DispatcherBench) -> None:
    """Others are served meanwhile, and its client when it has come."""
    slow, quick = bench.connect(), bench.connect()
    for byte in header()[:-1]:
        slow.send(bytes((byte,)))
        bench.turn()
    quick.sendall(header("192.0.2.8"))
    becomes(bench, "192.0.2.8:51234")
    slow.sendall(header()[-1:])
    becomes(bench, "192.0.2.8:51234", "192.0.2.7:51234")
    assert over(bench) == {HeaderResult.TOLD: 2}
    assert (bench.accepted, bench.open) == ([2], 2)


def test_without_a_proper_header_nothing_is_forked(bench: DispatcherBench) -> None:
    """The connection ends, and its place is free."""
    for _ in range(PLACES + 1):
        sock = bench.connect()
        sock.sendall(MALFORMED)
        bench.until(lambda: not bench.open, "the end")
        assert gone(sock)
    bench.until(lambda: over(bench) == {HeaderResult.MALFORMED: PLACES + 1}, "all")
    assert (bench.accepted, served(bench)) == ([0], [])
    assert bench.events("connection.no_header")[0]["peer"] == "127.0.0.1"


def test_arrivals_have_places_of_their_service(bench: DispatcherBench) -> None:
    """So there are no more sessions than may be, however the headers come."""
    socks = [bench.connect() for _ in range(PLACES + 1)]
    arriving(bench, PLACES)
    for number, sock in enumerate(socks):
        sock.sendall(header(f"192.0.2.{number}"))
    first = [f"192.0.2.{number}:51234" for number in range(PLACES)]
    becomes(bench, *first)
    bench.turn()
    assert served(bench) == first
    bench.end_oldest()
    becomes(bench, *first, f"192.0.2.{PLACES}:51234")


def test_a_service_that_turns_away_bounds_its_arrivals_too(stack: contextlib.ExitStack) -> None:
    """As many may wait for their headers as sessions may be there. The limit is asked
    about each client.
    """
    terms = AccessTerms(max_connections=PLACES, proxies=PROXIES, on_limit=OnLimit.REFUSE)
    bench = DispatcherBench(stack, terms, places=PLACES)
    for _ in range(PLACES):
        bench.connect().sendall(header())
    becomes(bench, *["192.0.2.7:51234"] * PLACES)
    socks = [bench.connect() for _ in range(PLACES + 1)]
    arriving(bench, PLACES)
    bench.turn()
    arriving(bench, PLACES)
    for sock in socks:
        sock.sendall(header())
    bench.until(lambda: over(bench) == {HeaderResult.TOLD: 2 * PLACES + 1}, "all")
    assert all(map(gone, socks))
    assert len(served(bench)) == PLACES


def test_a_fork_that_is_refused_keeps_the_clients_in_order(bench: DispatcherBench) -> None:
    """Headers that come meanwhile are taken. Nobody is accepted until the first has its
    process.
    """
    first, second = bench.connect(), bench.connect()
    arriving(bench, 2)
    bench.processes.refusal = BlockingIOError(11, "no process is left")
    first.sendall(header("192.0.2.1"))
    bench.until(lambda: bench.events("session.fork_failed"), "the refusal")
    bench.dispatcher._unforked.retry_at = now() + 60.0  # noqa: SLF001 - the test says when
    failures = len(bench.events("session.fork_failed"))
    second.sendall(header("192.0.2.2"))
    arriving(bench, 0)
    bench.connect().sendall(header("192.0.2.3"))
    bench.turn()
    assert (served(bench), bench.open) == ([], 2)
    assert len(bench.events("session.fork_failed")) == failures
    bench.processes.refusal = None
    bench.dispatcher._unforked.retry_at = 0.0  # noqa: SLF001
    becomes(bench, "192.0.2.1:51234", "192.0.2.2:51234", "192.0.2.3:51234")


def test_a_denied_client_that_waits_for_its_fork_ends(bench: DispatcherBench) -> None:
    """The others that wait keep their places."""
    socks = [bench.connect() for _ in range(2)]
    arriving(bench, 2)
    bench.processes.refusal = BlockingIOError(11, "no process is left")
    for number, sock in enumerate(socks):
        sock.sendall(header(f"192.0.2.{number}"))
        arriving(bench, 1 - number)
    assert bench.dispatcher.kick(Kick(Selection(network=Network.parse("192.0.2.0")))) == 1
    assert gone(socks[0])
    bench.processes.refusal = None
    becomes(bench, "192.0.2.1:51234")


def test_a_denied_load_balancer_loses_its_arrivals(bench: DispatcherBench) -> None:
    """And no session."""
    bench.connect().sendall(header())
    waiting = bench.connect()
    becomes(bench, "192.0.2.7:51234")
    arriving(bench, 1)
    assert bench.dispatcher.kick(Kick(Selection(network=Network.parse("127.0.0.0/8")))) == 1
    assert gone(waiting)
    assert over(bench) == {HeaderResult.TOLD: 1, HeaderResult.DROPPED: 1}
    assert bench.gate.shown.counts.service_open(0) == 1


def test_arrivals_are_shown_behind_the_sessions(bench: DispatcherBench) -> None:
    """Their numbers are no entries of the table. (This bench forks no process.)"""
    bench.connect().sendall(header())
    bench.connect()
    becomes(bench, "192.0.2.7:51234")
    arriving(bench, 1)
    found = list(bench.dispatcher.connections())
    described = [(each.number < PLACES, each.describe(now())["state"]) for each in found]
    assert described == [(True, "unforked"), (False, "arriving")]
    assert [each.number for each in bench.dispatcher.connections(found[0].number)] == [
        found[1].number
    ]


@pytest.mark.parametrize("order", [ChildOrder.RETIRE, ChildOrder.FINISH])
def test_a_drain_waits_for_headers(bench: DispatcherBench, order: ChildOrder) -> None:
    """At a stop the session gets that order after its fork, at a reload none."""
    sock = bench.connect()
    arriving(bench, 1)
    bench.order(order)
    assert bench.processes.told == [(order, None)]
    sock.sendall(header())
    becomes(bench, "192.0.2.7:51234")
    orders = [(ChildOrder.FINISH, {*bench.processes.running})]
    assert bench.processes.told[1:] == (orders if order is ChildOrder.FINISH else [])


def test_a_stop_does_not_wait_for_long(bench: DispatcherBench) -> None:
    """Headers that do not come hold it up for a moment."""
    sock = bench.connect()
    arriving(bench, 1)
    bench.order(ChildOrder.FINISH)
    arriving(bench, 0)
    assert gone(sock)
    assert over(bench) == {HeaderResult.DROPPED: 1}
    assert bench.events("connection.no_header") == []


def test_a_quick_stop_does_not_wait(bench: DispatcherBench) -> None:
    """All arrivals end with the order."""
    socks = [bench.connect() for _ in range(PLACES)]
    arriving(bench, PLACES)
    bench.order(ChildOrder.LEAVE)
    assert all(map(gone, socks))
    assert over(bench) == {HeaderResult.DROPPED: PLACES}
