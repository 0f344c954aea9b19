"""The exporter's own rendering agrees with that of prometheus_client, line by line."""

import os
from collections.abc import Iterator

import pytest

from tests.support.exporter import make_labels, make_registry
from unpd.board import layout, memory
from unpd.board.memory import Entry, Scoreboard
from unpd.libraries import CollectorRegistry, choose_encoder
from unpd.metrics.reading import Reading
from unpd.metrics.rendering import Renderer
from unpd.names import ChildKind, ChildPhase

FORMATS = ("text/plain", "application/openmetrics-text; version=1.0.0")
TIMES = ("unpd_master_heartbeat_age_seconds ", "unpd_oldest_connection_seconds{")
"""The series that go on between two readings."""


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    """An empty board."""
    fd = memory.create()
    yield Scoreboard(fd)
    os.close(fd)


def noise(board: Scoreboard, seed: int) -> None:
    """Counts of all sizes in every word of the master and of three rows."""
    words = board.words
    board.enter(Entry(2, 1, os.getpid(), ChildKind.WORKER, 0, ChildPhase.READY, 1))
    ends = layout.row_start(3)
    for at in (*range(layout.Master.PHASE, layout.Master.size), *range(layout.row_start(0), ends)):
        words[at] = (at + seed) * 0x9E3779B97F4A7C15 % 2**64 >> (at + seed) % 64
    words[layout.Master.ROWS_USED] = 3
    words[layout.Master.BEAT_NS] = 0


def lines(page: bytes) -> list[str]:
    """The lines of a page, without those that go on with the time."""
    return [line for line in page.decode().split("\n") if not line.startswith(TIMES)]


@pytest.mark.parametrize("accept", FORMATS)
def test_each_page_is_that_of_prometheus_client(board: Scoreboard, accept: str) -> None:
    """The first one, and the later ones, also where series come and go."""
    encode, _ = choose_encoder(accept)
    labels = make_labels(os.getpid())
    renderer, registry = Renderer(encode), make_registry(board, labels)
    for seed in range(4):
        if seed:
            noise(board, seed)
        page = renderer.render(Reading.take(board, labels, 0))
        assert lines(page) == lines(encode(registry))


@pytest.mark.parametrize("accept", FORMATS)
def test_a_line_is_encoded_once(board: Scoreboard, accept: str) -> None:
    """Later pages do without prometheus_client, so that a scrape of many services takes
    milliseconds.
    """
    encode, _ = choose_encoder(accept)
    calls: list[CollectorRegistry] = []

    def counting(registry: CollectorRegistry) -> bytes:
        calls.append(registry)
        return encode(registry)

    renderer = Renderer(counting)
    reading = Reading.take(board, make_labels(os.getpid()), 0)
    first = renderer.render(reading)
    before = len(calls)
    assert renderer.render(reading) == first
    assert len(calls) == before
