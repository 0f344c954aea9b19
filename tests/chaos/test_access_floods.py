"""Limits and denials while clients flood the daemon (fault rows F1 to F4, F7 and F8 of
the catalogue): the limit holds, others are served, the sums agree, and the log stays
short.
"""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from signal import SIGTERM

import pytest

from tests.support import clients, procs
from tests.support.counts import service_counts, wait_active
from tests.support.faults import namespace, requires_namespaces
from tests.support.floods import FLOODING, ONE_SOURCE, flood_of
from tests.support.launch import Launch
from tests.support.scale import long
from tests.support.threads import beside
from tests.support.waiting import holds, until

pytestmark = pytest.mark.slow

IP_FREEBIND = 15
"""linux/in.h; the module socket lacks it in Python 3.11."""
HOME, OTHER = "127.0.0.1", "127.0.0.9"
DEADLINE_S = 1.0
"""Ten times what an innocent client may have to wait."""
RECOVERED_S = 2.0
"""How long a service may take after a flood, by the catalogue of faults."""
MANY = 64
"""How many clients come at once."""
FREED_S = 10.0
"""Ten times what a source may have to wait for the places that a killed worker held."""


def echo(*lines: str, workers: int = 2, log: str = "info") -> str:
    """An echo service with keys of its own."""
    return (
        f'[log]\nlevel = "{log}"\n[pools.default]\nworkers = {workers}\n'
        '[services.echo]\nlisten = ["tcp://0.0.0.0:0"]\n' + "\n".join(lines)
    )


def visit(port: int, source: str = "", timeout_s: float = 10.0) -> bool:
    """Connect, exchange a byte, close. Whether the client was served."""
    try:
        with clients.connect((HOME, port), source=source, timeout_s=timeout_s) as sock:
            sock.sendall(b"x")
            return sock.recv(1) == b"x"
    except (ConnectionResetError, BrokenPipeError):
        return False


@contextlib.contextmanager
def flooding(port: int, source: str) -> Iterator[list[int]]:
    """Have a source connect as fast as it can. Yields how many of its connections were
    turned away, and how many served.
    """
    counts, over = [0, 0], threading.Event()

    def flood() -> None:
        while not over.is_set():
            counts[visit(port, source)] += 1

    with beside(flood, stop=over.set):
        yield counts


def innocents(port: int, sources: Iterator[str], duration_s: float) -> int:
    """Visit from one source after the other. Every visit is served, and soon. Return
    how many there were.
    """
    over = time.monotonic() + duration_s
    for visits, source in enumerate(sources):
        began = time.monotonic()
        if began > over:
            return visits
        assert visit(port, source), f"visit {visits} from {source} was refused"
        assert time.monotonic() - began < DEADLINE_S
    raise AssertionError("there are not enough sources")


def test_a_fast_flood_of_one_source_harms_no_other(launch: Launch) -> None:
    """The source holds all its places and goes on connecting, 2,000 times a second if
    this machine can. Every session of another source succeeds, soon; none of its own
    does.
    """
    unpd = launch(echo("max_per_source = 10", ONE_SOURCE))
    port = unpd.port("echo")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            assert _is_served(stack.enter_context(clients.connect((HOME, port), source=FLOODING)))
        flood = stack.enter_context(flood_of(port, 2000))
        visits = innocents(port, itertools.repeat(HOME), 5.0)
        flood.stop()
    assert visits > 20
    assert flood.count("shed", "reset_before") == flood.came()
    unpd.metric_becomes(flood.came(), "unpd_refused_total", service="echo", reason="max_per_source")


def test_a_flood_against_a_rate_harms_no_other(launch: Launch) -> None:
    """A source that comes far too fast is refused, but for its rate; and is served
    again soon after it has stopped. Every session of every other source succeeds.
    """
    limit = 20
    unpd = launch(echo(f'accept_rate_per_source = "{limit}/s"', ONE_SOURCE))
    port = unpd.port("echo")
    others = (f"127.{1 + number // 250}.{number % 250}.1" for number in itertools.count())
    began = time.monotonic()
    with flood_of(port, 2000) as flood:
        visits = innocents(port, others, 5.0)
        flood.stop()
    lasted_s = time.monotonic() - began
    served = flood.count("ok")
    assert visits > 20
    assert served + flood.count("shed", "reset_before") == flood.came()
    most = limit + 1  # each other process may let in one too many
    assert limit <= served <= most * (2 + lasted_s)
    unpd.metric_becomes(
        flood.came() - served,
        "unpd_refused_total",
        service="echo",
        reason="accept_rate_per_source",
    )
    until(lambda: visit(port, FLOODING), 10.0, "the rate to heal")


@pytest.mark.parametrize("on_limit", ["queue", "refuse"])
def test_a_service_recovers_from_a_flood(launch: Launch, on_limit: str) -> None:
    """Of 5,000 connections a second, if this machine can, each is served or refused,
    and the limit bites. Soon after the flood, everybody is served again.
    """
    unpd = launch(echo("max_connections = 5", f'on_limit = "{on_limit}"'))
    port = unpd.port("echo")
    clients_of_flood = 5000 * long(20.0, at_least=5.0)
    with flood_of(port, 5000) as flood:
        until(lambda: flood.came() > clients_of_flood, 120.0, "the flood to last")
        stopped = time.monotonic()
        flood.stop()
        late = 0
        while not visit(port):  # the last clients of the flood may leave just now
            late += 1
            assert time.monotonic() - stopped < RECOVERED_S
        assert all(visit(port) for _ in range(50))
        assert time.monotonic() - stopped < RECOVERED_S
    wait_active(unpd, 0)
    served = flood.count("ok")
    refused = flood.count("shed", "reset_before")
    assert served + refused == flood.came()
    if on_limit == "refuse":
        assert refused > 100
    else:
        assert not refused
        assert unpd.log_events("service.at_limit")
    unpd.metric_becomes(served + 51, "unpd_connections_accepted_total", service="echo")
    unpd.metric_becomes(
        refused + late, "unpd_refused_total", service="echo", reason="max_connections"
    )


def test_a_flood_of_one_source_harms_no_other(launch: Launch) -> None:
    """The source holds all its places and goes on connecting. Every session of another
    source succeeds, soon. Every refusal is counted, and the log has few lines.
    """
    unpd = launch(echo("max_per_source = 10"))
    port = unpd.port("echo")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(clients.connect((HOME, port), source=OTHER))
            sock.sendall(b"x")
            assert clients.read_exactly(sock, 1) == b"x"
        with flooding(port, OTHER) as counts:
            until(lambda: counts[0] > 100, 20.0, "a flood")
            for _ in range(200):
                began = time.monotonic()
                assert visit(port, HOME)
                assert time.monotonic() - began < DEADLINE_S
        refused, served = counts
    assert served == 0
    unpd.metric_becomes(refused, "unpd_refused_total", service="echo", reason="max_per_source")
    unpd.stop()
    lines = unpd.log_events("connection.refused")
    assert sum(int(line.fields["count"]) for line in lines) == refused
    assert len(lines) < 100


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("key", ["max_connections", "max_per_source"])
def test_the_limit_holds_for_clients_that_come_at_once(
    launch: Launch, key: str, workers: int
) -> None:
    """Of many that connect at the same moment, at most one for each other process comes
    in too many. Then the limit is exact again.
    """
    limit = 8
    unpd = launch(echo(f"{key} = {limit}", 'on_limit = "refuse"', workers=workers))
    port = unpd.port("echo")
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            assert limit <= served_of_many(stack, port) <= limit + workers - 1
        wait_active(unpd, 0)
    with contextlib.ExitStack() as stack:
        fill(stack, port, limit)
        assert not visit(port)


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("key", ["accept_rate", "accept_rate_per_source"])
def test_a_rate_holds_for_clients_that_come_at_once(launch: Launch, key: str, workers: int) -> None:
    """At most one for each other process comes in too many, and nobody after that."""
    limit = 8
    unpd = launch(echo(f'{key} = "1/h burst {limit}"', 'on_limit = "refuse"', workers=workers))
    port = unpd.port("echo")
    with contextlib.ExitStack() as stack:
        assert limit <= served_of_many(stack, port) <= limit + workers - 1
    for _ in range(workers):
        assert not visit(port)


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("key", ["max_connections = 8", 'accept_rate = "1/h burst 8"'])
def test_a_queue_holds_back_clients_that_come_at_once(
    launch: Launch, key: str, workers: int
) -> None:
    """Of many that connect at the same moment, no more are let out of the accept queue
    than unpd.toml(5) says: for each other process one too many, or its share of the
    rate. All others wait there.
    """
    limit = 8
    is_rate = key.startswith("accept_rate")
    most = limit + (workers - 1) * (max(1, limit // workers) if is_rate else 1)
    unpd = launch(echo(key, workers=workers))
    for _ in range(1 if is_rate else 3):
        with contextlib.ExitStack() as stack:
            socks = at_once(stack, unpd.port("echo"))
            for sock in socks:
                sock.sendall(b"x")

            def served(socks: list[socket.socket] = socks) -> int:
                return len(select.select(socks, (), (), 0)[0])

            until(lambda: served() >= limit, 10.0, "the places to be given")
            holds(lambda: served() <= most, 0.5, "more are served than the limit allows")
            waiting = MANY - served()
            unpd.metric_becomes(waiting, "unpd_listen_queue_length", service="echo")
        if not is_rate:
            unpd.metric_becomes(0, "unpd_listen_queue_length", service="echo")
            wait_active(unpd, 0)
    assert unpd.total("unpd_refused_total", service="echo") == 0


def served_of_many(stack: contextlib.ExitStack, port: int) -> int:
    """Connect many clients at the same moment. Return how many of them are served."""
    return sum(map(_is_served, at_once(stack, port)))


def at_once(stack: contextlib.ExitStack, port: int) -> list[socket.socket]:
    """Connect MANY clients at the same moment."""
    socks = [
        stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(MANY)
    ]
    for sock in socks:
        sock.setblocking(False)
        sock.connect_ex((HOME, port))
    for sock in socks:
        sock.settimeout(10.0)
    return socks


def _is_served(sock: socket.socket) -> bool:
    try:
        sock.sendall(b"x")
        return sock.recv(1) == b"x"
    except (ConnectionResetError, BrokenPipeError):
        return False


def test_a_crash_frees_the_places_of_hundreds(launch: Launch) -> None:
    """One of two workers holds 500 connections of a source at its limit and is killed:
    the source may connect again soon, and fill its limit exactly; and again.
    """
    limit = 500
    unpd = launch(echo(f"max_per_source = {limit}"))
    port = unpd.port("echo")
    clients.raise_descriptor_limit()
    for _ in range(2):
        holder, other = until(
            lambda: pids if len(pids := unpd.workers()) == 2 else [], 10.0, "two workers"
        )
        with contextlib.ExitStack() as stack:
            with procs.stopped([other]):
                fill(stack, port, limit)
            assert not visit(port)
            began = time.monotonic()
            procs.kill([holder])
            until(lambda: visit(port), FREED_S, "a place for the source")
            assert time.monotonic() - began < FREED_S
            wait_active(unpd, 0)
            fill(stack, port, limit)
            assert not visit(port)
        wait_active(unpd, 0)


def fill(stack: contextlib.ExitStack, port: int, count: int) -> None:
    """Have so many clients served, one after the other."""
    for _ in range(count):
        assert _is_served(stack.enter_context(clients.connect((HOME, port))))


def connect_from(source: str, port: int) -> socket.socket:
    """Connect over IPv6 from an address that no interface has."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.settimeout(10.0)
    sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    sock.bind((source, 0))
    sock.connect(("::1", port))
    return sock


@requires_namespaces()
def test_a_source_is_a_network_of_ipv6(launch: Launch) -> None:
    """A thousand addresses of one /64 are one source; those of another one are not."""
    with namespace() as net:
        net.ip("-6", "route", "add", "local", "2001:db8::/32", "dev", "lo")
        unpd = launch(
            '[services.echo]\nlisten = ["tcp://[::]:0"]\nmax_per_source = 5\n', prefix=net.prefix
        )
        with net.entered(), contextlib.ExitStack() as stack:
            port, served = unpd.port("echo"), 0
            for number in range(1, 1001):
                sock = connect_from(f"2001:db8:1::{number:x}", port)
                if _is_served(sock):
                    served += 1
                    stack.enter_context(sock)
                else:
                    sock.close()
            assert served == 5
            with connect_from("2001:db8:1:1::1", port) as sock:
                assert _is_served(sock)
            unpd.metric_becomes(995, "unpd_refused_total", service="echo", reason="max_per_source")


def test_a_stop_over_the_limit_ends_in_time(launch: Launch) -> None:
    """With clients in the queue and a flood of others, a stop ends within its grace."""
    unpd = launch("[daemon]\ngrace_s = 4\n" + echo("max_connections = 3"))
    port = unpd.port("echo")
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            sock = stack.enter_context(clients.connect((HOME, port)))
            sock.sendall(b"x")
        # Two workers that look at the same moment may let in one too many.
        until(
            lambda: unpd.metric("unpd_connections_active", service="echo") >= 3, 10.0, "the limit"
        )
        with ThreadPoolExecutor(2) as threads:
            floods = [threads.submit(_knock, port) for _ in range(2)]
            began = time.monotonic()
            unpd.signal(SIGTERM)
            assert unpd.wait_exit() == 0
            assert time.monotonic() - began < 4.5
            assert all(flood.result() for flood in floods)


def _knock(port: int) -> int:
    """Connect without a word until nobody listens."""
    count = 0
    with contextlib.suppress(OSError):
        while True:
            with clients.connect((HOME, port), timeout_s=1.0):
                count += 1
    return count + 1


@pytest.mark.parametrize("on_limit", ["queue", "refuse"])
def test_every_client_of_a_flood_is_accounted_for(launch: Launch, on_limit: str) -> None:
    """What was served and what was refused are all that came."""
    unpd = launch(echo("max_connections = 4", f'on_limit = "{on_limit}"'))
    port = unpd.port("echo")
    inside: list[int] = []
    most = [0]

    def stay(number: int) -> bool:
        """Be served, and stay for one more byte."""
        try:
            with clients.connect((HOME, port)) as sock:
                if not _is_served(sock):
                    return False
                inside.append(number)
                most[0] = max(most[0], len(inside))
                _is_served(sock)
                inside.remove(number)
                return True
        except (ConnectionResetError, BrokenPipeError):
            return False

    with ThreadPoolExecutor(12) as threads:
        outcomes = list(threads.map(stay, range(600)))
    served = outcomes.count(True)
    until(lambda: service_counts(unpd).active == 0, 10.0, "the connections to end")
    unpd.metric_becomes(served, "unpd_connections_accepted_total", service="echo")
    unpd.metric_becomes(
        600 - served, "unpd_refused_total", service="echo", reason="max_connections"
    )
    assert served == 600 or on_limit == "refuse"
    assert 3 <= most[0] <= 4 + 1, "one too many may come in for the other worker"
