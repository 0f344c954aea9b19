"""The end of the connections of a denied network, in an engine over real sockets."""

import socket

import pytest

from tests.support.engine import Bench, Benches
from unpd.access.network import Network
from unpd.names import EndCause
from unpd.worker.selection import Kick, Selection

HERE, ELSEWHERE = Network.parse("127.0.0.0/8"), Network.parse("192.0.2.0/24")


def ended(bench: Bench, sock: socket.socket) -> bool:
    """Whether the client sees the end of its connection: a reset."""
    try:
        bench.read(sock, 1)
    except ConnectionResetError:
        return True
    return False


def test_the_clients_of_a_denied_network_lose_their_connections(bench: Benches) -> None:
    """They get a reset at once, the cause is counted, and the engine serves on."""
    here = bench(tcp=True)
    clients = [here.connect() for _ in range(3)]
    here.until(lambda: here.engine.open == 3)
    assert here.engine.kick(Kick(Selection(network=ELSEWHERE))) == 0
    assert here.engine.open == 3
    assert here.engine.kick(Kick(Selection(network=HERE))) == 3
    assert (here.engine.open, here.sessions()) == (0, [])
    assert here.ended() == {EndCause.DENIED: 3}
    assert all(ended(here, client) for client in clients)
    late = here.connect()
    late.sendall(b"hello")
    assert here.read(late, 5) == b"hello"


def test_output_that_waits_does_not_outlast_the_end(bench: Benches) -> None:
    """Our kernel would go on sending it to a client that reads nothing."""
    here = bench(tcp=True)
    client = here.connect()
    here.stuff(client)
    assert here.engine.kick(Kick(Selection(network=HERE))) == 1
    assert here.rests()
    client.setblocking(True)
    with pytest.raises(ConnectionResetError):
        list(iter(lambda: client.recv(1 << 20), b""))


def test_unix_clients_are_in_no_network(bench: Benches) -> None:
    """They have no address."""
    here = bench()
    here.connect()
    here.until(lambda: here.engine.open == 1)
    assert here.engine.kick(Kick(Selection(network=Network.parse("0.0.0.0/0")))) == 0
    assert here.engine.kick(Kick(Selection(network=Network.parse("::/0")))) == 0
    assert here.engine.open == 1


def test_a_session_that_we_are_ending_keeps_its_cause(bench: Benches) -> None:
    """It was not denied that ended it."""
    here = bench(tcp=True)
    here.connect()
    here.session().part(EndCause.IDLE)
    assert here.engine.kick(Kick(Selection(network=HERE))) == 1
    assert here.ended() == {EndCause.IDLE: 1}
