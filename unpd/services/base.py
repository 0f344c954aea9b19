"""What a service is to the worker that runs it.

A service is built once per worker from its frozen options and shared by all its
connections. It sees no socket and no clock: the engine passes the time in and the bytes
through. :mod:`unpd.services.table` lists the services there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from unpd.libraries import BaseModel, ConfigDict

Piece = bytes | memoryview
"""Received bytes or an answer. A view is valid until the next call only."""

Reply = Callable[[Piece], Piece]
"""Answers one piece of received bytes. The reply may be the piece itself; the engine
uses or copies it before the next call.
"""


def same(piece: Piece) -> Piece:
    """The reply of a service that sends back what comes. The engine knows it: in bulk
    it does not call it, but relays the bytes within the kernel.
    """
    return piece


class Options(BaseModel):
    """Base of every service's options: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Service(Protocol):
    """One configured service."""

    def greet(self, wall_s: float) -> bytes:
        """What the server says first on a new connection; b"" if the client speaks
        first. ``wall_s``: seconds since the epoch (time.time()).
        """

    def converse(self) -> Reply | None:
        """The conversation of one new connection, or None if the greeting was all and
        the server closes.
        """


@dataclass(frozen=True, slots=True)
class ServiceType:
    """One row of the table of services: ``rfc`` is the number of its RFC, ``port`` its
    well-known TCP port.
    """

    name: str
    rfc: int
    port: int
    options: type[Options]
    make: Callable[[Any], Service]
