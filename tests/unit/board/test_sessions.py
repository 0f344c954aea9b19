"""The table of sessions: which entries are used, and what they hold."""

import itertools

from unpd.board.layout import WORD_BYTES, Row, Session, Word
from unpd.board.sessions import SessionTable, leave_trace

PEER = bytes(range(1, 29))
"""As long as a sockaddr_in6."""


def test_an_entry_is_used_from_its_beginning_until_it_is_cleared() -> None:
    """Its words are those that were given, and all others 0, whatever the session
    before left there.
    """
    table = SessionTable(3)
    table.entry(1)[Session.COUNTS] = table.entry(1)[Session.STATUS] = 9
    table.begin(1, service=0, accepted_ns=5, peer=PEER)
    assert table.used() == [1]
    assert table.peer(1)[: len(PEER)] == PEER
    words = {
        offset: word
        for offset, word in enumerate(table.entry(1))
        if word and offset not in range(*Session.span(Session.PEER).indices(Session.size))
    }
    assert words == {Session.SERVICE: 1, Session.ACCEPTED_NS: 5}
    table.clear(1)
    assert table.used() == []


def test_a_session_is_found_by_its_pid() -> None:
    """An entry that is free has no process, whatever its word says."""
    table = SessionTable(3)
    table.begin(0, service=1, accepted_ns=1, peer=b"")
    table.entry(0)[Session.PID] = 4711
    table.entry(2)[Session.PID] = 4712
    assert (table.find(4711), table.find(4712), table.find(1)) == (0, None, None)


def test_a_mark_is_of_one_session_alone() -> None:
    """Not of an earlier or a later one in its entry, nor of a free entry, nor of one
    that there is not.
    """
    table = SessionTable(2)
    table.begin(1, service=1, accepted_ns=5 << 40 | 7, peer=b"")
    mark = table.mark(1)
    assert table.marked(mark) == 1
    assert table.marked(mark + (1 << 40)) is None
    table.clear(1)
    assert table.marked(mark) is None
    table.begin(1, service=1, accepted_ns=5 << 40 | 8, peer=b"")
    assert table.marked(mark) is None


def test_a_program_with_the_socket_itself_is_found() -> None:
    """It has no peer, unlike a session of the same listener, and it has not ended."""
    table = SessionTable(2)
    for index, peer in enumerate((PEER, b"")):
        table.begin(index, service=1, accepted_ns=5, peer=peer)
        table.entry(index)[Session.LISTENER] = 40 + index
    assert [table.has_program_on(word) for word in (40, 41, 42)] == [False, True, False]
    table.clear(1)
    assert not table.has_program_on(41)


def test_entries_do_not_overlap() -> None:
    """What one session writes is in no other entry."""
    table = SessionTable(2)
    table.entry(0)[:] = memoryview(b"\xff" * 8 * Session.size).cast("Q")
    assert not any(table.entry(1))
    assert len(table.entry(1)) == Session.size


def test_a_traceback_is_left_in_an_entry() -> None:
    """Its end, if it is too long; the next session of the entry has left none."""
    table = SessionTable(2)
    assert table.trace(0) == ""
    leave_trace(table.entry(0), "ValueError: \N{SNOWMAN}\n")
    assert (table.trace(0), table.trace(1)) == ("ValueError: \N{SNOWMAN}\n", "")
    leave_trace(table.entry(0), "x" * 5000 + "the end")
    words = Session.span(Session.TRACE)
    assert len(table.trace(0)) == WORD_BYTES * (words.stop - words.start)
    assert table.trace(0).endswith("the end")
    table.begin(0, service=1, accepted_ns=1, peer=b"")
    assert table.trace(0) == ""


def test_an_entry_begins_as_a_row_does() -> None:
    """A session counts by the ledger of a worker, which writes these words."""

    def names(words: tuple[Word, ...]) -> list[str]:
        return [word.name for word in words]

    same = itertools.takewhile(lambda name: name != "SERVICES", names(Row.words))
    assert list(same) == names(Session.words)[: names(Session.words).index("COUNTS")]
