"""The history of the last ten minutes in shared memory: what a reader finds, and that
nobody else can write it.
"""

import ctypes
import errno
import mmap
import os
from pathlib import Path

import pytest

from unpd.board.history import GAP_S, Figures, HistoryWriter, Series
from unpd.board.layout import HISTORY_SAMPLES, NS

START_NS = 10_000 * NS


def written(*seconds: float) -> HistoryWriter:
    """A history with a sample at each of these times after the start; 10 connections
    are accepted in each second.
    """
    writer = HistoryWriter()
    for second in seconds:
        one = Figures(open=int(second), accepted=int(10 * second))
        writer.write(START_NS + int(second * NS), one, {3: one})
    return writer


def read(writer: HistoryWriter, second: float) -> Series:
    """The samples, at a time after the start."""
    return writer.history.window(START_NS + int(second * NS)).totals()


def test_nothing_is_there_at_first() -> None:
    """A new history has no sample, no rate and no time."""
    series = read(HistoryWriter(), 0)
    assert (list(series.at_ns), series.latest("open"), series.highest("open")) == ([], 0, 0)
    assert (series.rate("accepted"), series.mean_s("rtt"), series.rates("sent")) == (None, None, [])


def test_the_ring_goes_round() -> None:
    """After more samples than it has room for, the last 600 are there, in their order,
    of the daemon and of each service.
    """
    writer = written(*range(2 * HISTORY_SAMPLES + 100))
    last = 2 * HISTORY_SAMPLES + 99
    expected = list(range(last - HISTORY_SAMPLES + 1, last + 1))
    assert read(writer, last).columns["open"] == expected
    window = writer.history.window(START_NS + last * NS)
    assert window.recent(3).columns["open"] == expected[-6:]
    assert (window.highest(3, "accepted"), window.highest(4, "accepted")) == (10 * last, 0)


def test_samples_grow_old() -> None:
    """A sample is there for ten minutes, also when none came after it: the machine may
    have slept meanwhile.
    """
    writer = written(0, 1, 2)
    assert read(writer, HISTORY_SAMPLES).columns["open"] == [0, 1, 2]
    assert read(writer, HISTORY_SAMPLES + 1.5).columns["open"] == [2]
    assert list(read(writer, 2 * HISTORY_SAMPLES).at_ns) == []


def test_a_rate_is_not_computed_over_a_gap() -> None:
    """Behind a gap, as of a machine that slept, there is no rate, and the next sample
    has one again.
    """
    series = read(written(0, 1, 2, 2 + GAP_S + 1, 3 + GAP_S + 1), 10)
    assert series.rates("accepted") == [None, 10, 10, None, 10]
    assert series.rate("accepted") == 10


def test_a_count_that_goes_back_is_no_rate_below_zero() -> None:
    """A column that another service has got begins anew."""
    writer = HistoryWriter()
    for second, accepted in enumerate((100, 7, 9)):
        writer.write(START_NS + second * NS, Figures(accepted=accepted), {})
    assert read(writer, 2).rates("accepted") == [None, 0, 2]


def test_means_of_times() -> None:
    """The mean of the times that came in before each sample; none where none came."""
    writer = HistoryWriter()
    for second, (count, total_ms) in enumerate(((0, 0), (2, 10), (2, 10), (3, 11))):
        figures = Figures(rtt_count=count, rtt_sum_ns=total_ms * 1_000_000)
        writer.write(START_NS + second * NS, figures, {})
    means = read(writer, 3).means_s("rtt")
    assert means[0] is None
    assert means[2] is None
    assert means[1::2] == [pytest.approx(0.005), pytest.approx(0.001)]
    assert read(writer, 3).mean_s("rtt") == pytest.approx(0.011 / 3)


def test_one_sample_in_each_second() -> None:
    """A sweep may come more often than once a second."""
    writer = written(5.2)
    assert not writer.due(START_NS + int(5.9 * NS))
    assert writer.due(START_NS + 6 * NS)


def test_a_service_that_is_gone_has_zeros() -> None:
    """Its column has no old samples when the ring comes round."""
    writer = written(1)
    for second in range(2, 2 + HISTORY_SAMPLES):
        writer.write(START_NS + second * NS, Figures(), {})
    window = writer.history.window(START_NS + (1 + HISTORY_SAMPLES) * NS)
    assert window.highest(3, "accepted") == 0


def test_no_child_can_write() -> None:
    """A child has the memory for reading only: it finds no other mapping of it, cannot
    make this one writable, and reads what the master writes after the fork.
    """
    writer = written(1)
    read_end, write_end = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lines = Path("/proc/self/maps").read_text().splitlines()
            ours = [line.split() for line in lines if "memfd:unpd-history" in line]
            address = int(ours[0][0].partition("-")[0], 16)
            libc = ctypes.CDLL(None, use_errno=True)
            both = mmap.PROT_READ | mmap.PROT_WRITE
            refused = libc.mprotect(ctypes.c_void_p(address), mmap.PAGESIZE, both)
            os.read(go_read, 1)
            seen = read(writer, 2).columns["open"]
            found = [{words[1] for words in ours}, refused, ctypes.get_errno(), seen]
            os.write(write_end, repr(found).encode())
        finally:
            os._exit(0)
    writer.write(START_NS + 2 * NS, Figures(open=2), {})
    os.write(go_write, b"x")
    told = os.read(read_end, 1000).decode()
    os.waitpid(pid, 0)
    for fd in (read_end, write_end, go_read, go_write):
        os.close(fd)
    assert told == repr([{"r--s"}, -1, errno.EACCES, [1, 2]])
