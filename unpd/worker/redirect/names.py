"""The addresses of targets: fixed ones, and those of names, which a resolver looks up
off the loop.

A name is looked up when the worker begins, again when a client needs an address that is
older than ``resolve_s``, and after a failure, be it of the look-up or of a connect; but
no more often than once in RETRY_S. The old addresses serve until newer ones are known.
A client that comes before the first answer waits for it.

Owned by the targets of a redirect. Called by :mod:`unpd.worker.redirect.dial`; the
worker passes the answers of :mod:`unpd.kernel.resolver` on. The time is passed in.
Raises nothing.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from unpd.kernel.outgoing import SocketAddress
from unpd.kernel.resolver import Answer, Question
from unpd.worker.event.poller import Watcher

RETRY_S = 1.0
"""A name that failed is looked up once in this time at most."""
MAX_ADDRESSES = 4
"""How many addresses of one target a client tries at most."""


class Addresses(Protocol):
    """The addresses of one target. ``reason``: why there are none."""

    reason: str

    def known(self, now: float) -> Sequence[SocketAddress] | None:
        """The addresses to try; None if an answer is still to come."""

    def avoid(self, address: SocketAddress, now: float) -> None:
        """Try an address to which a connect failed after all others from now on."""

    def wait(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when the answer has come."""

    def wait_no_more(self, wake: Callable[[], None]) -> None:
        """Do not call ``wake``."""


class Fixed:
    """The one address of a numeric host or a UNIX socket."""

    def __init__(self, find: Callable[[], SocketAddress]) -> None:
        """``find``: returns the address; OSError if this host has no such interface."""
        self._find = find
        self.reason = ""

    def known(self, now: float) -> Sequence[SocketAddress]:
        """The address, unless its interface is missing."""
        try:
            return (self._find(),)
        except OSError as error:
            self.reason = error.strerror or str(error)
            return ()

    def avoid(self, address: SocketAddress, now: float) -> None:
        """Nothing: there is no other one."""

    def wait(self, wake: Callable[[], None]) -> None:
        """Nothing: the address is known."""

    def wait_no_more(self, wake: Callable[[], None]) -> None:
        """Nothing."""


class Name:
    """The addresses of a name."""

    def __init__(self, ask: Callable[[], None], resolve_s: float) -> None:
        """``ask``: has the name looked up; :meth:`answered` gets the answer."""
        self.reason = ""
        self._ask = ask
        self._resolve_s = resolve_s
        self._addresses: list[SocketAddress] = []
        self._is_asked = False
        self._ask_at = 0.0
        self._asked_at = 0.0
        self._waiting: list[Callable[[], None]] = []

    def known(self, now: float) -> Sequence[SocketAddress] | None:
        """The addresses to try; None if an answer is still to come."""
        if not self._is_asked and now >= self._ask_at:
            self._is_asked = True
            self._asked_at = now
            self._ask()
        if not self._addresses and self._is_asked:
            return None
        return self._addresses[:MAX_ADDRESSES]

    def avoid(self, address: SocketAddress, now: float) -> None:
        """Try this address last, and look the name up again."""
        if address in self._addresses:
            self._addresses.remove(address)
            self._addresses.append(address)
        self._ask_at = min(self._ask_at, self._asked_at + RETRY_S)

    def answered(self, answer: Answer, now: float) -> None:
        """Take an answer, and wake those that wait for it. A look-up that failed leaves
        the old addresses.
        """
        self._is_asked = False
        self._asked_at = now
        self.reason = answer.reason
        if answer.addresses:
            self._addresses = list(answer.addresses)
        self._ask_at = now + (self._resolve_s if answer.addresses else RETRY_S)
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def wait(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when the answer has come."""
        self._waiting.append(wake)

    def wait_no_more(self, wake: Callable[[], None]) -> None:
        """Do not call ``wake``: its client has ended."""
        if wake in self._waiting:
            self._waiting.remove(wake)


class Asking(Protocol):
    """The resolver, as far as names need it."""

    def fileno(self) -> int:
        """The descriptor that is readable while there are answers."""

    def ask(self, question: Question) -> None:
        """Look a name up."""

    def answers(self) -> Sequence[Answer]:
        """Take the answers that have come."""


class Names:
    """All names of one worker, by number. ``make_resolver`` makes the one that looks
    them up, if there are any.
    """

    def __init__(self, make_resolver: Callable[[], Asking]) -> None:
        self._make_resolver = make_resolver
        self._resolver: Asking | None = None
        self._names: list[Name] = []

    def add(self, host: str, port: int, resolve_s: float) -> Name:
        """Make a name. OSError if no resolver can be made."""
        resolver = self._resolver = self._resolver or self._make_resolver()
        question = Question(len(self._names), host, port)
        name = Name(lambda: resolver.ask(question), resolve_s)
        self._names.append(name)
        return name

    def begin(self, watch: Callable[[int, Watcher], None], now: Callable[[], float]) -> None:
        """Look all names up, before clients come. ``watch`` has a descriptor watched.
        ``now``: the monotonic clock.
        """
        resolver = self._resolver
        if resolver is None:
            return

        def take_answers(_mask: int) -> None:
            for answer in resolver.answers():
                self._names[answer.number].answered(answer, now())

        watch(resolver.fileno(), Watcher(take_answers))
        for name in self._names:
            name.known(now())
