"""The ring of connections that have ended lately: memory that one child shares with the
master alone.

The master makes a ring before it forks a child that serves, and then keeps it out of
the children that it forks later: none of them sees the clients of another one. The
child writes its ends into it about once a second, and when it exits; so the end of a
connection costs one append to a deque, and of a flood only the last are ever written.
The master reads the rings of the children that live, and keeps the last entries of
those that have died (:mod:`unpd.master.ended`).

:class:`unpd.board.layout.Ended` names the words of an entry. An entry is complete
before the count that makes it valid; a reader drops one that was overwritten meanwhile.
A hostile child can write any number: the reader checks each.

Owns the mapping. Raises OSError if the kernel refuses the memory. Known gap: a child
that is killed takes with it the ends of its last second.
"""

import mmap
import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from unpd.board.layout import END_CAUSES, MOST_ENDED, NS, RING_ENTRIES, WORD_BYTES, Ended, Ring
from unpd.board.memory import sane
from unpd.kernel.tcp_info import Way
from unpd.names import EndCause

PEER_BYTES = 4 * WORD_BYTES
_CAUSES = {cause: number for number, cause in enumerate(END_CAUSES)}
# A word that is asked of its table costs 0.1 us, because a call answers.
_COUNT, _ENTRIES, _SIZE = Ring.COUNT, Ring.ENTRIES, Ended.size
_ENTRY = struct.Struct(f"=8Q{PEER_BYTES}s")

RecentEnd = tuple[int, bytes, EndCause, float, float, int, int, Way | None]
"""An end as a child notes it: where the words of its service start in a row, the
client's sockaddr, the cause, when it was (monotonic seconds), how long the connection
lasted, its bytes received and sent, and the way to the client, None if that is not
known. No dataclass, because it is made for each connection.
"""
RecentEnds = deque[RecentEnd]


def recent_ends() -> RecentEnds:
    """A place for the last ends of a process."""
    return deque(maxlen=MOST_ENDED)


class EndedEntry(NamedTuple):
    """An end as the master reads it. ``words``: where those of its service start in a
    row. ``cause``: the index of the end cause. ``rtt_ns``: 0 if the way to the client
    is not known.
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


def entry_of(end: RecentEnd) -> EndedEntry:
    """An end as an entry."""
    return EndedEntry(*_fields(end))


def _fields(end: RecentEnd) -> tuple[int, int, int, int, int, int, int, int, bytes]:
    """The fields of an entry: 1,000 tuples take half as long as 1,000 entries."""
    words, peer, cause, ended_at, duration_s, received, sent, way = end
    rtt_ns, again = (int(way.rtt_s * NS), way.retransmits) if way else (0, 0)
    ended_ns, duration_ns = int(ended_at * NS), int(duration_s * NS)
    number = _CAUSES[cause]
    return ended_ns, words, number, duration_ns, received, sent, rtt_ns, again, peer[:PEER_BYTES]


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
        words, number = self.words, self._written
        while ends:
            start = _ENTRIES + number % RING_ENTRIES * _SIZE
            packed = _ENTRY.pack(*_fields(ends.popleft()))
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
