"""The history as a reader finds it: after any sequence of samples, in the middle of a
write, and with any numbers in the memory.
"""

import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.contested import Contested, Watched
from unpd.board.history import GAP_S, NAMES, Figures, History, HistoryWriter
from unpd.board.layout import HISTORY_SAMPLES, NS
from unpd.board.layout import History as Words

START_NS = 5_000 * NS
SPANS_S = st.one_of(st.just(1.0), st.floats(0.01, 4 * GAP_S), st.floats(0.0, 3 * HISTORY_SAMPLES))


class WatchedWriter(HistoryWriter):
    """A writer that calls ``look`` after each word that it stores."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._words = Watched(self._words, look)  # type: ignore[assignment]

    @property
    def words(self) -> memoryview:
        """The memory."""
        return self._words


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2 * HISTORY_SAMPLES), st.lists(SPANS_S, max_size=8), st.floats(0, 700))
def test_the_samples_of_ten_minutes_are_there(
    before: int, spans_s: list[float], later_s: float
) -> None:
    """The reader finds the last 600 samples that are not older than ten minutes, in
    their order. Every rate belongs to two samples without a gap, and is not negative.
    """
    writer, at_ns, expected = HistoryWriter(), START_NS, []
    for number, span_s in enumerate([1.0] * before + spans_s):
        at_ns += int(span_s * NS)
        writer.write(at_ns, Figures(open=number, accepted=number), {})
        expected.append((at_ns, number))
    now_ns = at_ns + int(later_s * NS)
    since_ns = now_ns - HISTORY_SAMPLES * NS
    expected = [(at, number) for at, number in expected[-HISTORY_SAMPLES:] if at >= since_ns]
    series = writer.history.window(now_ns).totals()
    assert list(zip(series.at_ns, series.columns.get("open", ()), strict=True)) == expected
    rates = series.rates("accepted")
    assert len(rates) == len(expected)
    for (before_ns, _), (at, _), rate in zip(expected, expected[1:], rates[1:], strict=False):
        assert (rate is not None) == (0 < at - before_ns <= GAP_S * NS)
        assert rate is None or rate >= 0


def test_a_reader_never_sees_half_a_sample() -> None:
    """Between any two words of a write, every sample that a reader finds is whole, of
    the daemon and of a service, and none but the oldest is missing.
    """
    found: list[list[int]] = []

    def look() -> None:
        now_ns = START_NS + 10_000 * NS
        for series in (history.window(now_ns).totals(), history.window(now_ns).recent(0)):
            columns = {tuple(column) for column in series.columns.values()}
            assert len(columns) == 1, "all figures of a sample are the same"
            found.append(list(*columns))

    looking = False
    writer = WatchedWriter(lambda: look() if looking else None)
    history = writer.history
    for number in range(1, 2 * HISTORY_SAMPLES + 3):
        looking = number > 2 * HISTORY_SAMPLES or number < 3
        figures = Figures(**dict.fromkeys(NAMES, number))
        at_ns = START_NS + 10_000 * NS - (2 * HISTORY_SAMPLES + 3 - number)
        writer.write(at_ns, figures, {0: figures})
    assert len(found) > 50
    for numbers in found:
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        assert len(numbers) in (0, 1, 2, HISTORY_SAMPLES)


class Overtaken:
    """Words whose writer goes on while they are read: it writes a sample in every
    ``each``-th access.
    """

    def __init__(self, each: int) -> None:
        self.writer = WatchedWriter(lambda: None)
        self._each = each
        self._accesses = 0
        self._number = 0
        for _ in range(HISTORY_SAMPLES + 50):
            self.write()

    def write(self) -> None:
        """Write the next sample, all figures of which are its number."""
        self._number += 1
        figures = Figures(**dict.fromkeys(NAMES, self._number))
        self.writer.write(START_NS + self._number, figures, {0: figures})

    def __getitem__(self, at: Any) -> Any:
        self._accesses += 1
        if self._accesses % self._each == 0:
            self.write()
        return self.writer.words[at]


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 300))
def test_a_writer_that_overtakes_the_reader(each: int) -> None:
    """However many samples come while a reader copies, those that it returns are whole:
    it leaves out the ones that may have been overwritten meanwhile.
    """
    history = History(Overtaken(each))  # type: ignore[arg-type]
    window = history.window(START_NS + 10_000_000)
    for series in (window.totals(), window.recent(0)):
        columns = {tuple(column) for column in series.columns.values()}
        assert len(columns) == 1, "all figures of a sample are the same"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_no_number_makes_a_reader_raise(seed: int) -> None:
    """Whatever stands in the memory, the reader ends, with at most 600 samples and no
    number below zero. (Nobody but the master can write there: a second lock.)
    """
    rng = random.Random(seed)
    words = memoryview(bytearray(8 * Words.size)).cast("Q")
    for at in rng.sample(range(Words.size), 2000):
        words[at] = rng.choice((0, 1, START_NS, 1 << 62, (1 << 64) - 1))
    words[Words.WRITTEN] = rng.choice((0, 1, 700, 1 << 61, 1 << 62, (1 << 64) - 1))
    history = History(Contested(words, rng))  # type: ignore[arg-type]
    window = history.window(START_NS)
    assert 0 <= window.highest(63, "open") < 1 << 62
    for series in (window.totals(), window.recent(63)):
        assert len(series.at_ns) <= HISTORY_SAMPLES
        assert all(number >= 0 for column in series.columns.values() for number in column)
        assert all(rate is None or rate >= 0 for rate in series.rates("accepted"))
