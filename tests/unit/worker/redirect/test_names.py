"""When names are looked up, and which addresses clients get meanwhile."""

import socket
from collections.abc import Sequence

import pytest

from unpd.kernel.resolver import Answer, Question
from unpd.worker.event.poller import Watcher
from unpd.worker.redirect.names import MAX_ADDRESSES, RETRY_S, Fixed, Name, Names

FIRST, SECOND = ((socket.AF_INET, (f"192.0.2.{number}", 80)) for number in (1, 2))
RESOLVE_S = 60.0


class Asked:
    """Counts the questions about one name."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        """Take a question."""
        self.count += 1


@pytest.fixture
def asked() -> Asked:
    """Return the questions of a test."""
    return Asked()


@pytest.fixture
def name(asked: Asked) -> Name:
    """Return a name that was not looked up yet."""
    return Name(asked, RESOLVE_S)


def test_the_first_client_waits_for_the_answer(name: Name, asked: Asked) -> None:
    """One question is asked for all who wait, and all are woken."""
    woken: list[str] = []
    assert name.known(100.0) is None
    assert name.known(100.0) is None
    name.wait(lambda: woken.append("one"))
    name.wait(lambda: woken.append("other"))
    name.answered(Answer(0, (FIRST,)), 101.0)
    assert (asked.count, woken) == (1, ["one", "other"])
    assert name.known(101.0) == [FIRST]


def test_a_client_that_has_ended_is_not_woken(name: Name) -> None:
    """It has taken its call back."""
    woken: list[int] = []

    def wake() -> None:
        woken.append(1)

    name.known(100.0)
    name.wait(wake)
    name.wait_no_more(wake)
    name.answered(Answer(0, (FIRST,)), 101.0)
    assert woken == []
    name.wait_no_more(wake)


def test_a_name_is_looked_up_again_when_its_addresses_are_old(name: Name, asked: Asked) -> None:
    """The old addresses serve until the answer has come."""
    name.known(100.0)
    name.answered(Answer(0, (FIRST,)), 101.0)
    assert (name.known(101.0 + RESOLVE_S - 0.1), asked.count) == ([FIRST], 1)
    assert (name.known(101.0 + RESOLVE_S), asked.count) == ([FIRST], 2)
    name.answered(Answer(0, (SECOND,)), 162.0)
    assert name.known(162.0) == [SECOND]


def test_a_look_up_that_failed_is_tried_again_soon(name: Name, asked: Asked) -> None:
    """Without an address the clients do not wait, and learn the reason."""
    name.known(100.0)
    name.answered(Answer(0, reason="Name or service not known"), 100.0)
    assert (name.known(100.0 + RETRY_S / 2), asked.count) == ([], 1)
    assert name.reason == "Name or service not known"
    assert (name.known(100.0 + RETRY_S), asked.count) == (None, 2)


def test_old_addresses_outlive_a_look_up_that_failed(name: Name) -> None:
    """A server of names that is away does no harm to those that were known."""
    name.known(100.0)
    name.answered(Answer(0, (FIRST,)), 100.0)
    name.known(100.0 + RESOLVE_S)
    name.answered(Answer(0, reason="no answer"), 100.0 + RESOLVE_S)
    assert name.known(100.0 + RESOLVE_S) == [FIRST]


def test_an_address_that_failed_is_tried_last_and_the_name_looked_up_again(
    name: Name, asked: Asked
) -> None:
    """Once in RETRY_S at most, however many clients fail."""
    name.known(100.0)
    name.answered(Answer(0, (FIRST, SECOND)), 100.0)
    name.avoid(FIRST, 100.1)
    assert (name.known(100.0 + RETRY_S / 2), asked.count) == ([SECOND, FIRST], 1)
    name.avoid(SECOND, 100.2)
    assert (name.known(100.0 + RETRY_S), asked.count) == ([FIRST, SECOND], 2)


def test_a_client_tries_a_few_addresses_of_a_name_only(name: Name) -> None:
    """So that the time until the next target is bounded."""
    many = tuple((socket.AF_INET, (f"192.0.2.{number}", 80)) for number in range(MAX_ADDRESSES + 1))
    name.known(100.0)
    name.answered(Answer(0, many), 100.0)
    assert name.known(100.0) == list(many[:MAX_ADDRESSES])


def test_an_interface_that_is_missing_is_the_reason_of_a_fixed_address() -> None:
    """It may come later, so that it is asked for each time."""
    there: list[tuple[int, object]] = []

    def find() -> tuple[int, object]:
        if not there:
            raise OSError(19, "No such device")
        return there[0]

    fixed = Fixed(find)
    assert (fixed.known(0.0), fixed.reason) == ((), "No such device")
    there.append(FIRST)
    assert fixed.known(0.0) == (FIRST,)


class FakeResolver:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.ready: list[Answer] = []

    def fileno(self) -> int:
        """Any descriptor."""
        return 7

    def ask(self, question: Question) -> None:
        """Note the question."""
        self.questions.append(question)

    def answers(self) -> Sequence[Answer]:
        """The answers that the test has given."""
        taken, self.ready = self.ready, []
        return taken


def test_all_names_are_looked_up_when_the_worker_begins() -> None:
    """The answers go to their names by number."""
    resolver = FakeResolver()
    names = Names(lambda: resolver)
    one, other = names.add("one", 1, RESOLVE_S), names.add("other", 2, RESOLVE_S)
    watched: list[tuple[int, Watcher]] = []
    names.begin(lambda fd, watcher: watched.append((fd, watcher)), lambda: 100.0)
    assert resolver.questions == [Question(0, "one", 1), Question(1, "other", 2)]
    ((fd, watcher),) = watched
    assert fd == 7
    resolver.ready = [Answer(1, (SECOND,)), Answer(0, (FIRST,))]
    watcher.ready(1)
    assert (one.known(100.0), other.known(100.0)) == ([FIRST], [SECOND])


def test_without_names_no_resolver_is_made() -> None:
    """A worker without one has neither the thread nor the descriptor."""

    def make() -> FakeResolver:
        raise AssertionError("made")

    watched: list[object] = []
    Names(make).begin(lambda fd, watcher: watched.append((fd, watcher)), lambda: 0.0)
    assert watched == []
