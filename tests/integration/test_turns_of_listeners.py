"""Listeners take turns where a place for a client is scarce: one whose queue is never
empty does not starve the others. An engine and a dispatcher are turned by hand, over
real sockets; the sessions of the dispatcher have no processes.
"""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.support import clients
from tests.support.engine import NO_TIMES, OPTIONS, Benches
from tests.support.gates import make_gate
from tests.support.memory_sink import MemorySink
from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.board.memory import Scoreboard, create
from unpd.board.sessions import SessionTable
from unpd.dispatcher.main import Dispatcher, DispatcherSetup
from unpd.dispatcher.session import SessionSetup
from unpd.kernel.signals import SignalQueue
from unpd.kernel.sockets import listen_tcp
from unpd.logs import Log
from unpd.names import EndCause, ReapReason
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.accepting import ListenerSetup
from unpd.worker.main import ServiceSetup
from unpd.worker.orders import Signals

TURNS = 4
"""How often each listener has its turn."""


@pytest.mark.parametrize("count", [2, 3])
def test_an_iterative_worker_takes_a_client_of_each_listener(bench: Benches, count: int) -> None:
    """It has one place. All queues have clients all the time."""
    b = bench(*[Echo(EchoOptions())] * count, max_connections=1, alone=True)
    for column in range(count):
        b.connect(column)
        b.connect(column)
    for _ in range(TURNS * count):
        b.session().end(EndCause.SHUTDOWN)
        for column in range(count):
            b.connect(column)
    accepted = [b.count(layout.Service.ACCEPTED, column) for column in range(count)]
    assert accepted == [TURNS] * count


class Scene:
    """A dispatcher with one service, two listeners that always have clients, and
    ``places`` sessions at most.
    """

    def __init__(self, stack: contextlib.ExitStack, places: int) -> None:
        fd = create()
        stack.callback(os.close, fd)
        self._stack, self._board = stack, Scoreboard(fd)
        self._socks = [stack.enter_context(listen_tcp("127.0.0.1", 0, OPTIONS)) for _ in range(2)]
        service = ServiceSetup(
            name="echo",
            service=Echo(EchoOptions()),
            column=0,
            times=NO_TIMES,
            listeners=tuple(
                ListenerSetup("the listener", sock, OPTIONS.backlog, column)
                for column, sock in enumerate(self._socks)
            ),
            access=AccessTerms(max_connections=places),
        )
        self.dispatcher = Dispatcher(
            DispatcherSetup(
                services=(service,),
                table=SessionTable(places),
                gate=make_gate(stack, self._board),
                grace_s=1.0,
                board=self._board,
                row=self._board.row(0),
                log=Log(MemorySink().sink, "info", "json"),
                signals=Signals(SignalQueue(), {}, -1),
                report_ready=lambda: None,
                channel=None,  # type: ignore[arg-type]
                switch_log=dict,
                title=lambda _: None,
            )
        )
        self._running: list[int] = []
        processes = self.dispatcher._processes  # noqa: SLF001 - in place of real processes
        processes.fork = self._fork  # type: ignore[method-assign]
        self.come()
        self.come()

    def _fork(self, index: int, setup: SessionSetup) -> None:
        self._running.append(index)

    def come(self) -> None:
        """One more client waits in each queue."""
        for sock in self._socks:
            self._stack.enter_context(clients.connect(sock.getsockname()))

    def turn(self) -> None:
        """Turn once, without a wait."""
        self.dispatcher._sweep_at = 0.0  # noqa: SLF001
        self.dispatcher._turn()  # noqa: SLF001

    def end_oldest(self) -> None:
        """The session that has lasted longest ends."""
        self.dispatcher._roll.ended(self._running.pop(0), ReapReason.CLEAN, 0)  # noqa: SLF001

    @property
    def accepted(self) -> list[int]:
        """How many clients came through each listener."""
        return self._board.row(0)[layout.Row.span(layout.Row.LISTENER_ACCEPTED)][:2].tolist()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes what a test leaves open."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("moment", ["between turns", "in the turn"])
def test_a_full_dispatcher_takes_clients_of_each_listener(
    stack: contextlib.ExitStack, places: int, moment: str
) -> None:
    """A place that becomes free in the turn that used the last one up counts too."""
    scene = Scene(stack, places)
    if moment == "in the turn":
        processes = scene.dispatcher._processes  # noqa: SLF001 - looks for ends in each turn
        processes.take_ends = scene.end_oldest  # type: ignore[method-assign]
    for _ in range(8 * places):
        scene.turn()
        scene.come()
        if moment == "between turns":
            scene.end_oldest()
    first, second = scene.accepted
    assert first + second >= 8 * places
    assert abs(first - second) <= places
