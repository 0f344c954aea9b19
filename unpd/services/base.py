"""Defines the interface between a service and the worker that runs it.

A worker makes each service once, from its frozen options; all connections share it. A
service sees no socket and no clock: the engine passes the time and the bytes in.

Owns the protocols :class:`StreamService` and :class:`DatagramService`, the base class
:class:`Choosing`, :class:`Answering`, the rows of the table of services, and the
refusal of an option that names nothing. Called by the service modules, the table, the
configuration, the engine and the dispatcher. Calls nothing but pydantic. Raises nothing
itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from unpd.libraries import BaseModel, ConfigDict
from unpd.names import ChildKind

Piece = bytes | memoryview
"""Received bytes or a reply. A memoryview is valid only until the next call."""

Reply = Callable[[Piece], "Piece | HandOver"]
"""A function that answers one piece of received bytes. It may return the piece itself:
the engine uses or copies the reply before the next call. b"" answers nothing, and a
:class:`HandOver` ends the conversation.
"""

More = Callable[[], Piece | None]
"""A function that says a service's next bytes unasked (:class:`Conversation`)."""

Peer = tuple[str, int] | tuple[str, int, int, int] | str | bytes | None
"""The sender of a datagram, as the module socket gives addresses: host and port of an
IPv4 or IPv6 sender, the path of a UNIX one (bytes if it is abstract, None or "" if it
has no name).
"""

Fitted = Callable[[int], Piece]
"""A function that makes the answer to a datagram, with so many bytes at most: for a
service whose answer may have any length.
"""

MAX_PIECE_BYTES = 64 * 1024
"""The most that a service says unasked in one turn: more would keep the other clients
waiting, and is kept for a client that does not read.
"""


def same(piece: Piece) -> Piece:
    """Reply with the received bytes themselves.

    The engine knows this function: it relays bulk data within the kernel instead of
    calling it.
    """
    return piece


@dataclass(frozen=True, slots=True)
class Conversation:
    """The part of a service that talks with one client.

    ``received`` answers what the client sends. A service without a state of its own may
    give all clients the same conversation.

    ``more``, of a service that speaks unasked, returns its next bytes, at most
    MAX_PIECE_BYTES. The engine calls it when the client has taken all earlier output
    and the socket has room, once a turn; no longer after it returned b"", until the
    client sends again; and not in a graceful stop. None instead of bytes: the service
    has said everything, and the server closes.
    """

    received: Reply
    more: More | None = None


def chance(moment: float, count: int) -> int:
    """A number from 0 to ``count`` - 1 that nobody needs to foresee: the microsecond of
    ``moment``. (The module random would cost every process 0.5 MB.)
    """
    return int(moment * 1e6) % count


class Options(BaseModel):
    """Base class of every service's options: frozen, and refuses unknown keys. Private
    attributes may hold what the options name outside the configuration, such as the
    content of a file: a reload compares them, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def nothing(piece: Piece) -> Piece:
    """Reply with nothing: the received bytes are thrown away."""
    del piece
    return b""


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


class StreamService(Protocol):
    """A configured service over streams, which all connections of a worker share."""

    def greet(self, wall_s: float) -> bytes:
        """The first bytes that the server sends on a new connection; b"" if the client
        speaks first. ``wall_s``: the time, in seconds since the epoch (time.time()).
        """

    def converse(self) -> Conversation | None:
        """The conversation with the client of one new connection; None if the server
        closes after the greeting.
        """


class Choosing:
    """A service over streams that chooses its greeting by the one before.

    A process that forks another for each client chooses for that one: it calls
    ``choose`` before the fork, and ``sent`` when the fork has succeeded. Between the
    two ``greet`` returns the choice, in the new process, too.
    """

    def choose(self, wall_s: float) -> None:
        """Choose the next greeting, unless it is chosen already. ``wall_s``: as in
        ``greet``.
        """
        raise NotImplementedError

    def sent(self) -> None:
        """Take the choice as sent, by whichever process."""
        raise NotImplementedError


class Answering:
    """A service over streams that only answers: a client that has sent nothing gets
    nothing. So nobody has to serve a connection that its client has ended by then.
    """


class DatagramService(Protocol):
    """A configured service over datagrams, which all sockets of a worker share."""

    def answer(self, piece: Piece, peer: Peer, now: float) -> Piece | Fitted | None:
        """The datagram that answers ``piece``, which may be empty, as may the answer,
        and may be the answer itself; None to answer nothing. A function is called at
        once with the number of bytes that ``amplification`` allows. ``peer``: the
        sender. ``now``: the time, in seconds since the epoch (time.time()).
        """


@dataclass(frozen=True, slots=True)
class HandOver:
    """The last answer of a conversation: ``first`` is sent, then ``service`` begins
    with the same client, as with a new one, and gets the received bytes ``rest``.
    Without a service, the server closes. ``name``: the service in the configuration
    whose times hold from then on; "" to keep those of the first service.
    """

    first: bytes
    service: StreamService | None = None
    rest: bytes = b""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ServiceType:
    """A row of the table of services.

    ``rfc``: the number of its RFC, or None. ``port``: its well-known port; 0 if it
    has none, and the configuration has to name addresses. ``stream`` and
    ``datagram``: whether it serves streams and datagrams. ``options``: the model of the
    keys that only this type has. ``make``: makes the service from them, a
    :class:`StreamService`, a :class:`DatagramService` or both (but a redirect, which a
    worker serves in a way of its own). ``note``: a limit of the protocol that the log
    names when such a service begins. ``served_by``: the kind of child that serves its
    streams, whatever their model is; None: the model decides.
    """

    name: str
    rfc: int | None
    port: int
    stream: bool
    datagram: bool
    options: type[Options]
    make: Callable[[Any], Any]
    note: str = ""
    served_by: ChildKind | None = None
