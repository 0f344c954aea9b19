"""Echo (RFC 862): sends every byte back that it receives.

Called by the table of services and the engine. Raises nothing.
"""

from unpd.services.base import Options, Reply, same


class EchoOptions(Options):
    """No options: all keys of an echo service are common keys."""


class Echo:
    """The echo service. It has no state, so one function serves every connection."""

    def __init__(self, options: EchoOptions) -> None:
        del options

    def greet(self, wall_s: float) -> bytes:
        """Nothing: the client speaks first."""
        return b""

    def converse(self) -> Reply:
        """The function that replies with the received bytes themselves."""
        return same
