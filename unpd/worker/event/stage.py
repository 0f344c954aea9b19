"""The stages of a session.

Owns nothing. Read by sessions and by those that look at them. Calls nothing and raises
nothing.
"""

import enum


class Stage(enum.IntEnum):
    """The stages of a session, in their order."""

    SERVING = 0
    HALF_CLOSED = 1
    """The peer's FIN has come: the pending output goes out, then the session ends."""
    PARTING = 2
    """We end it: no more input, the pending output goes out, then our FIN."""
    LINGERING = 3
    """Our FIN is sent: input is thrown away until the peer's FIN."""
    ENDED = 4
