"""Tcpmux (RFC 1078): one port for several services. The client sends a line with the
name of a service; the server answers "+" and hands the connection over to it, or
answers "-" and closes. The name "help" asks for the names of all.

The services are others of the same pool; the configuration checks that, and the worker
gives them by :meth:`Tcpmux.offer`. Until the choice the deadlines of tcpmux hold, then
those of the chosen service; the counts stay those of tcpmux.

Called by the table of services, the worker and the engine. Raises nothing.
"""

from collections.abc import Mapping
from typing import Annotated

from unpd.libraries import BeforeValidator, Field
from unpd.services.base import Conversation, HandOver, Options, Piece, StreamService

HELP = "help"
MAX_NAME_BYTES = 64
"""How long a line may become; a name of ours has at most 32 characters."""


def _listed(value: object) -> object:
    """A TOML array as a tuple."""
    return tuple(value) if isinstance(value, list) else value


class TcpmuxOptions(Options):
    """The keys that only tcpmux services have."""

    services: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), max_length=64, description='a list of names of services, such as ["echo", "daytime"]'
    )


class Tcpmux:
    """The tcpmux service. It offers nothing before :meth:`offer`."""

    def __init__(self, options: TcpmuxOptions) -> None:
        self._names = options.services
        self._offered: Mapping[str, StreamService] = {}

    def offer(self, services: Mapping[str, StreamService]) -> None:
        """Offer those of the pool's ``services`` that the options name."""
        self._offered = {name: services[name] for name in self._names}

    def greet(self, wall_s: float) -> bytes:
        """Nothing: the client speaks first."""
        return b""

    def converse(self) -> Conversation:
        """A conversation that waits for the name of a service."""
        return Conversation(received=Choice(self._offered).received)


class Choice:
    """The choice of one client."""

    def __init__(self, offered: Mapping[str, StreamService]) -> None:
        self._offered = offered
        self._line = b""

    def received(self, piece: Piece) -> Piece | HandOver:
        """Answer the line with the name, once it is complete."""
        line, ended, rest = (self._line + bytes(piece)).partition(b"\n")
        if len(line) > MAX_NAME_BYTES:
            return HandOver(b"-The name is too long\r\n")
        if not ended:
            self._line = line
            return b""
        # The name is never case sensitive (RFC 1078).
        name = line.strip().decode("ascii", "replace").lower()
        if name == HELP:
            return HandOver("".join(f"{offered}\r\n" for offered in self._offered).encode())
        if name not in self._offered:
            return HandOver(b"-There is no such service\r\n")
        return HandOver(b"+Go\r\n", self._offered[name], rest, name)
