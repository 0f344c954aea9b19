"""Datagrams on a network of their own: several addresses, forged sources, broadcasts,
ICMP errors, floods. Forged packets are made with raw sockets, which needs root.
"""

import contextlib
import errno
import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clients, faults, procs
from tests.support.daemon import Unpd
from tests.support.faults import Network
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.refused_calls import refuse, requires_filters
from tests.support.scale import many
from tests.support.waiting import until

pytestmark = [faults.requires_root, faults.requires_namespaces()]

PATIENCE_S = 10.0
IP_HEADER_BYTES, UDP_HEADER_BYTES = 20, 8
ETH_P_IP, ETH_P_ALL = 0x0800, 0x0003
SERVER_V6, CLIENT_V6 = "fd99::1", "fd99::2"
SECOND, SECOND_V6 = "10.99.0.3", "fd99::3"


@pytest.fixture
def net() -> Iterator[Network]:
    """A server and a client on one wire. The server has two addresses of each family,
    and sends everything else to the client.
    """
    with faults.network() as made:
        server, client = made.server, made.client
        server.ip("address", "add", f"{SECOND}/24", "dev", "wire")
        for host in (SERVER_V6, SECOND_V6):
            server.ip("address", "add", f"{host}/64", "dev", "wire", "nodad")
        client.ip("address", "add", f"{CLIENT_V6}/64", "dev", "wire", "nodad")
        server.ip("route", "add", "default", "via", made.client_host)
        yield made


in_both_versions = pytest.mark.parametrize(
    "plain", [False, pytest.param(True, marks=requires_filters)], ids=["batches", "plain"]
)
"""With recvmmsg(2), and where a filter refuses it."""


def serve(launch: Launch, net: Network, keys: str = "", *, plain: bool = False) -> Unpd:
    """Start echo on every address, over UDP and TCP, and daytime and chargen on those
    of IPv4. ``plain``: the workers receive and send a datagram a call.
    """
    return launch(
        f"""
[metrics]
listen = "unix://{launch.directory}/metrics.sock"

[pools.default]
workers = 1

[services.echo]
listen = ["udp://[::]:7007", "tcp://[::]:7007"]
{keys}

[services.daytime]
listen = ["udp://0.0.0.0:7013"]
timezone = "UTC"
{keys}

[services.chargen]
listen = ["udp://0.0.0.0:7019"]
{keys}
""",
        prefix=net.server.prefix,
        preexec=(lambda: refuse("recvmmsg", errno.ENOSYS)) if plain else None,
    )


def packet(source: tuple[str, int], target: tuple[str, int], data: bytes = b"") -> bytes:
    """An IPv4 packet with a UDP datagram from a forged source; the kernel fills in the
    checksum of the header, and UDP may go without.
    """
    size = IP_HEADER_BYTES + UDP_HEADER_BYTES + len(data)
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    header = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, socket.IPPROTO_UDP, 0)
    ports = struct.pack("!HHHH", source[1], target[1], UDP_HEADER_BYTES + len(data), 0)
    return header + addresses + ports + data


@contextlib.contextmanager
def forging(namespace: faults.Namespace) -> Iterator[socket.socket]:
    """A socket that sends packets as they are."""
    with namespace.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with sock:
        yield sock


@contextlib.contextmanager
def udp(net: Network, target: tuple[str, int], own: tuple[str, int]) -> Iterator[socket.socket]:
    """A client on the other end of the wire, which hears ``target`` alone."""
    with net.client.entered():
        sock = socket.socket(clients.family(target), socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(PATIENCE_S)
        sock.bind(own)
        sock.connect(target)
        yield sock


def unanswered(unpd: Unpd, service: str = "echo") -> dict[str, int]:
    """The datagrams without an answer, by reason."""
    return {
        dict(labels)["reason"]: int(value)
        for (name, labels), value in unpd.metrics().items()
        if name == "unpd_datagrams_unanswered_total" and ("service", service) in labels and value
    }


def wait_received(unpd: Unpd, count: int, service: str = "echo") -> None:
    """Wait until so many datagrams have come."""
    unpd.metric_becomes(count, "unpd_datagrams_received_total", service=service)


def wait_unanswered(unpd: Unpd, wanted: dict[str, int], service: str = "echo") -> None:
    """Wait until so many datagrams have got no answer: a worker counts what has come
    before it answers.
    """
    until(
        lambda: unanswered(unpd, service) == wanted,
        PATIENCE_S,
        lambda: f"{wanted}: {unanswered(unpd, service)}",
    )


@in_both_versions
def test_answers_leave_from_the_address_that_was_asked(
    launch: Launch, net: Network, *, plain: bool
) -> None:
    """On a host with several addresses, over one socket for both families, a client
    that hears only the address that it asked gets its answer from it.
    """
    serve(launch, net, plain=plain)
    for host, own in (
        (net.server_host, net.client_host),
        (SECOND, net.client_host),
        (SERVER_V6, CLIENT_V6),
        (SECOND_V6, CLIENT_V6),
    ):
        for data in (b"", b"hello", bytes(5000)):
            with udp(net, (host, 7007), (own, 0)) as sock:
                sock.send(data)
                assert sock.recv(1 << 16) == data, host


@pytest.mark.slow
@in_both_versions
def test_a_link_local_client_is_answered(launch: Launch, net: Network, *, plain: bool) -> None:
    """A link-local address is of one interface, and the answer leaves by it."""
    serve(launch, net, plain=plain)
    with net.server.entered():
        rows = [row.split() for row in Path("/proc/self/net/if_inet6").read_text().splitlines()]
    host = next(row[0] for row in rows if row[5] == "wire" and row[0].startswith("fe80"))
    target = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(host))
    with net.client.entered():
        wire = socket.if_nametoindex("wire")
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    answers = []
    with sock:
        sock.settimeout(0.2)

        def answered() -> bool:  # the addresses may still be tentative (RFC 4862)
            with contextlib.suppress(OSError):
                sock.connect((target, 7007, 0, wire))
                sock.send(b"hello")
                answers.append(sock.recv(100))
            return bool(answers)

        until(answered, PATIENCE_S, "the answer")
    assert answers == [b"hello"]


def test_a_loop_ends_after_one_packet(launch: Launch, net: Network) -> None:
    """A forged datagram from another port of unpd, from its own address and port, or
    from the port of another server gets no answer: nothing comes back to it.
    """
    unpd = serve(launch, net)
    own = net.server_host
    forged = [
        ((own, 7013), "own_port"),
        ((own, 7007), "own_port"),
        ((own, 7), "low_port"),
        ((own, 19), "low_port"),
        ((own, 1023), "low_port"),
    ]
    with forging(net.server) as sock:
        for source, _ in forged:
            sock.sendto(packet(source, (own, 7007), b"loop"), (own, 0))
    with forging(net.client) as sock:
        for port in (7, 13, 7007, 7013):
            source = (net.client_host, port)
            sock.sendto(packet(source, (own, 7007), b"loop"), (own, 0))
    wait_received(unpd, len(forged) + 4)
    wait_unanswered(unpd, {"own_port": 4, "low_port": 5})
    assert unpd.metric("unpd_datagrams_sent_total", service="echo") == 0
    assert unpd.metric("unpd_datagrams_received_total", service="daytime") == 0


def capture(namespace: faults.Namespace) -> socket.socket:
    """A socket that sees every IPv4 packet of a namespace, in both directions."""
    with namespace.entered():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    wire.setblocking(False)
    return wire


def captured(wire: socket.socket) -> list[bytes]:
    """The UDP packets that ``wire`` has seen, from their IPv4 headers on."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            seen, where = wire.recvfrom(1 << 16)
            if where[1] == ETH_P_IP and seen[9] == socket.IPPROTO_UDP:
                found.append(seen)
    return found


@pytest.mark.slow
def test_two_servers_do_not_answer_each_other(launch: Launch, net: Network) -> None:
    """A datagram from port 7 of one server, forged, to port 7, 13 or 19 of another is
    all that the wire carries; and each server answers a client.
    """
    listen = "".join(
        f'[services.{name}]\nlisten = ["udp://0.0.0.0:{port}"]\n'
        for name, port in (("echo", 7), ("daytime", 13), ("chargen", 19))
    )
    text = f'[metrics]\nlisten = "unix://{launch.directory}/%s.sock"\n{listen}'
    one = launch(text % "one", prefix=net.server.prefix)
    two = launch(text % "two", prefix=net.client.prefix)
    forged = [
        packet((net.client_host, source), (net.server_host, target), b"loop")
        for source in (7, 13, 19)
        for target in (7, 13, 19)
    ]
    with forging(net.client) as sock, capture(net.server) as wire:
        for each in forged:
            sock.sendto(each, (net.server_host, 0))
        for service in ("echo", "daytime", "chargen"):
            wait_received(one, 3, service)
            wait_unanswered(one, {"low_port": 3}, service)
        assert [seen[IP_HEADER_BYTES:] for seen in captured(wire)] == [
            each[IP_HEADER_BYTES:] for each in forged
        ]
    assert two.total("unpd_datagrams_received_total") == 0
    with udp(net, (net.server_host, 7), (net.client_host, 0)) as client:
        client.send(b"hello")
        assert client.recv(100) == b"hello"


def test_two_servers_on_unusual_ports_go_no_further_than_the_rate(
    launch: Launch, net: Network
) -> None:
    """A server cannot know the port of another one above 1023: they answer each other,
    but the rate bounds that, and the first answer that it withholds is the end.
    """
    rate = 50
    text = """
[metrics]
listen = "unix://{}/{}.sock"

[pools.default]
workers = 1

[services.echo]
listen = ["udp://0.0.0.0:{}"]
datagram_rate = {}
"""
    directory = launch.directory
    one = launch(text.format(directory, "one", 7007, rate), prefix=net.server.prefix)
    two = launch(text.format(directory, "two", 8007, rate), prefix=net.client.prefix)

    def ended() -> bool:
        return bool(unanswered(one) or unanswered(two))

    with forging(net.client) as sock:
        began = time.monotonic()
        sock.sendto(packet((net.client_host, 8007), (net.server_host, 7007)), (net.server_host, 0))
        until(ended, PATIENCE_S, "the end of the loop")
        took_s = time.monotonic() - began

    def sent() -> list[float]:
        return [unpd.metric("unpd_datagrams_sent_total", service="echo") for unpd in (one, two)]

    # A scrape shows the counts of a moment ago.
    until(lambda: min(sent()) >= rate - 1, PATIENCE_S, lambda: f"{rate} answers: {sent()}")
    assert max(sent()) <= rate * (1 + took_s)
    assert {**unanswered(one), **unanswered(two)} == {"rate": 1}


@pytest.mark.parametrize("amplification", [1, 3, 10])
@pytest.mark.parametrize("service", ["daytime", "echo", "chargen"])
def test_a_victim_gets_no_more_than_the_amplification(
    launch: Launch, net: Network, amplification: int, service: str
) -> None:
    """The bytes that reach the owner of a forged address are at most ``amplification``
    times those that were sent, as the wire counts them.
    """
    port, data = {"daytime": (7013, b""), "echo": (7007, b"x"), "chargen": (7019, b"")}[service]
    unpd = serve(launch, net, f"amplification = {amplification}\ndatagram_rate = 0")
    victim = "10.99.0.77"
    net.client.ip("address", "add", f"{victim}/32", "dev", "wire")
    sent = 0
    count = 200
    with forging(net.client) as sock, capture(net.client) as wire:
        for _ in range(count):
            forged = packet((victim, 4444), (net.server_host, port), data)
            sock.sendto(forged, (net.server_host, 0))
            sent += len(forged)
        wait_received(unpd, count, service)
        to_victim = [seen for seen in captured(wire) if seen[16:20] == socket.inet_aton(victim)]
        reached = sum(map(len, to_victim))
    assert 0 < reached <= amplification * sent


@in_both_versions
def test_groups_get_no_answer(launch: Launch, net: Network, *, plain: bool) -> None:
    """A datagram to a broadcast or multicast address gets no answer; the next one to
    the host does.
    """
    unpd = serve(launch, net, plain=plain)
    with net.client.entered():
        ipv4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        wire = socket.if_nametoindex("wire")
    with ipv4, ipv6:
        ipv4.bind((net.client_host, 0))
        ipv4.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        net.client.ip("route", "add", "default", "dev", "wire")
        for group in ("10.99.0.255", "255.255.255.255", "224.0.0.1"):
            for port in (7007, 7013):
                ipv4.sendto(b"all", (group, port))
        ipv6.sendto(b"all", ("ff02::1", 7007, 0, wire))
        # A socket of IPv6 does not hear the multicast of IPv4.
        for service in ("echo", "daytime"):
            wait_received(unpd, 3, service)
            wait_unanswered(unpd, {"group": 3}, service)
        ipv4.settimeout(PATIENCE_S)
        ipv4.sendto(b"one", (net.server_host, 7007))
        assert ipv4.recv(100) == b"one"


@in_both_versions
def test_errors_of_the_network_stop_nothing(launch: Launch, net: Network, *, plain: bool) -> None:
    """Clients that are gone, sources without a route and a small MTU: each error is
    counted where the kernel tells it, and the next client is served.
    """
    unpd = serve(launch, net, plain=plain)
    for _ in range(3):
        with udp(net, (net.server_host, 7007), (net.client_host, 0)) as gone:
            gone.send(b"x")
    net.server.ip("route", "add", "unreachable", "10.77.0.0/24")
    with forging(net.client) as sock:
        for source in ("10.77.0.1", "10.77.0.2"):
            forged = packet((source, 4444), (net.server_host, 7007), b"x")
            sock.sendto(forged, (net.server_host, 0))
    wait_received(unpd, 5)
    wait_unanswered(unpd, {"send_error": 2})
    for end in (net.server, net.client):
        end.ip("link", "set", "wire", "mtu", "576")
    with udp(net, (net.server_host, 7007), (net.client_host, 0)) as sock:
        sock.send(bytes(20_000))
        assert sock.recv(1 << 16) == bytes(20_000)


def test_a_narrow_path_costs_no_more_than_the_first_answer(launch: Launch, net: Network) -> None:
    """Behind a router whose next link carries 576 bytes, the kernel learns from the
    ICMP error to send a longer answer in fragments; nobody else notices.
    """
    unpd = serve(launch, net)
    router, far_host = net.client, "10.98.0.2"
    with faults.namespace() as far:
        router.ip("link", "add", "narrow", "type", "veth", "peer", "wire", "netns", far.name)
        for end, device, host in ((router, "narrow", "10.98.0.1"), (far, "wire", far_host)):
            end.ip("address", "add", f"{host}/24", "dev", device)
            end.ip("link", "set", device, "mtu", "576", "up")
        far.ip("route", "add", "default", "via", "10.98.0.1")
        router.sysctl("net.ipv4.ip_forward", "1")
        with far.entered():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        answers = []
        with sock:
            sock.connect((net.server_host, 7007))
            sock.settimeout(0.5)

            def answered() -> bool:
                sock.send(bytes(1000))
                with contextlib.suppress(TimeoutError):
                    answers.append(sock.recv(1 << 16))
                return bool(answers)

            until(answered, PATIENCE_S, "the answer in fragments")
        assert answers == [bytes(1000)]
        route = subprocess.run(
            [*net.server.prefix, "ip", "route", "get", far_host],
            capture_output=True,
            check=True,
            text=True,
        )
        assert "mtu 576" in route.stdout
    with udp(net, (net.server_host, 7007), (net.client_host, 0)) as near:
        near.send(bytes(1000))
        assert near.recv(1 << 16) == bytes(1000)
    assert unanswered(unpd) == {}
    assert unpd.total("unpd_datagram_receive_errors_total") == 0


def test_all_networks_together_get_no_more_than_the_total_rate(
    launch: Launch, net: Network, rng: random.Random
) -> None:
    """Sources that are all forged and all different get at most so many answers a
    second; the rest is counted, and TCP on the same worker is served meanwhile.
    """
    rate, count = 100, 2000
    unpd = serve(launch, net, f"datagram_total_rate = {rate}")
    target = (net.server_host, 7007)
    began = time.monotonic()
    with forging(net.client) as sock:
        for number in range(count):
            host = socket.inet_ntoa(struct.pack("!I", rng.randrange(0x0B000000, 0x7E000000)))
            sock.sendto(packet((host, 4444), target, b"x"), (net.server_host, 0))
            if number % 100 == 0:
                with net.client.entered():
                    assert clients.converse(target, b"hello") == b"hello"

    def come() -> bool:
        samples = unpd.metrics()
        names = ("received", "sent", "unanswered")
        came, sent, refused = (
            total(samples, f"unpd_datagrams_{name}_total", service="echo") for name in names
        )
        dropped = total(samples, "unpd_datagram_kernel_drops_total", service="echo")
        return came + dropped == count and sent + refused == came

    until(come, PATIENCE_S, "all datagrams to be counted")
    sent = unpd.metric("unpd_datagrams_sent_total", service="echo")
    assert rate <= sent <= rate * (1 + time.monotonic() - began)
    received = unpd.metric("unpd_datagrams_received_total", service="echo")
    assert unanswered(unpd) == {"total_rate": received - sent}


@pytest.mark.parametrize("size", [1, 1400, 20_000])
def test_answers_that_wait_for_a_neighbour_leave_room(
    launch: Launch, net: Network, size: int
) -> None:
    """While answers to forged addresses of the own subnet, which no host has, wait for
    their neighbours (arp(7)), an honest client of that subnet gets its own.
    """
    for end in (net.server, net.client):
        end.ip("link", "set", "wire", "mtu", "60000")  # a raw socket makes no fragments
    unpd = serve(launch, net)
    target = (net.server_host, 7007)
    answered, asked = 0, 20
    with forging(net.client) as sock, udp(net, target, (net.client_host, 0)) as honest:
        honest.settimeout(0.5)
        for round_ in range(asked):
            for number in range(30):
                source = (f"10.99.0.{100 + (8 * round_ + number // 4) % 120}", 4444)
                sock.sendto(packet(source, target, bytes(size)), (net.server_host, 0))
            honest.send(b"hello")
            with contextlib.suppress(TimeoutError):
                answered += honest.recv(100) == b"hello"
    assert answered == asked
    assert unpd.metric("unpd_datagrams_received_total", service="echo") >= asked


@pytest.mark.slow
def test_a_flood_of_forged_sources_is_borne(
    launch: Launch, net: Network, rng: random.Random
) -> None:
    """Under a flood of random sources the worker's memory stays bounded, TCP is served
    at once, and a datagram of an honest client still gets its answer afterwards.
    """
    unpd = serve(launch, net)
    (worker,) = unpd.workers()
    before = procs.rss_bytes(worker)
    target = (net.server_host, 7007)
    with forging(net.client) as sock:
        for number in range(many(100_000, at_least=20_000)):
            host = socket.inet_ntoa(struct.pack("!I", rng.randrange(0x0B000000, 0x7E000000)))
            sock.sendto(packet((host, 4444), target, b"x"), (net.server_host, 0))
            if number % 5000 == 0:
                with net.client.entered():
                    assert clients.converse(target, b"hello") == b"hello"
    assert procs.rss_bytes(worker) - before < 16 << 20
    with udp(net, target, (net.client_host, 0)) as honest:
        answers = []

        def answered() -> bool:
            honest.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                honest.send(b"hello")
                answers.append(honest.recv(100))
            return bool(answers)

        until(answered, PATIENCE_S, "the answer after the flood")
