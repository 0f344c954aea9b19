"""Connections of load balancers in an engine over real sockets: the header of the PROXY
protocol, whatever way it comes, and what is decided about the client that it tells.
"""

import itertools
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from tests.support.engine import Bench, Benches
from unpd.access.network import Network
from unpd.access.proxy_header import Endpoint, written
from unpd.access.rate import Rate
from unpd.access.rules import Entry, Rules
from unpd.access.terms import AccessTerms, OnLimit
from unpd.board import layout
from unpd.board.layout import Service
from unpd.config.access_lists import THIS_HOST
from unpd.kernel.connections import address_text
from unpd.names import EndCause, HeaderResult, RefusalReason
from unpd.worker.arrivals import HEADER_TIMEOUT_S, PARTING_S
from unpd.worker.selection import Kick, Selection

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
MALFORMED = b"PROXY TCP4 localhost 192.0.2.9 1 2\r\n"
LATE_S = HEADER_TIMEOUT_S + 0.125


def rules(*entries: str) -> Rules:
    """A list of rules."""
    return Rules.of([Entry(text) for text in entries], THIS_HOST)


BALANCED = AccessTerms(proxies=rules("127.0.0.0/8", "unix"))
"""Every client of a test is a load balancer."""


def header(client: str = "192.0.2.7", version: int = 2) -> bytes:
    """The header of a client, whose port is 51234."""
    address = ip_address(client)
    server = ip_address("198.51.100.9" if address.version == 4 else "2001:db8::9")
    source, destination = (Endpoint(each.version, int(each), 51234) for each in (address, server))
    return written(version, source, destination)


def results(bench: Bench) -> dict[HeaderResult, int]:
    """What came of the headers that were awaited."""
    counts = {
        result: bench.count(Service.PROXY_HEADERS + index)
        for index, result in enumerate(layout.HEADER_RESULTS)
    }
    return {result: count for result, count in counts.items() if count}


def refused(bench: Bench) -> dict[RefusalReason, int]:
    """The connections that were refused."""
    counts = {
        reason: bench.count(Service.REFUSED + index)
        for index, reason in enumerate(layout.REFUSAL_REASONS)
    }
    return {reason: count for reason, count in counts.items() if count}


def peer(bench: Bench) -> str:
    """The peer of the only session."""
    return address_text(bench.session().peer)


def arriving(bench: Bench, count: int = 1) -> Callable[[], bool]:
    """Whether so many connections wait for their header, and nobody is served."""
    return lambda: bench.engine.open == count and not bench.sessions()


def gone(bench: Bench, sock: socket.socket) -> bool:
    """Whether the connection ends without a byte."""
    try:
        return bench.read(sock, 1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    ("version", "client", "text"),
    [
        (1, "192.0.2.7", "192.0.2.7:51234"),
        (1, "2001:db8::7", "[2001:db8::7]:51234"),
        (2, "192.0.2.7", "192.0.2.7:51234"),
        (2, "2001:db8::7", "[2001:db8::7]:51234"),
    ],
)
def test_a_header_tells_the_client(
    bench: Benches, tcp: bool, version: int, client: str, text: str
) -> None:
    """Who is the peer of the session and of its lines. The data behind the header, in
    the same segment, is the service's, and nothing of the header is.
    """
    b = bench(tcp=tcp, access=BALANCED, connections=True)
    sock = b.connect()
    sock.sendall(header(client, version) + b"hello")
    assert b.read(sock, 5) == b"hello"
    assert peer(b) == text
    assert b.bytes_counted() == (5, 5)
    assert results(b) == {HeaderResult.TOLD: 1}
    assert (b.count(Service.ACCEPTED), b.engine.open) == (1, 1)
    sock.close()
    b.until(lambda: not b.engine.open)
    assert [line["peer"] for line in b.events("connection.started")] == [text]
    assert [line["peer"] for line in b.events("connection.ended")] == [text]


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_may_come_byte_by_byte(bench: Benches, version: int) -> None:
    """Each byte wakes the engine once. Between them it rests, also with an incomplete
    header unread.
    """
    b = bench(access=BALANCED)
    sock = b.connect()
    b.until(arriving(b))
    for byte in header(version=version)[:-1]:
        sock.send(bytes((byte,)))
        b.turn()
        assert b.rests()
        assert arriving(b)()
    sock.send(header(version=version)[-1:])
    b.until(b.sessions)
    sock.send(b"x")
    assert b.read(sock, 1) == b"x"
    assert peer(b) == "192.0.2.7:51234"


def test_a_header_that_waits_in_the_queue_is_read_at_the_accept(bench: Benches) -> None:
    """Its client is served within the same turn."""
    b = bench(access=BALANCED)
    b.connect().sendall(header())
    b.turn()
    assert len(b.sessions()) == 1


def test_fields_behind_the_addresses_are_not_the_services(bench: Benches) -> None:
    """Up to 536 bytes of header."""
    b = bench(tcp=True, access=BALANCED)
    sock = b.connect()
    block = header()[16:].ljust(520, b"T")
    sock.sendall(SIGNATURE + b"\x21\x11" + struct.pack(">H", len(block)) + block + b"hello")
    assert b.read(sock, 5) == b"hello"
    assert peer(b) == "192.0.2.7:51234"


@pytest.mark.parametrize("line", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["v2", "v1"])
def test_a_health_check_has_the_load_balancer_as_its_client(bench: Benches, line: bytes) -> None:
    """Rules decide about that then."""
    b = bench(tcp=True, access=BALANCED)
    sock = b.connect(source="127.0.0.2")
    sock.sendall(line + b"hello")
    assert b.read(sock, 5) == b"hello"
    assert peer(b) == f"127.0.0.2:{sock.getsockname()[1]}"
    assert results(b) == {HeaderResult.LOCAL: 1}
    strict = bench(
        tcp=True, access=AccessTerms(proxies=BALANCED.proxies, allow=rules("192.0.2.0/24"))
    )
    checked = strict.connect()
    checked.sendall(line)
    assert gone(strict, checked)
    assert refused(strict) == {RefusalReason.ALLOW: 1}


def test_a_client_of_a_unix_socket_is_told_without_its_user(bench: Benches) -> None:
    """Its credentials are not those of the load balancer, which alone has a connection
    here.
    """
    terms = AccessTerms(proxies=rules("unix"), deny=rules("uid:0", "uid:65534"))
    b = bench(access=terms)
    sock = b.connect()
    sock.sendall(SIGNATURE + b"\x21\x31" + struct.pack(">H", 216) + bytes(216) + b"hello")
    assert b.read(sock, 5) == b"hello"
    assert peer(b) == "unix"


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"hello\r\n", HeaderResult.MISSING, r'begins with "hello\r\n"'),
        (
            MALFORMED,
            HeaderResult.MALFORMED,
            'version 1 with the line "PROXY TCP4 localhost 192.0.2.9 1 2"',
        ),
        (
            SIGNATURE + b"\x21\x11\x02\x09",
            HeaderResult.MALFORMED,
            "version 2 of 537 bytes, where 536 is the most",
        ),
    ],
)
def test_without_a_proper_header_the_connection_ends(
    bench: Benches, data: bytes, reason: HeaderResult, detail: str
) -> None:
    """At once, and it was never accepted. One line tells why."""
    b = bench(tcp=True, access=BALANCED)
    sock = b.connect()
    sock.sendall(data)
    assert gone(b, sock)
    assert results(b) == {reason: 1}
    assert (b.count(Service.ACCEPTED), refused(b), b.engine.open) == (0, {}, 0)
    (line,) = b.events("connection.no_header")
    assert line["service"] == "service-0"
    assert (line["peer"], line["reason"], line["detail"]) == ("127.0.0.1", reason, detail)
    assert (line["level"], line["count"]) == ("warning", 1)
    assert b.gate.shown.counts.service_open(0) == 0


@pytest.mark.parametrize("part", [0, 1, 20], ids=["nothing", "a byte", "a part"])
def test_a_header_has_five_seconds(bench: Benches, part: int) -> None:
    """Whatever has come of it; the others are served meanwhile."""
    b = bench(access=BALANCED)
    sock = b.connect()
    sock.sendall(header()[:part])
    b.until(arriving(b))
    b.advance(HEADER_TIMEOUT_S - 0.1)
    other = b.connect()
    other.sendall(header() + b"hello")
    assert b.read(other, 5) == b"hello"
    assert results(b) == {HeaderResult.TOLD: 1}
    b.advance(0.1 + 0.125)
    assert gone(b, sock)
    assert results(b) == {HeaderResult.TOLD: 1, HeaderResult.LATE: 1}
    (line,) = b.events("connection.no_header")
    assert (line["reason"], "detail" in line) == ("late", False)


def test_a_flood_without_headers_is_summed_up(bench: Benches) -> None:
    """A line at once, and one for all others of the second."""
    b = bench(tcp=True, access=BALANCED)
    for _ in range(20):
        sock = b.connect()
        sock.sendall(b"hello")
        assert gone(b, sock)
    for _ in range(3):
        b.advance(1.0)
    assert [line["count"] for line in b.events("connection.no_header")] == [1, 19]


@pytest.mark.parametrize("part", [0, 20], ids=["nothing", "a part"])
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
def test_a_load_balancer_may_hang_up(bench: Benches, tcp: bool, part: int) -> None:
    """A health check without a header: the connection is gone at once, and no line says
    anything.
    """
    b = bench(tcp=tcp, access=BALANCED)
    sock = b.connect()
    b.until(arriving(b))
    sock.sendall(header()[:part])
    b.turn()
    sock.close()
    b.until(lambda: not b.engine.open)
    assert results(b) == {HeaderResult.CLOSED: 1}
    assert b.events("connection.no_header") == []


def test_a_reset_before_the_header_is_no_fault_of_ours(bench: Benches) -> None:
    """The load balancer gave the client up."""
    b = bench(tcp=True, access=BALANCED)
    sock = b.connect()
    b.until(arriving(b))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    b.until(lambda: not b.engine.open)
    assert results(b) == {HeaderResult.CLOSED: 1}


def test_a_client_that_closes_at_once_was_there(bench: Benches) -> None:
    """Its header came with its FIN."""
    b = bench(tcp=True, access=BALANCED)
    sock = b.connect()
    sock.sendall(header())
    sock.close()
    b.until(lambda: b.ended() == {EndCause.CLIENT_FIN: 1})
    assert results(b) == {HeaderResult.TOLD: 1}


def test_from_anyone_else_a_header_is_data(bench: Benches) -> None:
    """Who is not listed cannot say that it is another."""
    b = bench(tcp=True, access=AccessTerms(proxies=rules("127.0.0.2")))
    sock = b.connect()
    sock.sendall(header())
    assert b.read(sock, len(header())) == header()
    assert peer(b) == f"127.0.0.1:{sock.getsockname()[1]}"
    assert results(b) == {}


def test_access_is_decided_about_the_client(bench: Benches) -> None:
    """Neither allow nor deny is about the load balancer."""
    terms = AccessTerms(
        proxies=BALANCED.proxies,
        allow=rules("192.0.2.0/24"),
        deny=rules("127.0.0.0/8", "192.0.2.8"),
        banner_refused=b"no\r\n",
    )
    b = bench(tcp=True, access=terms)
    for client, answer in (
        ("192.0.2.7", b"hello"),
        ("192.0.2.8", b"no\r\n"),
        ("198.51.100.7", b"no\r\n"),
    ):
        sock = b.connect()
        sock.sendall(header(client) + b"hello")
        assert b.read(sock, 5) == answer
    assert refused(b) == {RefusalReason.DENY: 1, RefusalReason.ALLOW: 1}
    assert [(line["peer"], line["reason"]) for line in b.events("connection.refused")] == [
        ("192.0.2.8", "deny"),
        ("198.51.100.7", "allow"),
    ]
    assert results(b) == {HeaderResult.TOLD: 3}
    assert b.gate.shown.counts.service_open(0) == 1


def test_a_limit_of_each_source_is_of_each_client(bench: Benches) -> None:
    """A load balancer may bring many, and one client it may bring once."""
    terms = AccessTerms(proxies=BALANCED.proxies, max_per_source=1)
    b = bench(access=terms)
    for number in range(3):
        b.connect().sendall(header(f"192.0.2.{number}"))
    again = b.connect()
    again.sendall(header("192.0.2.1"))
    assert gone(b, again)
    assert len(b.sessions()) == 3
    assert refused(b) == {RefusalReason.MAX_PER_SOURCE: 1}


def test_a_live_denial_shuts_a_client_out(bench: Benches) -> None:
    """And ends its sessions, not those of others."""
    b = bench(access=BALANCED)
    b.connect().sendall(header("192.0.2.7"))
    b.connect().sendall(header("198.51.100.7"))
    b.until(lambda: len(b.sessions()) == 2)
    b.deny("192.0.2.0/24")
    assert b.engine.kick(Kick(Selection(network=Network.parse("192.0.2.0/24")))) == 1
    late = b.connect()
    late.sendall(header("192.0.2.9"))
    assert gone(b, late)
    assert refused(b) == {RefusalReason.DENIED: 1}
    assert peer(b) == "198.51.100.7:51234"


def test_a_live_denial_of_a_load_balancer_shuts_it_out(bench: Benches) -> None:
    """Before it has told anybody. Connections that wait for their header end; those of
    its clients go on.
    """
    b = bench(tcp=True, access=BALANCED)
    served, waiting = b.connect(), b.connect()
    served.sendall(header())
    b.until(lambda: b.engine.open == 2 and b.sessions())
    b.deny("127.0.0.0/8")
    assert b.engine.kick(Kick(Selection(network=Network.parse("127.0.0.0/8")))) == 1
    assert gone(b, waiting)
    late = b.connect()
    assert gone(b, late)
    assert refused(b) == {RefusalReason.DENIED: 1}
    assert results(b) == {HeaderResult.TOLD: 1, HeaderResult.DROPPED: 1}
    served.sendall(b"hello")
    assert b.read(served, 5) == b"hello"


def test_an_arrival_has_a_place_of_its_worker(bench: Benches) -> None:
    """So their number is bounded. Its place is free when its time is over."""
    b = bench(access=BALANCED, max_connections=2)
    for _ in range(2):
        b.connect()
    b.until(arriving(b, 2))
    third = b.connect()
    third.sendall(header() + b"hello")
    for _ in range(3):
        b.turn()
    assert arriving(b, 2)()
    b.advance(LATE_S)
    assert b.read(third, 5) == b"hello"
    assert results(b) == {HeaderResult.LATE: 2, HeaderResult.TOLD: 1}


@pytest.mark.parametrize("alone", [True, False])
def test_an_arrival_has_a_place_of_its_service(bench: Benches, alone: bool) -> None:
    """Where clients wait in the accept queue at max_connections: else more would come
    in with their headers than may. ``alone``: as an iterative worker has it.
    """
    terms = AccessTerms(proxies=BALANCED.proxies, max_connections=1)
    b = bench(access=terms, max_connections=1 if alone else 100, alone=alone)
    first = b.connect()
    b.until(arriving(b))
    second = b.connect()
    second.sendall(header() + b"hello")
    b.advance(1.0)
    assert arriving(b)()
    first.sendall(header())
    b.until(b.sessions)
    b.advance(1.0)
    assert len(b.sessions()) == 1
    first.close()
    b.until(b.ended, "the end of the first")
    b.advance(1.0)
    assert b.read(second, 5) == b"hello"
    assert b.gate.shown.counts.service_open(0) == 1


@pytest.mark.parametrize("way", ["malformed", "closed", "late", "refused"])
def test_an_arrival_gives_its_place_back(bench: Benches, way: str) -> None:
    """Whatever came of it."""
    terms = AccessTerms(proxies=BALANCED.proxies, max_connections=1, deny=rules("192.0.2.8"))
    b = bench(access=terms)
    first, second = b.connect(), b.connect()
    second.sendall(header() + b"hello")
    b.until(arriving(b))
    match way:
        case "malformed":
            first.sendall(MALFORMED)
        case "closed":
            first.close()
        case "late":
            b.advance(LATE_S)
        case "refused":
            first.sendall(header("192.0.2.8"))
    b.until(lambda: not b.engine.open, "the end of the first")
    assert b.gate.shown.counts.service_open(0) == 0
    b.advance(1.0)
    assert b.read(second, 5) == b"hello"


def test_a_limit_that_refuses_is_asked_with_the_header(bench: Benches) -> None:
    """An arrival keeps no client from a service that turns clients away."""
    terms = AccessTerms(proxies=BALANCED.proxies, max_connections=1, on_limit=OnLimit.REFUSE)
    b = bench(access=terms)
    first, second, third = b.connect(), b.connect(), b.connect()
    b.until(arriving(b, 3))
    third.close()
    b.until(arriving(b, 2))
    first.sendall(header())
    b.until(b.sessions)
    second.sendall(header())
    assert gone(b, second)
    assert refused(b) == {RefusalReason.MAX_CONNECTIONS: 1}
    assert b.gate.shown.counts.service_open(0) == 1


def test_a_rate_counts_an_arrival_once(bench: Benches) -> None:
    """At its accept, where clients wait in the accept queue; else with its header."""
    rate = Rate.parse("3/s")
    queues = bench(access=AccessTerms(proxies=BALANCED.proxies, accept_rate=rate))
    for _ in range(5):
        queues.connect()
    queues.until(arriving(queues, 3))
    queues.turn()
    assert arriving(queues, 3)()
    refuses = bench(
        access=AccessTerms(proxies=BALANCED.proxies, accept_rate=rate, on_limit=OnLimit.REFUSE)
    )
    socks = [refuses.connect() for _ in range(5)]
    refuses.until(arriving(refuses, 5))
    for sock in socks:
        sock.sendall(header())
    refuses.until(lambda: refuses.engine.open == 3)
    assert refused(refuses) == {RefusalReason.ACCEPT_RATE: 2}


def test_a_rate_of_arrivals_is_that_of_their_clients(bench: Benches) -> None:
    """Their headers take no second place of the rate."""
    b = bench(access=AccessTerms(proxies=BALANCED.proxies, accept_rate=Rate.parse("3/s")))
    for _ in range(3):
        b.connect().sendall(header())
    b.until(lambda: len(b.sessions()) == 3)
    assert refused(b) == {}


def test_an_arrival_is_shown_among_the_connections(bench: Benches) -> None:
    """With the load balancer as its peer, and in the order of the numbers."""
    b = bench(tcp=True, access=BALANCED)
    b.connect().sendall(header())
    b.until(b.sessions)
    waiting = b.connect()
    b.until(lambda: b.engine.open == 2)
    b.connect().sendall(header("192.0.2.8"))
    b.until(lambda: b.engine.open == 3)
    b.clock.advance(1.5)
    found = list(b.engine.connections())
    assert [each.number for each in found] == sorted(each.number for each in found)
    described = [each.describe(b.clock.now) for each in found]
    assert [each["state"] for each in described].count("serving") == 2
    (shown,) = (each for each in described if each["state"] != "serving")
    local, port = waiting.getpeername(), waiting.getsockname()[1]
    assert (shown.pop("rtt_s") > 0, shown.pop("retransmits")) == (True, 0)
    assert shown == {
        "service": "service-0",
        "peer": f"127.0.0.1:{port}",
        "local": f"127.0.0.1:{local[1]}",
        "age_s": 1.5,
        "received": 0,
        "sent": 0,
        "state": "arriving",
    }
    assert len(list(b.engine.connections(found[0].number))) == 2


def test_a_drain_waits_for_headers_that_are_under_way(bench: Benches) -> None:
    """A retired worker gives them their whole time, and serves their clients."""
    b = bench(access=BALANCED)
    accepted = b.connect()
    b.until(arriving(b))
    queued = b.connect()
    b.engine.stop_accepting()
    assert arriving(b, 2)()
    b.advance(HEADER_TIMEOUT_S - 0.1)
    for sock in (accepted, queued):
        sock.sendall(header() + b"hello")
        assert b.read(sock, 5) == b"hello"


def test_a_graceful_stop_waits_a_moment_for_headers(bench: Benches) -> None:
    """One that comes is served; the others end then, and nobody is to blame."""
    b = bench(access=BALANCED)
    quick, slow = b.connect(), b.connect()
    b.until(arriving(b, 2))
    b.engine.stop_accepting()
    b.engine.finish(b.clock.now + 10.0, 1.0)
    quick.sendall(header() + b"hello")
    assert b.read(quick, 5) == b"hello"
    b.advance(PARTING_S + 0.125)
    assert gone(b, slow)
    assert results(b) == {HeaderResult.TOLD: 1, HeaderResult.DROPPED: 1}
    assert b.events("connection.no_header") == []


def test_a_quick_stop_ends_arrivals_at_once(bench: Benches) -> None:
    """Nothing of them is left."""
    b = bench(access=BALANCED)
    socks = [b.connect() for _ in range(3)]
    b.until(arriving(b, 3))
    b.engine.leave()
    assert (b.engine.open, results(b)) == (0, {HeaderResult.DROPPED: 3})
    assert all(map(gone, itertools.repeat(b), socks))
    assert b.gate.shown.counts.service_open(0) == 0
