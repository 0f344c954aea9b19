"""The intake without a kernel: what a failed accept says in the log and on the row,
when a pause ends, and what a drain leaves behind.
"""

import errno
import math
import select
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from tests.support.accepts import TERMS, Scripted
from tests.support.surroundings import Surroundings, surroundings
from unpd.access.decide import Verdict
from unpd.board import layout
from unpd.names import RefusalReason
from unpd.worker.accepting import FIRST_PAUSE_S, LIMIT_PAUSE_S, LONGEST_PAUSE_S, Listener
from unpd.worker.event.intake import PATROL_S, Intake
from unpd.worker.event.poller import NoTarget
from unpd.worker.ledger import errno_index
from unpd.worker.reception import Entered

NOW = 1000.0


class Broken(Scripted):
    """A listener whose queue cannot be asked."""

    error = OSError(errno.EBADF, "as the test says")

    def queued(self) -> int:
        """Fail."""
        raise self.error


class Unnumbered(Broken):
    """One that fails without an errno."""

    error = OSError("as the test says")


class FakeSiblings:
    """Siblings that hold clearly fewer connections, if ``fewer`` says so."""

    def __init__(self, *, fewer: bool) -> None:
        self.fewer = fewer
        self.asked: list[tuple[int, float]] = []

    def have_clearly_fewer(self, own: int, now: float) -> bool:
        """What the test says."""
        self.asked.append((own, now))
        return self.fewer


def intake_of(
    *listeners: Listener, room: int = 10, siblings: FakeSiblings | None = None
) -> tuple[Intake, Surroundings]:
    """The intake of these listeners, and its surroundings."""
    around = surroundings(TERMS, NOW)
    return Intake(listeners, cast(Any, siblings), room, around.shared), around


def wake(around: Surroundings, listener: Listener, mask: int = select.EPOLLIN) -> None:
    """Show the events ``mask`` on the listener."""
    around.shared.poller.targets[listener.fd].ready(mask)


def told(around: Surroundings) -> list[dict[str, Any]]:
    """The lines about accepts that failed, without their stamps."""
    names = ("level", "service", "address", "errno", "paused")
    return [{name: row[name] for name in names} for row in around.events("accept.failed")]


@pytest.mark.parametrize(
    ("number", "name", "paused"),
    [
        (errno.EMFILE, "EMFILE", True),
        (errno.ECONNABORTED, "ECONNABORTED", False),
        (9999, "9999", False),
    ],
)
def test_a_failed_accept_has_a_line_and_is_counted(number: int, name: str, paused: bool) -> None:
    """The line names the service, the listener and the error, and is a warning only if
    the listener pauses.
    """
    listener = Scripted(number)
    intake, around = intake_of(listener)
    intake.watch()
    intake.patrol()
    assert told(around) == [
        {
            "level": "warning" if paused else "debug",
            "service": "echo",
            "address": "tcp://nowhere:0",
            "errno": name,
            "paused": paused,
        }
    ]
    assert around.row[TERMS.words + layout.Service.ACCEPT_ERRORS + errno_index(number)] == 1
    assert intake.pausing is paused


@pytest.mark.parametrize(
    ("listener", "name"), [(Broken(), "EBADF"), (Unnumbered(), "0")], ids=["errno", "none"]
)
def test_a_listener_that_breaks_in_a_drain_has_a_line(listener: Listener, name: str) -> None:
    """It does not pause, because it is closed anyway."""
    intake, around = intake_of(listener)
    intake.drain()
    assert [(row["errno"], row["paused"]) for row in told(around)] == [(name, False)]
    assert around.events("accept.failed")[0]["level"] == "debug"


def test_a_drain_leaves_no_listener() -> None:
    """None is watched, none stands behind its descriptor, and nothing pauses."""
    listener = Scripted(errno.EMFILE)
    intake, around = intake_of(listener)
    intake.watch()
    assert around.epoll.masks == {listener.fd: select.EPOLLIN | select.EPOLLEXCLUSIVE}
    intake.drain()
    assert around.epoll.masks == {}
    assert isinstance(around.shared.poller.targets[listener.fd], NoTarget)
    assert intake.resume_at() == math.inf


def test_the_first_pause_to_end_counts() -> None:
    """Without a pause there is no such time."""
    first, second, third = Scripted(errno.EMFILE), Scripted(), Scripted(errno.EMFILE)
    intake, _ = intake_of(first, second, third)
    intake.watch()
    assert intake.resume_at() == math.inf
    intake.patrol()
    assert third.resume_at is not None
    third.resume_at += 1.0
    assert intake.resume_at() == NOW + FIRST_PAUSE_S


def test_a_listener_that_pauses_is_not_watched_until_its_pause_ends() -> None:
    """Nor does a patrol ask it."""
    listener = Scripted(errno.EMFILE, errno.EMFILE)
    intake, around = intake_of(listener)
    intake.watch()
    intake.patrol()
    intake.watch()
    intake.patrol()
    assert (around.epoll.masks, intake.pausing, len(listener.script)) == ({}, True, 1)
    around.shared.now += FIRST_PAUSE_S
    intake.watch()
    assert (list(around.epoll.masks), intake.pausing) == ([listener.fd], False)


@dataclass(slots=True)
class Queueing:
    """An admission at whose limits clients wait in the accept queue. ``rooms``: for how
    many of them, each time that it is asked; then for none.
    """

    rooms: list[int]
    queues: bool = True
    has_proxies: bool = False
    lets_all_in: bool = False
    asked: int = 0
    reserved: int = 0

    def has_room(self, now: float) -> bool:
        """Whether there is room for one more."""
        return self.reserve(1, now) > 0

    def look(self, now: float) -> None:
        """Nobody comes whom this decides about."""
        assert now == NOW

    def reserve(self, wanted: int, now: float) -> int:
        """What the test says."""
        assert (now, self.reserved) == (NOW, 0)
        self.asked += 1
        room = self.rooms[self.asked - 1] if self.asked <= len(self.rooms) else 0
        self.reserved = min(wanted, room)
        return self.reserved

    def release(self) -> None:
        """Those that came are not told apart from the others."""
        self.reserved = 0

    def holding(self, now: float) -> Verdict | None:
        """The limit at which the others wait."""
        assert now == NOW
        return None if self.asked <= len(self.rooms) else Verdict(RefusalReason.MAX_CONNECTIONS)


class Refusing:
    """A reception that lets nobody in."""

    def admit(self, *_: object) -> list[Entered]:
        """Let nobody in."""
        return []

    def held_back(self, *_: object) -> None:
        """Log nothing."""


@pytest.mark.parametrize(("room", "left"), [(0, 3), (1, 2), (9, 2)])
def test_a_queueing_service_pauses_and_rests(room: int, left: int) -> None:
    """Its listener rests at the limit, and pauses after a failure, as any other does:
    the clients behind the failed one stay in the queue.
    """
    listener = Scripted(errno.EMFILE, errno.EMFILE, errno.EMFILE)
    admission = Queueing([room])
    listener.terms = replace(TERMS, admission=cast(Any, admission))
    intake, around = intake_of(listener)
    intake.watch()
    wake(around, listener)
    assert (len(listener.script), admission.asked, intake.pausing) == (left, 1, True)
    assert listener.resume_at == NOW + (FIRST_PAUSE_S if room else LIMIT_PAUSE_S)
    assert admission.reserved == 0


@pytest.mark.parametrize(
    ("rooms", "asked", "left"),
    [([3, 2], 2, 0), ([9], 1, 0), ([3, 1], 3, 1), ([1, 1, 1, 1, 1], 5, 0)],
)
def test_a_queueing_service_takes_its_room_at_once(rooms: list[int], asked: int, left: int) -> None:
    """And asks again while clients wait."""
    listener = Scripted(*[None] * 5)
    admission = Queueing(rooms)
    listener.terms = replace(TERMS, admission=cast(Any, admission))
    intake, around = intake_of(listener)
    around.shared.reception = cast(Any, Refusing())
    intake.watch()
    wake(around, listener)
    assert (admission.asked, len(listener.script)) == (asked, left)
    assert (listener.resume_at is not None) is (left > 0)


def test_a_queueing_service_takes_no_more_than_a_batch_at_once() -> None:
    """Not even in a drain: the other workers see no room meanwhile."""
    listener, admission = Scripted(*[None] * 40), Queueing([100] * 3)
    listener.terms = replace(TERMS, admission=cast(Any, admission))
    intake, around = intake_of(listener)
    around.shared.reception = cast(Any, Refusing())
    intake.drain()
    assert (admission.asked, len(listener.script)) == (3, 0)


def test_a_listener_at_a_limit_rests_for_a_moment() -> None:
    """Another process may free a place at any time: a client in the queue is to be
    served within 100 ms of that.
    """
    listener = Scripted()
    listener.terms = replace(TERMS, admission=cast(Any, Queueing([])))
    intake, _ = intake_of(listener)
    listener.rest(NOW)
    intake.watch()
    assert NOW < intake.resume_at() <= NOW + 0.1


def test_a_queueing_service_asks_for_no_room_without_a_client() -> None:
    """An empty queue costs no look at the counts of all processes."""
    listener, admission = Scripted(), Queueing([9])
    listener.terms = replace(TERMS, admission=cast(Any, admission))
    intake, around = intake_of(listener)
    intake.watch()
    wake(around, listener)
    assert (admission.asked, intake.pausing) == (0, False)


def test_a_patrol_passes_over_a_listener_that_has_just_begun_to_pause() -> None:
    """It is still watched then, until the next turn."""
    listener = Scripted(errno.EMFILE, errno.EMFILE)
    intake, _ = intake_of(listener)
    intake.watch()
    intake.patrol()
    intake.patrol()
    assert (listener.watched, len(listener.script)) == (True, 1)


def test_a_patrol_fills_the_last_place() -> None:
    """Room for one connection is room."""
    listener = Scripted(errno.ECONNABORTED)
    intake, _ = intake_of(listener, room=1)
    intake.watch()
    intake.patrol()
    assert len(listener.script) == 0


def test_a_drain_goes_on_behind_connections_that_failed() -> None:
    """Each of them left the queue, and each counts once."""
    listener = Scripted(*[errno.ECONNABORTED] * 5)
    intake, around = intake_of(listener)
    intake.drain()
    assert len(listener.script) == 0
    assert len(told(around)) == 5


def test_a_full_worker_watches_nothing_and_does_not_patrol() -> None:
    """Its clients wait for the others."""
    listener = Scripted(errno.EMFILE)
    intake, around = intake_of(listener, room=0)
    intake.watch()
    intake.patrol()
    assert (intake.has_room, around.epoll.masks, len(listener.script)) == (False, {}, 1)
    assert intake.patrol_at == NOW + PATROL_S


def test_a_listener_that_was_shut_down_pauses_and_is_reported_once() -> None:
    """It shows a hang-up for ever."""
    listener = Scripted(errno.EMFILE)
    intake, around = intake_of(listener)
    intake.watch()
    for _ in range(2):
        wake(around, listener, select.EPOLLIN | select.EPOLLHUP)
    assert (intake.pausing, intake.resume_at()) == (True, NOW + LONGEST_PAUSE_S)
    assert [row["errno"] for row in told(around)] == ["EINVAL"]
    assert len(listener.script) == 1


@pytest.mark.parametrize("fewer", [True, False])
def test_a_crowded_worker_goes_to_the_end_of_the_line(fewer: bool) -> None:
    """After its accept it deletes and adds its listener, so that the kernel wakes a
    sibling first. Siblings with as many connections change nothing.
    """
    listener, siblings = Scripted(errno.ECONNABORTED), FakeSiblings(fewer=fewer)
    intake, around = intake_of(listener, siblings=siblings)
    around.shared.ledger.open = 7
    intake.watch()
    other_fd = listener.fd + 1
    around.epoll.register(other_fd, select.EPOLLIN)
    wake(around, listener)
    assert len(listener.script) == 0
    order = [other_fd, listener.fd] if fewer else [listener.fd, other_fd]
    assert list(around.epoll.masks) == order
    assert siblings.asked == [(7, NOW)]


def test_a_worker_without_siblings_stays_where_it_is() -> None:
    """It takes what it gets, one client at least even if it is full meanwhile."""
    listener = Scripted(errno.ECONNABORTED, errno.ECONNABORTED)
    intake, around = intake_of(listener)
    intake.watch()
    around.shared.ledger.open = 10
    wake(around, listener)
    assert len(listener.script) == 1
    assert list(around.epoll.masks) == [listener.fd]
