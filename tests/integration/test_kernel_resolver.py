"""The resolver: names are looked up in a thread that takes no signal."""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import until
from unpd.kernel.resolver import Answer, Question, Resolver

PATIENCE_S = 10.0


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    """A resolver for two questions at a time."""
    made = Resolver(2)
    yield made
    os.close(made.fileno())


def answers(resolver: Resolver, count: int) -> list[Answer]:
    """The next answers, once its descriptor says that they have come."""
    found: list[Answer] = []
    while len(found) < count:
        assert select.select([resolver.fileno()], [], [], PATIENCE_S)[0], found
        found += resolver.answers()
    assert not select.select([resolver.fileno()], [], [], 0)[0]
    return found


def test_a_name_is_looked_up(resolver: Resolver) -> None:
    """With the port, in the order of the system, and for streams alone."""
    resolver.ask(Question(7, "localhost", 80))
    (answer,) = answers(resolver, 1)
    assert (answer.number, answer.reason) == (7, "")
    assert (socket.AF_INET, ("127.0.0.1", 80)) in answer.addresses
    assert len(answer.addresses) == len(set(answer.addresses))


def test_a_name_that_cannot_be_looked_up_is_an_answer(resolver: Resolver) -> None:
    """With the reason of the system."""
    resolver.ask(Question(1, "a..b", 80))
    (answer,) = answers(resolver, 1)
    assert (answer.number, answer.addresses) == (1, ())
    assert answer.reason


def test_the_thread_takes_no_signal(resolver: Resolver) -> None:
    """All are blocked there, and those of the main thread are as before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resolver.ask(Question(1, "localhost", 80))
    answers(resolver, 1)
    (thread,) = [one for one in threading.enumerate() if one.name == "resolver"][-1:]
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    blocked = int(status.split("SigBlk:")[1].split()[0], 16)
    wanted = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    assert all(blocked >> (number - 1) & 1 for number in wanted)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_the_questions_are_bounded(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question for which there is no room is answered at once, with the reason."""
    may_go_on, asked = threading.Event(), []

    def slow(host: bytes, *_: object, **__: object) -> list[object]:
        asked.append(host)
        may_go_on.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver.ask(Question(0, "first", 80))
    until(lambda: asked, PATIENCE_S, "the thread to take the first question")
    for number in (1, 2, 3):
        resolver.ask(Question(number, "other", 80))
    (answer,) = answers(resolver, 1)
    assert (answer.number, answer.reason) == (3, "too many names are being looked up")
    may_go_on.set()
    assert [answer.number for answer in answers(resolver, 3)] == [0, 1, 2]


def test_a_thread_that_cannot_be_started_is_an_answer(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of tasks may be reached, and another question may find room."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        resolver.ask(Question(1, "localhost", 80))
    (answer,) = answers(resolver, 1)
    assert (answer.number, answer.reason) == (1, "can't start new thread")
    resolver.ask(Question(2, "localhost", 80))
    assert [answer.number for answer in answers(resolver, 1)] == [2]
