"""Defines the interface between a service and the worker that runs it.

A worker makes each service once, from its frozen options; all connections share it. A
service sees no socket and no clock: the engine passes the time and the bytes in.

Owns the protocol :class:`Service`, the rows of the table of services, and the refusal
of an option that names nothing. Called by the service modules, the table, the
configuration and the engine. Calls nothing but pydantic. Raises nothing itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from unpd.libraries import BaseModel, ConfigDict

Piece = bytes | memoryview
"""Received bytes or a reply. A memoryview is valid only until the next call."""

Reply = Callable[[Piece], Piece]
"""A function that answers one piece of received bytes. It may return the piece itself:
the engine uses or copies the reply before the next call.
"""


def same(piece: Piece) -> Piece:
    """Reply with the received bytes themselves.

    The engine knows this function: it relays bulk data within the kernel instead of
    calling it.
    """
    return piece


class Options(BaseModel):
    """Base class of every service's options: frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class UnknownNameError(ValueError):
    """An option names something that does not exist.

    ``word``: the name. ``known``: lists the names that exist, for a suggestion; it may
    be slow. ``advice``: what to do if none of them is near. The text of the error is
    ``sentence``, then ``advice``.
    """

    def __init__(
        self, sentence: str, word: str, known: Callable[[], Iterable[str]], advice: str
    ) -> None:
        super().__init__(f"{sentence}; {advice}")
        self.sentence = sentence
        self.word = word
        self.known = known


class Service(Protocol):
    """A configured service, which all connections of a worker share."""

    def greet(self, wall_s: float) -> bytes:
        """The first bytes that the server sends on a new connection; b"" if the client
        speaks first. ``wall_s``: the time, in seconds since the epoch (time.time()).
        """

    def converse(self) -> Reply | None:
        """The function that answers the client of one new connection; None if the
        server closes after the greeting.
        """


@dataclass(frozen=True, slots=True)
class ServiceType:
    """A row of the table of services.

    ``rfc``: the number of its RFC. ``port``: its well-known TCP port. ``options``: the
    model of the keys that only this type has. ``make``: makes the service from them.
    """

    name: str
    rfc: int
    port: int
    options: type[Options]
    make: Callable[[Any], Service]
