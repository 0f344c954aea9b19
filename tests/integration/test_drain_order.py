"""The order to drain and a new client arrive in the same turn of a worker's loop."""

import os
import socket

from unpd.worker.event.connection import Terms

from tests.support import clients
from unpd.board import layout
from unpd.logs import Log
from unpd.services.echo import Echo, EchoOptions
from unpd.sinks import standard_error
from unpd.worker.accepting import Listener
from unpd.worker.event.engine import Engine


def test_a_client_in_the_turn_that_closes_the_listener() -> None:
    """Epoll returns the order and, behind it, the listener that the order has closed
    meanwhile. The client is accepted and served, and the worker goes on.
    """
    cells = memoryview(bytearray(layout.Row.size * layout.WORD_BYTES)).cast("Q")
    terms = Terms(
        "echo",
        Echo(EchoOptions()),
        layout.service_cells(0),
        idle_timeout_s=10.0,
        session_timeout_s=0.0,
        user_timeout_s=10.0,
    )
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        engine = Engine(
            [Listener(listener, terms, "tcp://127.0.0.1:0", 100, layout.Row.LISTENER_ACCEPTED)],
            10,
            cells,
            Log(standard_error(), "error", "text"),
        )

        def drain() -> None:
            os.read(reader, 1)
            engine.stop_accepting()

        engine.watch(reader, drain)
        os.write(writer, b"!")
        with clients.connect(listener.getsockname()) as client:
            engine.turn()
            assert engine.count == 1
            client.send(b"hello")
            engine.turn()
            assert clients.read_exactly(client, 5) == b"hello"
            assert cells[layout.Row.LISTENER_ACCEPTED] == 1
    engine.leave()
    for fd in (reader, writer):
        os.close(fd)
