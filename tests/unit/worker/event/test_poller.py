"""The table behind the descriptors: every number has a target, and the gaps have one
that does nothing.
"""

from collections.abc import Iterator

import pytest

from unpd.worker.event.poller import NoTarget, Poller, Watcher


@pytest.fixture
def poller() -> Iterator[Poller]:
    """A poller."""
    poller = Poller()
    yield poller
    poller.epoll.close()


def nothing(mask: int) -> None:
    """What happens at an event."""


def test_gaps_have_a_target_that_does_nothing(poller: Poller) -> None:
    """Descriptors come in any order; an event of a closed one finds a target."""
    high, low = Watcher(nothing), Watcher(nothing)
    poller.place(7, high)
    poller.place(3, low)
    assert (poller.targets[7], poller.targets[3]) == (high, low)
    gaps = [target for fd, target in enumerate(poller.targets) if fd not in (3, 7)]
    assert len(gaps) >= 6
    assert all(isinstance(target, NoTarget) for target in gaps)
    assert len(poller.plain) == len(poller.targets)
    assert set(poller.plain) == {None}


def test_a_descriptor_can_be_used_again(poller: Poller) -> None:
    """The kernel gives out the lowest free number."""
    first, second = Watcher(nothing), Watcher(nothing)
    poller.place(5, first)
    poller.forget(5)
    assert [type(target) for target in poller.after(4)] == [NoTarget]
    poller.place(5, second)
    assert poller.after(4) == [second]


def test_targets_are_listed_from_a_descriptor_on(poller: Poller) -> None:
    """In ascending order, the gaps included."""
    watchers = {fd: Watcher(nothing) for fd in (4, 2, 6)}
    for fd, watcher in watchers.items():
        poller.place(fd, watcher)
    found = [target for target in poller.after(2) if not isinstance(target, NoTarget)]
    assert found == [watchers[4], watchers[6]]


def test_a_watcher_passes_its_events_on() -> None:
    """As they are."""
    masks: list[int] = []
    Watcher(masks.append).ready(5)
    assert masks == [5]
