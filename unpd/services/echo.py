"""Echo (RFC 862): sends every byte back that it receives.

Called by the table of services and the engine. Raises nothing.
"""

from unpd.services.base import Answering, Conversation, Options, Peer, Piece, same

_CONVERSATION = Conversation(received=same)


class EchoOptions(Options):
    """No options: all keys of an echo service are common keys."""


class Echo(Answering):
    """The echo service. It has no state, so every connection has the same
    conversation.
    """

    def __init__(self, options: EchoOptions) -> None:
        del options

    def greet(self, wall_s: float) -> bytes:
        """Nothing: the client speaks first."""
        return b""

    def converse(self) -> Conversation:
        """The conversation that replies with the received bytes themselves."""
        return _CONVERSATION

    def answer(self, piece: Piece, peer: Peer, now: float) -> Piece:
        """The same bytes in a datagram."""
        return piece
