"""The lines about sensors: one for each network at once, sums later, and a bound."""

import json
from typing import Any

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.observed import Event, contradiction
from unpd.access.network import Network
from unpd.logs import Log
from unpd.master.sensor_lines import MAX_NETWORKS, SensorLines


class Scene:
    """The lines of a master."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self.lines = SensorLines(Log(self.sink.sink, "info", "json"))

    def take(self, number: int, refused: str = "") -> None:
        """A connection from an address."""
        self.lines.take("trap", Network.parse(f"192.0.2.{number}"), refused)

    def said(self) -> list[tuple[str, int]]:
        """The network and the count of each line since the last call."""
        rows: list[dict[str, Any]] = [json.loads(line) for line in self.sink.lines]
        self.sink.written = b""
        for row in rows:
            fields = {key: row[key] for key in ("service", "network", "refused", "count")}
            assert contradiction(Event(row["event"], row["level"], fields)) == ""
        return [(row["network"], row["count"]) for row in rows]


@pytest.fixture(name="scene")
def made_scene() -> Scene:
    """Lines of which none was written."""
    return Scene()


def test_each_source_has_a_line_at_once(scene: Scene) -> None:
    """Several within a second too: who looks for one of them finds it."""
    for number in (1, 2, 3, 4):
        scene.take(number)
    assert scene.said() == [(f"192.0.2.{number}", 1) for number in (1, 2, 3, 4)]


def test_the_next_ones_are_summed_up(scene: Scene) -> None:
    """No sum is lost when the source falls quiet. A source that was quiet for a second
    has a line at once again.
    """
    for _ in range(5):
        scene.take(1)
    assert scene.said() == [("192.0.2.1", 1)]
    scene.lines.flush()
    assert scene.said() == [("192.0.2.1", 4)]
    scene.lines.flush()
    scene.lines.flush()
    assert scene.said() == []
    scene.take(1)
    assert scene.said() == [("192.0.2.1", 1)]


def test_a_flood_has_few_lines(scene: Scene) -> None:
    """Their sum is the number of connections."""
    for number in range(200):
        scene.take(number)
    lines = scene.said()
    assert len(lines) == MAX_NETWORKS
    scene.lines.flush()
    assert scene.said() == [("others", 200 - MAX_NETWORKS)]
    assert sum(count for _, count in lines) == MAX_NETWORKS


def test_a_source_that_is_not_denied_has_its_own_sum(scene: Scene) -> None:
    """The reason is in the line."""
    scene.take(1)
    scene.take(1, "the list is full")
    assert scene.said() == [("192.0.2.1", 1), ("192.0.2.1", 1)]
