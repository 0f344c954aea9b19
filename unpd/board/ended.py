"""The ring of connections that have ended lately: memory that one child shares with the
master alone.

The master makes a ring before it forks a child that serves, and then keeps it out of
the children that it forks later: none of them sees the clients of another one. Such a
child has nothing at the ring's addresses, so it must not free the EndedRing that it got
with the fork, or read it: the kernel may have put other memory there. The child that
owns the ring writes its ends into it about once a second, and when it exits; so the end
of a connection costs one append to a deque, and of a flood only the last are ever
written. The master reads the rings of the children that live, and keeps the last
entries of those that have died (:mod:`unpd.master.ended`).

:class:`unpd.board.layout.Ended` names the words of an entry. Its time is of the clock
since boot, which goes on while the machine sleeps (CLOCK_BOOTTIME in
clock_gettime(2)). A process notes the end on the monotonic clock of its loop; the
difference of the two is asked when the entry is written. An entry is complete
before the count that makes it valid; a reader drops one that was overwritten meanwhile.
A hostile child can write any number: the reader checks each.

Owns the mapping. Raises OSError if the kernel refuses the memory. Known gap: a child
that is killed takes with it the ends of its last second.
"""

import mmap
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from unpd.board.layout import END_CAUSES, MOST_ENDED, NS, RING_ENTRIES, WORD_BYTES, Ended, Ring
from unpd.board.memory import sane
from unpd.kernel.clock import slept_ns
from unpd.kernel.tcp_info import PathQuality
from unpd.names import EndCause

PEER_BYTES = 4 * WORD_BYTES
_CAUSES = {cause: number for number, cause in enumerate(END_CAUSES)}
# A word that is asked of its table costs 0.1 us, because a call answers.
_COUNT, _ENTRIES, _SIZE = Ring.COUNT, Ring.ENTRIES, Ended.size
_ENTRY = struct.Struct(f"=8Q{PEER_BYTES}s")


@dataclass(slots=True)
class RecentEnd:
    """An end as a process notes it. ``words``: where those of its service start in a
    row. ``peer``: the client's sockaddr. ``ended_at``: monotonic seconds. ``path``:
    None if it is not known. ``lost``: how many connections a dead child has left open,
    for which this end stands; 0: it is the end of one connection.

    One is made for each connection. A named tuple would cost 0.3 us more.
    """

    words: int
    peer: bytes
    cause: EndCause
    ended_at: float
    duration_s: float
    received: int
    sent: int
    path: PathQuality | None
    lost: int = 0


RecentEnds = deque[RecentEnd]


def recent_ends() -> RecentEnds:
    """A place for the last ends of a process."""
    return deque(maxlen=MOST_ENDED)


class EndedEntry(NamedTuple):
    """An end as the master reads it. ``words``: where those of its service start in a
    row. ``cause``: the index of the end cause. ``rtt_ns``: 0 if the path to the client
    is not known. ``lost``: as in RecentEnd; no child can write it.
    """

    ended_ns: int
    words: int
    cause: int
    duration_ns: int
    received: int
    sent: int
    rtt_ns: int
    retransmits: int
    peer: bytes
    lost: int = 0


def entry_of(end: RecentEnd, asleep_ns: int) -> EndedEntry:
    """An end as an entry. ``asleep_ns``: the difference of the two clocks."""
    return EndedEntry(*_fields(end, asleep_ns), lost=end.lost)


def _fields(end: RecentEnd, asleep_ns: int) -> tuple[int, int, int, int, int, int, int, int, bytes]:
    """The fields of an entry: 1,000 tuples take half as long as 1,000 entries."""
    path = end.path
    rtt_ns, again = (int(path.rtt_s * NS), path.retransmits) if path else (0, 0)
    return (
        int(end.ended_at * NS) + asleep_ns,
        end.words,
        _CAUSES[end.cause],
        int(end.duration_s * NS),
        end.received,
        end.sent,
        rtt_ns,
        again,
        end.peer[:PEER_BYTES],
    )


class EndedRing:
    """The ring of one child. ``words``: its words, as in Ring."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, Ring.size * WORD_BYTES)
        self.words: memoryview = memoryview(self._map).cast("Q")
        self._written = 0

    def keep_from_children(self) -> None:
        """Leave it out of all processes that this one forks from now on. OSError."""
        self._map.madvise(mmap.MADV_DONTFORK)

    def write(self, ends: RecentEnds) -> None:
        """Move ends into the ring, the earliest first."""
        if not ends:
            return
        words, number, asleep_ns = self.words, self._written, slept_ns()
        while ends:
            start = _ENTRIES + number % RING_ENTRIES * _SIZE
            packed = _ENTRY.pack(*_fields(ends.popleft(), asleep_ns))
            words[start : start + _SIZE] = memoryview(packed).cast("Q")
            number += 1
            words[_COUNT] = number
        self._written = number

    def newest(self) -> Iterator[EndedEntry]:
        """Yield the entries, the latest first."""
        words = self.words
        count = sane(words[_COUNT])
        for number in range(count - 1, max(-1, count - RING_ENTRIES - 1), -1):
            start = _ENTRIES + number % RING_ENTRIES * _SIZE
            found = bytes(words[start : start + _SIZE])
            if number <= words[_COUNT] - RING_ENTRIES:  # it may be overwritten now
                return
            yield EndedEntry(*_ENTRY.unpack(found))
