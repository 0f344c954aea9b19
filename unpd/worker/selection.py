"""Which connections an operator means: those of a service, of the clients in a network,
and those that are old enough; and the order to end them.

The master passes the selection of a request on to the children, in the words of the
request, and each child looks at its own connections (:mod:`unpd.worker.questions`).
Owns nothing. Raises ValueError for a message that is no selection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from unpd.access.network import Network
from unpd.access.peer import peer_of
from unpd.names import EndCause


@dataclass(frozen=True, slots=True)
class Selection:
    """``service``: its name, "" for every service. ``network``: that of the clients,
    None for every client, also those of UNIX sockets. ``older_s``: how many seconds a
    connection is open at least.
    """

    service: str = ""
    network: Network | None = None
    older_s: float = 0.0

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        """Read it from a question, which may leave out each of its keys. ValueError."""
        match {"service": "", "network": "", "older_s": 0, **message}:
            case {"service": str(service), "network": str(text), "older_s": int() | float() as old}:
                if old >= 0:
                    return cls(service, Network.parse(text) if text else None, old)
        raise ValueError("service and network are texts, and older_s is a number of seconds")

    @property
    def message(self) -> dict[str, Any]:
        """The keys of a question."""
        network = str(self.network) if self.network else ""
        return {"service": self.service, "network": network, "older_s": self.older_s}

    def takes(self, service: str, peer: bytes, age_s: float) -> bool:
        """Whether a connection belongs to it. ``peer``: a sockaddr."""
        if self.service not in ("", service) or age_s < self.older_s:
            return False
        if self.network is None:
            return True
        client = peer_of(peer)
        return self.network.holds(client.family, client.number)


@dataclass(frozen=True, slots=True)
class Kick:
    """An order to end the connections of a selection. ``cause``: the end cause.
    ``dry_run``: only to say how many it would be.
    """

    selection: Selection
    cause: EndCause = EndCause.DENIED
    dry_run: bool = False

    @classmethod
    def of_message(cls, message: Mapping[str, Any]) -> Self:
        """Read it from a question. ValueError."""
        match message:
            case {"cause": str(cause), "dry_run": bool(dry_run)}:
                return cls(Selection.of_message(message), EndCause(cause), dry_run)
        raise ValueError("a kick has a cause, and says whether it is a dry run")

    @property
    def message(self) -> dict[str, Any]:
        """The keys of a question."""
        return {**self.selection.message, "cause": str(self.cause), "dry_run": self.dry_run}
