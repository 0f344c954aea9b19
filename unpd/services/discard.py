"""Discard (RFC 863): throws away whatever it receives.

Called by the table of services and the engine. Raises nothing.
"""

from unpd.services.base import Answering, Conversation, Options, Peer, Piece, nothing

_CONVERSATION = Conversation(received=nothing)


class DiscardOptions(Options):
    """No options: all keys of a discard service are common keys."""


class Discard(Answering):
    """The discard service. It has no state, so every connection has the same
    conversation.
    """

    def __init__(self, options: DiscardOptions) -> None:
        del options

    def greet(self, wall_s: float) -> bytes:
        """Nothing: only the client speaks."""
        return b""

    def converse(self) -> Conversation:
        """The conversation that throws the received bytes away."""
        return _CONVERSATION

    def answer(self, piece: Piece, peer: Peer, now: float) -> None:
        """None: a datagram is thrown away, too."""
