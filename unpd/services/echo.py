"""Echo (RFC 862): whatever arrives goes back, byte for byte."""

from unpd.services.base import Options, Reply, same


class EchoOptions(Options):
    """Echo has no options of its own."""


class Echo:
    """The echo service; stateless, so that one conversation serves every connection."""

    def __init__(self, options: EchoOptions) -> None:
        del options

    def greet(self, wall_s: float) -> bytes:
        """The client speaks first."""
        return b""

    def converse(self) -> Reply:
        """Every piece is its own answer."""
        return same
