"""Listeners take turns where a place for a client is scarce: one whose queue is never
empty does not starve the others. An engine and a dispatcher are turned by hand, over
real sockets; the sessions of the dispatcher have no processes.
"""

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.dispatching import DispatcherBench
from tests.support.engine import Benches
from unpd.access.terms import AccessTerms
from unpd.board import layout
from unpd.names import EndCause
from unpd.services.echo import Echo, EchoOptions

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
    here = DispatcherBench(stack, AccessTerms(max_connections=places), places=places, listeners=2)

    def come() -> None:
        for index in range(2):
            here.connect(index)

    come()
    come()
    if moment == "in the turn":  # the dispatcher looks for ends in each turn
        here.processes.ends = here.end_oldest
    for _ in range(8 * places):
        here.turn()
        come()
        if moment == "between turns":
            here.end_oldest()
    first, second = here.accepted
    assert first + second >= 8 * places
    assert abs(first - second) <= places
