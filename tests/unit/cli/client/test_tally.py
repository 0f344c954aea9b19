"""The bookkeeping of a measurement."""

from unpd.cli.client.tally import KEPT, Tally, Verdict

MS = 1_000_000


def test_an_answer_is_in_time_late_or_a_duplicate() -> None:
    """The first answer within the timeout is in time, the first one after it is late,
    and each further one is a duplicate. Late ones count as received.
    """
    tally = Tally(timeout_ns=10 * MS)
    assert (tally.send(0), tally.send(1 * MS)) == (1, 2)
    assert tally.answer(1, 10 * MS) == (Verdict.IN_TIME, 10 * MS)
    assert tally.answer(2, 12 * MS) == (Verdict.LATE, 11 * MS)
    assert tally.answer(1, 13 * MS) == (Verdict.DUPLICATE, 13 * MS)
    assert tally.answer(2, 14 * MS) == (Verdict.DUPLICATE, 13 * MS)
    counts = tally.counts
    assert (counts.sent, counts.received, counts.lost) == (2, 2, 0)
    assert (counts.late, counts.duplicates) == (1, 2)
    assert tally.complete


def test_answers_may_come_in_any_order() -> None:
    """An answer belongs to its request by its number."""
    tally = Tally(timeout_ns=None)
    for now_ns in range(3):
        tally.send(now_ns)
    assert tally.answer(3, 10) == (Verdict.IN_TIME, 8)
    assert tally.answer(1, 10) == (Verdict.IN_TIME, 10)
    assert tally.counts.lost == 1
    assert not tally.complete


def test_a_request_expires_once() -> None:
    """A request without an answer is reported when its time is over, and no second
    time; an answered one is not.
    """
    tally = Tally(timeout_ns=10)
    for now_ns in (0, 1, 2):
        tally.send(now_ns)
    tally.answer(2, 5)
    assert (tally.due_ns(), tally.expire(10)) == (10, [])
    assert (tally.expire(11), tally.due_ns()) == ([1], 12)
    assert (tally.expire(100), tally.due_ns(), tally.expire(200)) == ([3], None, [])


def test_without_a_timeout_nothing_is_due() -> None:
    """A timeout of None never expires."""
    tally = Tally(timeout_ns=None)
    tally.send(0)
    assert (tally.due_ns(), tally.expire(10**18)) == (None, [])
    assert tally.answer(1, 10**18)[0] is Verdict.IN_TIME


def test_a_request_that_met_an_error_is_not_awaited() -> None:
    """After an ICMP error a request is lost; it neither expires nor delays the end."""
    tally = Tally(timeout_ns=10)
    tally.send(0)
    assert tally.suffer() == 1
    assert (tally.due_ns(), tally.complete) == (None, True)
    assert (tally.counts.troubled, tally.counts.lost) == (1, 1)


def test_memory_is_bounded() -> None:
    """Only the last requests are known. An answer to an older one is a duplicate, and
    has no round trip.
    """
    tally = Tally(timeout_ns=10**12)
    for now_ns in range(KEPT + 10):
        tally.send(now_ns)
    assert tally.answer(10, KEPT + 20) == (Verdict.DUPLICATE, None)
    assert tally.answer(11, KEPT + 20) == (Verdict.IN_TIME, KEPT + 10)
    assert tally.due_ns() == 10**12 + 11
