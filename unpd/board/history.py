"""The history of the last ten minutes, in memory that the master shares with its
children: a ring of one-second samples, for the status page and ``unpd top``.

Owns the memory. The master writes a sample a second (:class:`HistoryWriter`, called by
:mod:`unpd.master.recording`), and the exporters and the master's status read them
(:class:`History`). So the samples outlast reloads and exporters. The next master begins
without any. The names of the words are :class:`unpd.board.layout.History`,
:class:`HistoryTotals` and :class:`HistoryService`.

Only the master can write (:mod:`unpd.board.sealed`). Yet a reader trusts no word: a
number that no honest count reaches counts as 0, and no number makes it loop or raise.

No lock: the master writes the words of a sample, then raises ``WRITTEN``. There is one
slot more than samples that can be read. A reader asks ``WRITTEN`` before and after it
has copied, and leaves out the samples whose slots may have been written meanwhile.

The memory is 2.1 MiB with 64 services. It is sparse: 58 KiB, and 34 KiB for each
service that there is.

The time of a sample is of the clock since boot (CLOCK_BOOTTIME in clock_gettime(2)). It
goes on while the machine sleeps, so that such a time is seen as a gap, and nobody can
set it.

Errors: OSError if the kernel refuses the memory.

Known gap: a column of a service that only a refused configuration had may get another
service within ten minutes, whose first samples are then those of the former.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unpd.board.active import sane_cells
from unpd.board.layout import (
    HISTORY_SAMPLES,
    HISTORY_SLOTS,
    NS,
    HistoryService,
    HistoryTotals,
)
from unpd.board.layout import History as Words
from unpd.board.memory import sane, wrapped
from unpd.board.sealed import make_sealed

GAP_S = 3.0
"""Samples that are further apart have a gap between them: the machine slept, or the
master stood still. No rate is computed over it.
"""
RATE_S = 5.0
"""Over how long the present rates are computed."""
_AT_NS = Words.TOTALS + HistoryTotals.AT_NS


@dataclass(frozen=True, slots=True)
class Figures:
    """One sample of the daemon, or of one service. The figures are those of
    :class:`unpd.board.layout.HistoryTotals`; a service has no times.
    """

    open: int = 0
    accepted: int = 0
    datagrams: int = 0
    received: int = 0
    sent: int = 0
    refused: int = 0
    queued: int = 0
    rtt_count: int = 0
    rtt_sum_ns: int = 0
    lag_count: int = 0
    lag_sum_ns: int = 0


NAMES = tuple(word.name.lower() for word in HistoryTotals.words)[1:]
"""The names of the figures, in the order of the columns."""
SERVICE_NAMES = tuple(word.name.lower() for word in HistoryService.words)


@dataclass(frozen=True, slots=True)
class Series:
    """The samples that were read, the oldest first. ``at_ns``: their times. ``spans``:
    the seconds before each; 0 for the first one and behind a gap. ``columns``: the
    figures by name. All are of the same length.
    """

    at_ns: Sequence[int]
    spans: Sequence[float]
    columns: Mapping[str, Sequence[int]]

    def latest(self, name: str) -> int:
        """The last sample of a figure, 0 if there is none."""
        return self.columns[name][-1] if self.at_ns else 0

    def highest(self, name: str) -> int:
        """The highest sample of a figure, 0 if there is none."""
        return max(self.columns[name]) if self.at_ns else 0

    def rates(self, name: str) -> list[float | None]:
        """How fast a count went up before each sample, in units a second; None for the
        first sample and behind a gap.
        """
        found: list[float | None] = []
        before = 0
        for count, span in zip(self.columns[name], self.spans, strict=True):
            found.append(max(0, count - before) / span if span else None)
            before = count
        return found

    def means_s(self, name: str) -> list[float | None]:
        """The mean of the times, in seconds, that came in before each sample: those
        with the columns ``name``_sum_ns and ``name``_count. None where none came.
        """
        sums, rates = self.rates(f"{name}_sum_ns"), self.rates(f"{name}_count")
        return [
            total / rate / NS if rate and total is not None else None
            for total, rate in zip(sums, rates, strict=True)
        ]

    def rate(self, name: str) -> float | None:
        """How fast a count goes up now; None if there are no two samples without a gap
        between them.
        """
        counts, pairs = self.columns.get(name, ()), self._recent_pairs()
        span_ns = sum(self.at_ns[at] - self.at_ns[at - 1] for at in pairs)
        up = sum(max(0, counts[at] - counts[at - 1]) for at in pairs)
        return up * NS / span_ns if pairs else None

    def mean_s(self, name: str) -> float | None:
        """The mean of the times that have come in lately; None if none have."""
        pairs = self._recent_pairs()
        counts, sums_ns = (self.columns.get(f"{name}_{end}", ()) for end in ("count", "sum_ns"))
        count, total_ns = (
            sum(max(0, each[at] - each[at - 1]) for at in pairs) for each in (counts, sums_ns)
        )
        return total_ns / count / NS if count else None

    def _recent_pairs(self) -> list[int]:
        """The places of the samples of the last RATE_S that have one before them
        without a gap.
        """
        found: list[int] = []
        for at in range(len(self.at_ns) - 1, 0, -1):
            if self.at_ns[at - 1] < self.at_ns[-1] - RATE_S * NS:
                break
            if 0 < self.at_ns[at] - self.at_ns[at - 1] <= GAP_S * NS:
                found.append(at)
        return found


class History:
    """The reader. ``words``: the shared memory."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def window(self, now_ns: int) -> "Window":
        """The samples until the time ``now_ns`` of the clock since boot: at most
        HISTORY_SAMPLES, none older than that many seconds.
        """
        return Window(self._words, now_ns)


class Window:
    """The samples that can be read at a moment. A snapshot reads 64 services, so that
    only what it shows of each is copied: some milliseconds in all.
    """

    def __init__(self, words: memoryview, now_ns: int) -> None:
        self._words = words
        last = sane(words[Words.WRITTEN])
        at_ns = words[_AT_NS : _AT_NS + HISTORY_SLOTS].tolist()
        since_ns = now_ns - HISTORY_SAMPLES * NS
        self._times = {
            number: at_ns[number % HISTORY_SLOTS]
            for number in range(max(1, last + 1 - HISTORY_SAMPLES), last + 1)
            if since_ns <= at_ns[number % HISTORY_SLOTS] <= now_ns
        }
        self._numbers = list(self._times)
        newest_ns = max(self._times.values(), default=0)
        lately_ns = newest_ns - int(RATE_S * NS)
        self._recent = [number for number, at in self._times.items() if at >= lately_ns]

    def totals(self) -> Series:
        """The samples of the whole daemon."""
        return self._series(Words.TOTALS + HISTORY_SLOTS, NAMES, self._numbers)

    def recent(self, column: int) -> Series:
        """The samples of the last RATE_S of the service in a column of the board."""
        return self._series(_service_start(column), SERVICE_NAMES, self._recent)

    def highest(self, column: int, name: str) -> int:
        """The highest sample of a figure of that service, 0 if there is none."""
        if not self._numbers:
            return 0
        start = _service_start(column) + SERVICE_NAMES.index(name) * HISTORY_SLOTS
        first, last = (self._numbers[end] % HISTORY_SLOTS for end in (0, -1))
        runs = ((first, last),) if first <= last else ((first, HISTORY_SLOTS - 1), (0, last))
        cells = [self._words[start + a : start + b + 1].tolist() for a, b in runs]
        return max(max(sane_cells(each)) for each in cells)

    def _series(self, start: int, names: Sequence[str], numbers: Sequence[int]) -> Series:
        words = self._words
        columns = {
            name: sane_cells([words[at + number % HISTORY_SLOTS] for number in numbers])
            for name, at in zip(names, itertools.count(start, HISTORY_SLOTS), strict=False)
        }
        oldest = sane(words[Words.WRITTEN]) + 2 - HISTORY_SLOTS
        begin = sum(number < oldest for number in numbers)
        at_ns = [self._times[number] for number in numbers[begin:]]
        return Series(
            at_ns, _spans(at_ns), {name: column[begin:] for name, column in columns.items()}
        )


def _spans(at_ns: Sequence[int]) -> list[float]:
    """The seconds before each sample; 0 for the first one and behind a gap."""
    spans = [0.0] if at_ns else []
    for before, at in itertools.pairwise(at_ns):
        span = (at - before) / NS
        spans.append(span if 0 < span <= GAP_S else 0.0)
    return spans


def _service_start(column: int) -> int:
    return Words.SERVICES + column * HistoryService.size


class HistoryWriter:
    """The writer, which makes the memory. ``history``: the reader of its children."""

    def __init__(self) -> None:
        self._words, shared = make_sealed("unpd-history", Words.size)
        self._written = 0
        self._second = -1
        self._columns: set[int] = set()
        self.history = History(shared)

    def due(self, now_ns: int) -> bool:
        """Whether a second of the clock since boot has begun that has no sample."""
        return now_ns // NS != self._second

    def write(self, now_ns: int, totals: Figures, services: Mapping[int, Figures]) -> None:
        """Write a sample. ``services``: by their columns of the board. A service that
        is not among them any more has zeros.
        """
        self._second = now_ns // NS
        number = self._written + 1
        slot = number % HISTORY_SLOTS
        self._words[_AT_NS + slot] = now_ns
        self._store(Words.TOTALS + HISTORY_SLOTS + slot, totals, NAMES)
        self._columns |= services.keys()
        for column in self._columns:
            start = _service_start(column) + slot
            self._store(start, services.get(column, Figures()), SERVICE_NAMES)
        self._written = self._words[Words.WRITTEN] = number

    def _store(self, start: int, figures: Figures, names: Sequence[str]) -> None:
        for number, name in enumerate(names):
            self._words[start + number * HISTORY_SLOTS] = wrapped(getattr(figures, name))
