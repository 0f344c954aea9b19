"""The stages of a session of a redirect.

Owns nothing. Calls nothing and raises nothing.
"""

import enum


class RelayStage(enum.IntEnum):
    """The stages, in their order."""

    CONNECTING = 0
    """The dial looks for a target."""
    SERVING = 1
    """The flows relay."""
    CUT_OFF = 2
    """One side broke: the other gets what came before, then a reset."""
    ENDED = 3
