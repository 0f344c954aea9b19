"""The fields of the answers to the verbs that change a running daemon for a while
(:mod:`unpd.control.change_verbs`). What such changes have left is part of the status
(:mod:`unpd.control.status_fields`).
"""

from unpd.control.status_fields import StatusField
from unpd.names import Halt

HALT = (
    StatusField("service", "text", "The service."),
    StatusField(
        "halted", "text", f"How it is halted now: {', '.join(Halt)}.", "it takes new clients"
    ),
    StatusField(
        "until",
        "text",
        "When that ends, in UTC, such as 2026-11-22T21:23:10Z.",
        "it lasts until unpd resume, or the service is not halted",
    ),
    StatusField("was", "text", "How it was halted before.", "it took new clients"),
    StatusField("connections", "integer", "How many connections are open."),
)
"""The fields of the answers to ``pause``, ``resume`` and ``drain``."""
LEVEL = (
    StatusField("level", "text", "The level of the log."),
    StatusField("live", "boolean", "Whether it is another one than the configured."),
    StatusField(
        "until",
        "text",
        "When that ends, in UTC, such as 2026-11-22T21:23:10Z.",
        "it lasts until another level is wanted",
    ),
    StatusField("silent", "list", "The children that have not answered, in words."),
)
"""The fields of the answer to ``log-level``."""
SCALE = (
    StatusField("pool", "text", "The pool."),
    StatusField("workers", "integer", "How many workers it has from now on."),
    StatusField("before", "integer", "How many it had."),
    StatusField("configured", "integer", "How many the configuration wants."),
)
"""The fields of the answer to ``scale``."""
