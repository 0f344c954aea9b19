"""The ledger: what is counted stands in the right word of the row, once."""

import errno

import pytest

from unpd.board import layout
from unpd.board.loop_lag import HEARTBEAT_S
from unpd.config.times import ServiceTimes
from unpd.names import ACCEPT_ERRNOS, EndCause, HeaderResult, RefusalReason
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.ledger import Ledger, errno_index
from unpd.worker.terms import Terms

LISTENER = layout.Row.LISTENER_ACCEPTED + 2
NO_TIMES = ServiceTimes(0.0, 0.0, 0.0)


def terms(column: int) -> Terms:
    """The terms of an echo in a column."""
    words = layout.service_cells(column)
    return Terms(name="echo", service=Echo(EchoOptions()), times=NO_TIMES, words=words)


@pytest.fixture
def row() -> memoryview:
    """An empty row."""
    return memoryview(bytearray(layout.Row.size * layout.WORD_BYTES)).cast("Q")


def changed(row: memoryview) -> dict[int, int]:
    """The words that are not 0."""
    return {index: word for index, word in enumerate(row) if word}


def test_a_connection_is_open_from_its_accept_to_its_end(row: memoryview) -> None:
    """Accepts are counted for the listener and for the service, ends by cause and by
    duration.
    """
    echo = terms(1)
    ledger = Ledger(row, [echo])
    ledger.accepted(LISTENER, echo, 3)
    assert ledger.open == 3
    assert changed(row) == {LISTENER: 3, echo.words + layout.Service.ACCEPTED: 3}
    ledger.ended(echo, EndCause.IDLE, 0.2)
    ledger.ended(echo, EndCause.IDLE, 10_000.0)
    assert ledger.open == 1
    idle = layout.END_CAUSES.index(EndCause.IDLE)
    buckets = echo.words + layout.Service.DURATION_BUCKETS
    assert changed(row) == {
        LISTENER: 3,
        echo.words + layout.Service.ACCEPTED: 3,
        echo.words + layout.Service.ENDED + idle: 2,
        echo.words + layout.Service.DURATION_SUM_NS: 10_000_200_000_000,
        buckets + layout.DURATION_BOUNDS_S.index(0.5): 1,
        buckets + len(layout.DURATION_BOUNDS_S): 1,
    }


@pytest.mark.parametrize("cause", [*layout.END_CAUSES])
def test_each_cause_has_its_word(row: memoryview, cause: EndCause) -> None:
    """In the order of the layout's labels."""
    echo = terms(0)
    ledger = Ledger(row, [echo])
    ledger.ended(echo, cause, 0.0)
    assert row[echo.words + layout.Service.ENDED + layout.END_CAUSES.index(cause)] == 1


def test_bytes_are_booked_once(row: memoryview) -> None:
    """Each service has its own; TCP and UNIX terms of one service share theirs."""
    echo, other = terms(0), terms(5)
    unix = Terms(
        name="echo",
        service=echo.service,
        times=NO_TIMES,
        words=echo.words,
        relays=False,
        totals=echo.totals,
    )
    ledger = Ledger(row, [echo, unix, other])
    echo.totals.received += 10
    unix.totals.sent += 4
    other.totals.sent += 7
    ledger.book()
    ledger.book()
    assert changed(row) == {
        echo.words + layout.Service.RECEIVED: 10,
        echo.words + layout.Service.SENT: 4,
        other.words + layout.Service.SENT: 7,
    }


def test_an_end_is_never_seen_before_its_bytes(row: memoryview) -> None:
    """Whoever reads the row between two writes finds the bytes of each end that it
    finds.
    """
    echo = terms(2)
    ledger = Ledger(row, [echo])
    start = echo.words
    done = start + layout.Service.ENDED + layout.END_CAUSES.index(EndCause.DONE)
    ledger.accepted(LISTENER, echo, 2)
    for ends in 1, 2:
        echo.totals.received += 10
        echo.totals.sent += 4
        ledger.ended(echo, EndCause.DONE, 0.0)
        counted = row[done], row[start + layout.Service.RECEIVED], row[start + layout.Service.SENT]
        assert counted == (ends, 10 * ends, 4 * ends)


def test_the_number_of_open_connections_is_booked(row: memoryview) -> None:
    """At the next booking, and back to 0 when all have ended."""
    echo = terms(0)
    ledger = Ledger(row, [echo])
    ledger.accepted(LISTENER, echo, 2)
    ledger.book()
    assert row[layout.Row.OPEN] == 2
    for _ in range(2):
        ledger.ended(echo, EndCause.DONE, 0.0)
    ledger.book()
    assert row[layout.Row.OPEN] == 0


def test_the_heartbeat_is_written_now_and_then(row: memoryview) -> None:
    """At once the first time, then no more often than every HEARTBEAT_S."""
    ledger = Ledger(row, [])
    for at, written in ((5.0, 5.0), (5.0 + HEARTBEAT_S / 2, 5.0), (6.0, 6.0)):
        assert ledger.beat(at) is (at == written)
        assert row[layout.Row.BEAT_NS] == int(written * layout.NS)


def test_each_errno_has_its_word(row: memoryview) -> None:
    """What accept(2) names has a label of its own, the rest shares the last one."""
    numbers = [getattr(errno, name) for name in ACCEPT_ERRNOS[:-1]]
    assert [errno_index(number) for number in numbers] == list(range(len(numbers)))
    assert errno_index(errno.ETIMEDOUT) == errno_index(0) == len(numbers)
    echo = terms(0)
    ledger = Ledger(row, [echo])
    ledger.accept_failed(echo, errno.EMFILE)
    word = echo.words + layout.Service.ACCEPT_ERRORS + ACCEPT_ERRNOS.index("EMFILE")
    assert changed(row) == {word: 1}


@pytest.mark.parametrize("reason", RefusalReason)
def test_each_reason_of_a_refusal_has_its_words(row: memoryview, reason: RefusalReason) -> None:
    """One for what was refused, another for what was only observed. Neither was ever
    open, and neither is an accepted connection.
    """
    echo = terms(3)
    ledger = Ledger(row, [echo])
    ledger.refused(echo, reason)
    ledger.refused(echo, reason)
    ledger.would_refuse(echo, reason)
    index = list(RefusalReason).index(reason)
    assert changed(row) == {
        echo.words + layout.Service.REFUSED + index: 2,
        echo.words + layout.Service.WOULD_REFUSE + index: 1,
    }
    assert ledger.open == 0


@pytest.mark.parametrize("result", HeaderResult)
def test_an_arrival_is_open_until_its_header_has_come(
    row: memoryview, result: HeaderResult
) -> None:
    """It is not accepted by that."""
    echo = terms(1)
    ledger = Ledger(row, [echo])
    ledger.arrived()
    ledger.arrived()
    ledger.book()
    assert changed(row) == {layout.Row.OPEN: 2}
    ledger.header_over(echo, result)
    ledger.book()
    index = list(HeaderResult).index(result)
    assert changed(row) == {
        layout.Row.OPEN: 1,
        echo.words + layout.Service.PROXY_HEADERS + index: 1,
    }


def test_a_hostile_sibling_stops_no_worker(row: memoryview) -> None:
    """A number that another process writes into the row, before the birth or later,
    raises nothing. A word that it falsified is right again after the next change.
    """
    echo = terms(1)
    accepted = echo.words + layout.Service.ACCEPTED
    row[accepted], row[LISTENER] = 7, 2**64 - 1
    ledger = Ledger(row, [echo])
    for at in range(len(row)):
        row[at] = 2**64 - 1
    ledger.accepted(LISTENER, echo, 2)
    echo.totals.received = echo.totals.sent = 5
    ledger.ended(echo, EndCause.IDLE, 0.2)
    ledger.accept_failed(echo, errno.EMFILE)
    ledger.book()
    ledger.beat(1.0)
    assert (row[accepted], row[LISTENER]) == (9, 2)
    assert row[echo.words + layout.Service.RECEIVED] == 5
