"""The paths to the clients of connections that end: which are asked for, and what the
metrics make of them.
"""

from dataclasses import replace

import pytest

from unpd.board import layout
from unpd.board.layout import RTT_BOUNDS_S, Service
from unpd.config.times import ServiceTimes
from unpd.kernel.tcp_info import PathQuality
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.ledger import Ledger
from unpd.worker.path_quality import APART_S, LONG_S, SHARE, PathSampler
from unpd.worker.terms import Terms

PATH = PathQuality(0.02, 2)


class Scene:
    """An echo, its counts, and a kernel that knows one path."""

    def __init__(self, path: PathQuality | None = PATH) -> None:
        self.row = memoryview(bytearray(layout.Row.size * layout.WORD_BYTES)).cast("Q")
        self.terms = self.service(0)
        self.asked: list[int] = []
        self.path = path
        self.paths = PathSampler(Ledger(self.row, [self.terms]), self.kernel)

    def service(self, column: int) -> Terms:
        """The terms of a service in a column."""
        return Terms(
            name="echo",
            service=Echo(EchoOptions()),
            times=ServiceTimes(0.0, 0.0, 0.0),
            words=layout.service_cells(column),
        )

    def kernel(self, fd: int) -> PathQuality | None:
        """Note the question."""
        self.asked.append(fd)
        return self.path

    def ends(
        self, at: float, duration_s: float = 0.001, terms: Terms | None = None
    ) -> PathQuality | None:
        """A connection ends; return the path that is known of it."""
        return self.paths.ask(terms or self.terms, 7, duration_s, at)

    def word(self, word: int) -> int:
        """One count of the echo."""
        return self.row[self.terms.words + word]

    @property
    def counted(self) -> int:
        """For how many connections the histogram stands."""
        start = self.terms.words + Service.RTT_BUCKETS
        return sum(self.row[start : start + len(RTT_BOUNDS_S) + 1])


def test_a_path_is_counted() -> None:
    """By its round-trip time, with its segments."""
    scene = Scene()
    assert scene.ends(100.0) is PATH
    assert scene.word(Service.RTT_BUCKETS + RTT_BOUNDS_S.index(0.025)) == 1
    assert scene.word(Service.RTT_SUM_NS) == 20_000_000
    assert scene.word(Service.RETRANSMITTED) == 2


def test_every_connection_is_asked_for_while_few_end() -> None:
    """Each stands for itself."""
    scene = Scene()
    for number in range(5):
        assert scene.ends(100.0 + number * APART_S * 1.01) is PATH
    assert (len(scene.asked), scene.counted, scene.word(Service.RETRANSMITTED)) == (5, 5, 10)


def test_of_many_short_ones_one_stands_for_those_before_it() -> None:
    """So the histogram counts all, and the segments are an estimate."""
    scene = Scene()
    paths = [scene.ends(100.0) for _ in range(1 + 2 * SHARE)]
    assert [number for number, path in enumerate(paths) if path] == [0, SHARE, 2 * SHARE]
    assert scene.counted == 1 + 2 * SHARE
    assert scene.word(Service.RETRANSMITTED) == 2 * scene.counted


def test_those_left_out_are_stood_for_later() -> None:
    """By the next that is asked for, after a pause, too."""
    scene = Scene()
    for _ in range(3):
        scene.ends(100.0)
    assert scene.counted == 1
    scene.ends(200.0)
    assert scene.counted == 4


def test_a_long_one_is_always_asked_for() -> None:
    """It stands for itself alone."""
    scene = Scene()
    scene.ends(100.0)
    scene.ends(100.0)
    assert scene.ends(100.0, LONG_S) is PATH
    assert scene.counted == 2
    assert scene.ends(200.0) is PATH
    assert scene.counted == 4


def test_no_service_stands_for_another() -> None:
    """Those left out are counted by service."""
    scene = Scene()
    other = scene.service(1)
    for _ in range(3):
        scene.ends(100.0)
    assert scene.ends(200.0, terms=other) is PATH
    assert scene.counted == 1


def test_no_connection_stands_for_a_unix_client() -> None:
    """Such clients have no path: of 18 ends at one moment, the one over TCP counts."""
    scene = Scene()
    unix = replace(scene.terms, over_tcp=False)
    for _ in range(2 * SHARE):
        assert scene.ends(100.0, terms=unix) is None
    assert scene.ends(100.0, LONG_S, unix) is None
    assert scene.asked == []
    assert scene.ends(100.0) is PATH
    assert scene.counted == 1


@pytest.mark.parametrize("duration_s", [0.0, LONG_S])
def test_an_unknown_path_counts_nothing(duration_s: float) -> None:
    """As that of a UNIX client."""
    scene = Scene(path=None)
    assert scene.ends(100.0, duration_s) is None
    assert scene.counted == scene.word(Service.RTT_SUM_NS) == 0
