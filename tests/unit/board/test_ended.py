"""The ring of connections that have ended: what is written there is read again, the
latest first, whatever another process writes meanwhile.
"""

import pytest

from unpd.board.ended import EndedRing, RecentEnd, entry_of, recent_ends
from unpd.board.layout import END_CAUSES, MOST_ENDED, NS, RING_ENTRIES, Ring
from unpd.kernel.clock import slept_ns
from unpd.kernel.tcp_info import PathQuality
from unpd.names import EndCause

PEER = bytes(range(28))


def end(number: int, path: PathQuality | None = None) -> RecentEnd:
    """An end at second ``number``."""
    return RecentEnd(300, PEER, EndCause.IDLE, float(number), 1.5, number, 7, path)


def written(ring: EndedRing, count: int, first: int = 0) -> None:
    """Write ends one by one."""
    ends = recent_ends()
    for number in range(first, first + count):
        ends.append(end(number))
        ring.write(ends)


def test_an_end_is_read_as_it_was_written() -> None:
    """With its path to the client, and without."""
    ring, ends = EndedRing(), recent_ends()
    ends.extend([end(1, PathQuality(0.025, 3)), end(2)])
    ring.write(ends)
    assert not ends
    later, earlier = ring.newest()
    idle = END_CAUSES.index(EndCause.IDLE)
    asleep_ns = later.ended_ns - 2 * NS
    assert abs(asleep_ns - slept_ns()) < NS
    assert later[1:] == (300, idle, NS * 3 // 2, 2, 7, 0, 0, PEER.ljust(32, b"\0"), 0)
    assert (earlier.rtt_ns, earlier.retransmits) == (25_000_000, 3)
    assert earlier._replace(peer=PEER) == entry_of(end(1, PathQuality(0.025, 3)), asleep_ns)


def test_the_last_ones_are_there() -> None:
    """However many there were before."""
    ring = EndedRing()
    written(ring, 3 * RING_ENTRIES + 5)
    found = [entry.received for entry in ring.newest()]
    assert found[:2] == [3 * RING_ENTRIES + 4, 3 * RING_ENTRIES + 3]
    assert len(found) >= MOST_ENDED


def test_of_a_flood_the_last_ones_are_written() -> None:
    """A process keeps no more ends than the list shows."""
    ends = recent_ends()
    ends.extend(map(end, range(5000)))
    ring = EndedRing()
    ring.write(ends)
    found = [entry.received for entry in ring.newest()]
    assert found == list(range(4999, 4999 - MOST_ENDED, -1))


def test_an_entry_that_is_overwritten_meanwhile_is_not_read() -> None:
    """The reader stops there: all that follow are older."""
    ring = EndedRing()
    written(ring, RING_ENTRIES)
    reader = ring.newest()
    assert next(reader).received == RING_ENTRIES - 1
    written(ring, RING_ENTRIES - 10, first=RING_ENTRIES)
    assert [entry.received for entry in reader] == list(
        range(RING_ENTRIES - 2, RING_ENTRIES - 10, -1)
    )


@pytest.mark.parametrize("count", [2**64 - 1, 2**62, 2**62 - 1, RING_ENTRIES + 1])
def test_a_forged_count_costs_no_more_than_a_full_ring(count: int) -> None:
    """And its entries are those that stand there."""
    ring = EndedRing()
    ring.words[Ring.COUNT] = count
    assert len(list(ring.newest())) <= RING_ENTRIES
