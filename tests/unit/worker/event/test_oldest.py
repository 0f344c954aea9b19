"""The oldest open connection of each service: found, and looked for only when it is
not known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from unpd.board import layout
from unpd.board.layout import Service
from unpd.config.times import ServiceTimes
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.event.oldest import PAUSE_S, Oldest
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms

NO_TIMES = ServiceTimes(0.0, 0.0, 0.0)


@dataclass(slots=True)
class Connection:
    """A session that began at ``opened_at``."""

    terms: Terms
    opened_at: float
    number: int


class Scene:
    """Two services of a worker, and their connections."""

    def __init__(self) -> None:
        self.row = memoryview(bytearray(layout.Row.size * layout.WORD_BYTES)).cast("Q")
        self.echo, self.other = (
            Terms(
                name=name,
                service=Echo(EchoOptions()),
                times=NO_TIMES,
                words=layout.service_cells(column),
            )
            for column, name in enumerate(("echo", "other"))
        )
        self.ledger = Ledger(self.row, [self.echo, self.other])
        self.oldest = Oldest([self.echo, self.other], self.ledger)
        self.open: list[Connection] = []
        self.scans = 0
        self.now = 100.0

    def accept(self, terms: Terms, at: float) -> Connection:
        """A client comes."""
        self.ledger.accepted(layout.Row.LISTENER_ACCEPTED, terms, 1)
        number = next(
            free for free in range(3, 12) if free not in [one.number for one in self.open]
        )
        self.open.append(Connection(terms, at, number))
        return self.open[-1]

    def end(self, connection: Connection) -> None:
        """It goes."""
        self.open.remove(connection)

    def sessions(self) -> Iterator[Connection]:
        """The open connections."""
        self.scans += 1
        return iter(sorted(self.open, key=lambda one: one.number))

    def session_at(self, number: int) -> Connection | None:
        """The open connection with a number."""
        return next((one for one in self.open if one.number == number), None)

    def look(self, after_s: float = 1.0) -> tuple[float, float]:
        """Look, later; return since when the oldest of both services are open, 0:
        none.
        """
        self.now += after_s
        self.oldest.look(self.sessions, self.session_at, self.now)
        echo, other = (
            self.row[terms.words + Service.OLDEST_NS] for terms in (self.echo, self.other)
        )
        return echo / layout.NS, other / layout.NS


@pytest.fixture
def scene() -> Scene:
    """A worker without connections."""
    return Scene()


def test_the_oldest_of_each_service_is_written(scene: Scene) -> None:
    """Whatever their order is."""
    for terms, at in ((scene.echo, 20.0), (scene.echo, 10.0), (scene.other, 30.0)):
        scene.accept(terms, at)
    assert scene.look() == (10.0, 30.0)


def test_its_end_is_noticed(scene: Scene) -> None:
    """The next one takes its place, and none in the end."""
    first, second = scene.accept(scene.echo, 10.0), scene.accept(scene.echo, 20.0)
    assert scene.look() == (10.0, 0.0)
    scene.end(first)
    assert scene.look() == (20.0, 0.0)
    scene.end(second)
    assert scene.look() == (0.0, 0.0)


def test_another_one_with_its_number_is_not_it(scene: Scene) -> None:
    """The kernel gives the lowest free descriptor."""
    first, _ = scene.accept(scene.echo, 10.0), scene.accept(scene.echo, 20.0)
    scene.look()
    scene.end(first)
    assert scene.accept(scene.echo, 30.0).number == first.number
    assert scene.look() == (20.0, 0.0)


def test_nothing_is_looked_for_while_it_is_known(scene: Scene) -> None:
    """Other connections come and go meanwhile."""
    scene.accept(scene.echo, 10.0)
    scene.look()
    for _ in range(3):
        scene.end(scene.accept(scene.echo, 20.0))
        assert scene.look() == (10.0, 0.0)
    assert scene.scans == 1


def test_nothing_is_looked_for_in_an_idle_worker(scene: Scene) -> None:
    """It has accepted nothing since."""
    for _ in range(3):
        assert scene.look() == (0.0, 0.0)
    assert scene.scans == 0


def test_a_connection_of_a_service_without_any_is_found(scene: Scene) -> None:
    """Also beside one whose oldest is known."""
    scene.accept(scene.echo, 10.0)
    scene.look()
    scene.accept(scene.other, 20.0)
    assert scene.look() == (10.0, 20.0)


def test_many_connections_are_not_looked_at_all_the_time(scene: Scene) -> None:
    """What is shown may be old then."""
    connections = [scene.accept(scene.echo, 10.0 + at) for at in range(5)]
    scene.ledger.open = 5000
    assert scene.look() == (10.0, 0.0)
    scene.end(connections[0])
    assert scene.look(5000 * PAUSE_S - 0.1) == (10.0, 0.0)
    assert scene.look(0.2) == (11.0, 0.0)
