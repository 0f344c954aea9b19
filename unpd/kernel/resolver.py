"""Looks up host names off the loop: one thread asks getaddrinfo(3), which waits for
files and servers, and its answers make a descriptor readable.

Only a process that never forks may have it. The thread takes no signal: a signal has to
interrupt the main thread, where the timer against waiting accepts counts on that. The
thread begins with the first question and ends with the process.

Owns the thread, its queue and the descriptor. Called by a worker. Calls nothing of
unpd. Raises OSError if the descriptor cannot be made; a name that cannot be looked up
is an answer.

Known gap: a server of names that does not answer keeps the names behind it waiting, for
as long as resolv.conf(5) says, by default 10 s.
"""

import contextlib
import os
import queue
import signal
import socket
import threading
from collections import deque
from dataclasses import dataclass

_FLAGS = os.EFD_CLOEXEC | os.EFD_NONBLOCK


@dataclass(frozen=True, slots=True)
class Question:
    """A name to look up. ``number``: the caller's own, which the answer repeats."""

    number: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The addresses of a name, in the order of getaddrinfo(3), each with its family;
    none if it cannot be looked up, for ``reason``.
    """

    number: int
    addresses: tuple[tuple[int, object], ...] = ()
    reason: str = ""


class Resolver:
    """The thread, from outside."""

    def __init__(self, most: int) -> None:
        """``most``: how many questions may wait. OSError."""
        self._fd = os.eventfd(0, _FLAGS)
        self._questions: queue.Queue[Question] = queue.Queue(most)
        self._answers: deque[Answer] = deque()
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        """The descriptor that is readable while there are answers."""
        return self._fd

    def ask(self, question: Question) -> None:
        """Look a name up. If that cannot be done, the answer says so."""
        try:
            self._start()
            self._questions.put_nowait(question)
        except queue.Full:
            self._put(Answer(question.number, reason="too many names are being looked up"))
        except RuntimeError as error:  # the limit of tasks
            self._put(Answer(question.number, reason=str(error)))

    def answers(self) -> list[Answer]:
        """Take the answers that have come."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        taken = []
        while self._answers:
            taken.append(self._answers.popleft())
        return taken

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="resolver", daemon=True)
        before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._thread = thread

    def _run(self) -> None:
        while True:
            self._put(_looked_up(self._questions.get()))

    def _put(self, answer: Answer) -> None:
        self._answers.append(answer)
        os.eventfd_write(self._fd, 1)


def _looked_up(question: Question) -> Answer:
    try:
        # As bytes: a str would make the thread import the codec of domain names.
        found = socket.getaddrinfo(question.host.encode(), question.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Answer(question.number, reason=reason)
    return Answer(question.number, tuple((family, address) for family, *_, address in found))
