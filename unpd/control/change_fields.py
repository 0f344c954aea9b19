"""The fields of the answers to the verbs that change a running daemon for a while
(:mod:`unpd.control.change_verbs`). What such changes have left is part of the status
(:mod:`unpd.control.answer_fields`).
"""

from unpd.control.answer_fields import AnswerField
from unpd.names import Halt

HALT = (
    AnswerField("service", "text", "The service."),
    AnswerField(
        "halted", "text", f"How it is halted now: {', '.join(Halt)}.", "it takes new clients"
    ),
    AnswerField(
        "until",
        "text",
        "When that ends, in UTC, such as 2026-11-22T21:23:10Z.",
        "it lasts until unpd resume, or the service is not halted",
    ),
    AnswerField("was", "text", "How it was halted before.", "it took new clients"),
    AnswerField("connections", "integer", "How many connections are open."),
    AnswerField(
        "program_has_socket",
        "boolean",
        "Whether a program has the listener itself (wait, keep): it goes on taking clients, and a"
        " drain lasts until it ends.",
    ),
)
"""The fields of the answers to ``pause``, ``resume`` and ``drain``."""
LEVEL = (
    AnswerField("level", "text", "The level of the log."),
    AnswerField(
        "live",
        "boolean",
        "Whether an operator has set it, for a time or until the configured one is wanted again.",
    ),
    AnswerField(
        "until",
        "text",
        "When that ends, in UTC, such as 2026-11-22T21:23:10Z.",
        "it lasts until another level is wanted",
    ),
    AnswerField("silent", "list", "The children that have not answered, in words."),
)
"""The fields of the answer to ``log-level``."""
SCALE = (
    AnswerField("pool", "text", "The pool."),
    AnswerField("workers", "integer", "How many workers it has from now on."),
    AnswerField("before", "integer", "How many it had."),
    AnswerField("configured", "integer", "How many the configuration wants."),
)
"""The fields of the answer to ``scale``."""
