"""The table of the sessions of one dispatcher: memory that it shares with the session
processes that it forks, and with the master.

Owns the mapping and the rule by which entries are found.
:class:`unpd.board.layout.Session` names the words of an entry and their writers. The
master makes a table before it forks a dispatcher. If that dispatcher dies, its sessions
live on and its successor gets the same table (:mod:`unpd.master.children.lanes`);
:mod:`unpd.dispatcher.roll` keeps it.

Its size is that of the services' ``max_connections``, so memory is bounded. It has no
name and no descriptor, so nobody can shrink it. Raises OSError if the kernel refuses
the memory.

A session could write any number into any word. So a reader of an entry compares each
index with its table, and takes a counter that no honest session reaches for 0.
"""

import mmap

from unpd.board.layout import END_CAUSES, WORD_BYTES, Session
from unpd.names import EndCause

_MARK_BITS = 40
_MARK_MASK = (1 << _MARK_BITS) - 1
_TRACE_BYTES = WORD_BYTES * (Session.span(Session.TRACE).stop - Session.TRACE)
_PEER_BYTES = WORD_BYTES * (Session.span(Session.PEER).stop - Session.PEER)


def leave_trace(entry: memoryview, trace: str) -> None:
    """Write the end of a traceback into the words of an entry, in the session whose
    function has raised it.
    """
    kept = trace.encode("utf-8", "backslashreplace")[-_TRACE_BYTES:]
    words = memoryview(kept.ljust(_TRACE_BYTES, b"\0")).cast("Q")
    entry[Session.span(Session.TRACE)] = words


def kicked_for(entry: memoryview) -> EndCause | None:
    """For which cause a session has to leave, if it has to."""
    number = entry[Session.KICKED]
    return END_CAUSES[number - 1] if 0 < number <= len(END_CAUSES) else None


class SessionTable:
    """``size`` entries, all free at first."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._map = mmap.mmap(-1, size * Session.size * WORD_BYTES)
        self._words = memoryview(self._map).cast("Q")

    def entry(self, index: int) -> memoryview:
        """The words of one entry, 0 to ``size`` - 1."""
        return self._words[index * Session.size : (index + 1) * Session.size]

    def _all(self, word: int) -> list[int]:
        """One word of every entry: 10,000 of them take 0.1 ms."""
        return self._words[word :: Session.size].tolist()

    def used(self) -> list[int]:
        """The entries that are not free."""
        return [index for index, service in enumerate(self._all(Session.SERVICE)) if service]

    def mark(self, index: int) -> int:
        """A number of 64 bits that no other session of this entry has had for 18
        minutes.
        """
        return index << _MARK_BITS | self.entry(index)[Session.ACCEPTED_NS] & _MARK_MASK

    def marked(self, mark: int) -> int | None:
        """The entry of the session with this number, None if it has ended."""
        index = mark >> _MARK_BITS
        is_there = index < self.size and self.entry(index)[Session.SERVICE]
        return index if is_there and self.mark(index) == mark else None

    def find(self, pid: int) -> int | None:
        """The entry of the session process ``pid``, or None."""
        pids = enumerate(self._all(Session.PID))
        found = (index for index, each in pids if each == pid)
        return next((index for index in found if self.entry(index)[Session.SERVICE]), None)

    def begin(
        self, index: int, service: int, accepted_ns: int, peer: bytes, source: int = 0
    ) -> None:
        """Fill a free entry. ``service``: the column of the service. ``peer``: a
        sockaddr of at most 32 bytes. ``source``: the key of the source that is counted
        (:meth:`unpd.board.sources.Sources.key`); 0 for none.
        """
        words = self.entry(index)
        words[:] = memoryview(bytes(Session.size * WORD_BYTES)).cast("Q")
        words[Session.ACCEPTED_NS] = accepted_ns
        padded = peer.ljust(_PEER_BYTES, b"\0")
        words[Session.span(Session.PEER)] = memoryview(padded).cast("Q")
        words[Session.SOURCE] = source
        words[Session.SERVICE] = service + 1  # the last: it makes the entry valid

    def has_program_on(self, listener: int) -> bool:
        """Whether a program has the socket with the counter ``listener`` itself: it has
        no peer, unlike the sessions of that listener.
        """
        listeners = enumerate(self._all(Session.LISTENER))
        entries = [self.entry(index) for index, word in listeners if word == listener]
        return any(one[Session.SERVICE] and not one[Session.PEER] for one in entries)

    def peer(self, index: int) -> bytes:
        """The address of the client, for kernel.connections.address_text."""
        return self.entry(index)[Session.span(Session.PEER)].tobytes()

    def trace(self, index: int) -> str:
        """The traceback that a session has left (:func:`leave_trace`); "" if none."""
        left = self.entry(index)[Session.span(Session.TRACE)].tobytes()
        return left.rstrip(b"\0").decode("utf-8", "replace")

    def clear(self, index: int) -> None:
        """Make the entry free."""
        self.entry(index)[Session.SERVICE] = 0
