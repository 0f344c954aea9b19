"""A dispatcher that a test turns by hand, over real sockets; its sessions have no
processes.
"""

import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

from tests.support import clients
from tests.support.engine import NO_TIMES, OPTIONS, PATIENCE_S
from tests.support.gates import make_gate
from tests.support.memory_sink import MemorySink
from tests.support.waiting import until
from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.board.memory import Scoreboard, create
from unpd.board.sessions import SessionTable
from unpd.dispatcher.main import Dispatcher, DispatcherSetup
from unpd.dispatcher.processes import SessionProcesses
from unpd.dispatcher.session import SessionSetup
from unpd.kernel.sockets import listen_tcp
from unpd.logs import Log
from unpd.names import ChildOrder, ReapReason
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.accepting import ListenerSetup
from unpd.worker.main import ServiceSetup


@dataclass(slots=True)
class FakeSignals:
    """``orders``: those that come next. They come when the test asks for them."""

    wakeup_fd: int = -1
    orders: list[ChildOrder] = field(default_factory=list)

    def take(self) -> list[ChildOrder]:
        """Take the orders."""
        taken, self.orders = self.orders, []
        return taken


class FakeProcesses(SessionProcesses):
    """In the place of the processes of sessions. ``running``: the entries of those that
    were forked, from the oldest on, and ``peers`` the addresses of their clients.
    ``told``: the orders and whom they were for. ``refusal``: what the kernel says to a
    fork. ``ends``: what happens when the dispatcher looks for ends.
    """

    def __init__(self, of_dispatcher: SessionProcesses) -> None:
        """``of_dispatcher``: those in whose place these are."""
        vars(self).update(vars(of_dispatcher))
        self.running: deque[int] = deque()
        self.peers: list[bytes] = []
        self.told: list[tuple[ChildOrder, object]] = []
        self.refusal: OSError | None = None
        self.ends: Callable[[], None] = lambda: None

    def fork(self, index: int, setup: SessionSetup) -> None:
        """Note a session, or refuse it."""
        if self.refusal is not None:
            raise self.refusal
        self.running.append(index)
        self.peers.append(setup.peer)

    def take_ends(self) -> None:
        """What the test says."""
        self.ends()

    def tell(self, order: ChildOrder, indexes: Container[int] | None = None) -> None:
        """Note the order."""
        self.told.append((order, indexes))


class DispatcherBench:
    """A dispatcher with an echo service that has ``places`` sessions at most, and
    ``listeners``. ``stack`` closes everything.
    """

    def __init__(
        self, stack: contextlib.ExitStack, access: AccessTerms, *, places: int, listeners: int = 1
    ) -> None:
        fd = create()
        stack.callback(os.close, fd)
        self._stack, self.board, self._sink = stack, Scoreboard(fd), MemorySink()
        self.gate = make_gate(stack, self.board)
        self._socks = [
            stack.enter_context(listen_tcp("127.0.0.1", 0, OPTIONS)) for _ in range(listeners)
        ]
        service = ServiceSetup(
            name="echo",
            service=Echo(EchoOptions()),
            column=0,
            times=NO_TIMES,
            listeners=tuple(
                ListenerSetup("the listener", sock, OPTIONS.backlog, column)
                for column, sock in enumerate(self._socks)
            ),
            access=access,
        )
        self.signals = FakeSignals()
        self.dispatcher = Dispatcher(
            DispatcherSetup(
                services=(service,),
                table=SessionTable(places),
                gate=self.gate,
                grace_s=1.0,
                board=self.board,
                row=self.board.row(0),
                log=Log(self._sink.sink, "info", "json"),
                signals=self.signals,  # type: ignore[arg-type]
                report_ready=lambda: None,
                channel=None,  # type: ignore[arg-type]
                switch_log=dict,
                title=lambda _: None,
            )
        )
        self.processes = FakeProcesses(self.dispatcher._processes)  # noqa: SLF001
        self.dispatcher._processes = self.processes  # noqa: SLF001

    def connect(self, index: int = 0) -> socket.socket:
        """A client in the queue of a listener."""
        return self._stack.enter_context(clients.connect(self._socks[index].getsockname()))

    def turn(self) -> None:
        """Turn once, without a wait."""
        self.dispatcher._sweep_at = 0.0  # noqa: SLF001
        self.dispatcher._turn()  # noqa: SLF001

    def until(self, condition: Callable[[], object], message: str) -> None:
        """Turn until ``condition`` holds."""

        def turned() -> object:
            self.turn()
            return condition()

        until(turned, PATIENCE_S, message)

    def order(self, order: ChildOrder) -> None:
        """Give an order."""
        self.signals.orders.append(order)
        self.dispatcher._take_orders(0)  # noqa: SLF001

    def end_oldest(self) -> None:
        """The session that has lasted longest ends."""
        index = self.processes.running.popleft()
        self.dispatcher._roll.ended(index, ReapReason.CLEAN, 0)  # noqa: SLF001

    @property
    def accepted(self) -> list[int]:
        """How many clients came through each listener."""
        words = self.board.row(0)[layout.Row.span(layout.Row.LISTENER_ACCEPTED)]
        return words[: len(self._socks)].tolist()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self.board.row(0)[layout.Row.OPEN]

    def count(self, word: int) -> int:
        """One word of the service."""
        return self.board.row(0)[layout.service_cells(0) + word]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log with that event."""
        return [row for row in map(json.loads, self._sink.lines) if row["event"] == name]
