"""The fields of the answers that show parts of the status alone, of those about events,
and of that to ``wait``; as in :mod:`unpd.control.answer_fields`, which has the form.

Read by the command line, by ``make manual`` and by tests.
"""

from unpd.control.answer_fields import AnswerField
from unpd.control.status_fields import CHILDREN
from unpd.control.status_fields import LISTENERS as LISTENERS_OF_A_SERVICE
from unpd.log_events.row import LEVELS

WORKERS = (AnswerField("children", "list", "The processes.", fields=CHILDREN),)
"""The fields of the answer to ``workers``."""
LISTENER = (AnswerField("service", "text", "The service, or metrics."), *LISTENERS_OF_A_SERVICE)
"""The fields of one listener in a list of all."""
LISTENERS = (AnswerField("listeners", "list", "The listeners.", fields=LISTENER),)
"""The fields of the answer to ``listeners``."""

WAIT = (
    AnswerField("held", "boolean", "Whether the condition holds."),
    AnswerField("why", "text", "Why it does not.", "it holds"),
    AnswerField(
        "stopping",
        "boolean",
        "Whether that is because the daemon stops: then it can hold no more.",
    ),
    AnswerField(
        "connections",
        "integer",
        "How many connections are left.",
        "the condition holds, or is not about connections",
    ),
    AnswerField(
        "until",
        "text",
        "When these have to end, in UTC, such as 2026-11-22T21:23:10Z.",
        "they may last, or connections is null",
    ),
)
"""The fields of the answer to ``wait``."""

EVENT = (
    AnswerField(
        "number",
        "integer",
        "How many events of this daemon came before it, and one more; those that are not kept"
        " leave no gap.",
    ),
    AnswerField("time", "text", "When it was, in UTC, such as 2026-11-22T21:23:10.123Z."),
    AnswerField("level", "text", f"The level of its line in the log: {', '.join(LEVELS)}."),
    AnswerField("event", "text", "Its name, as in LOG EVENTS."),
    AnswerField("fields", "object", "Its fields, as there."),
)
"""The fields of one event."""
EVENTS = (
    AnswerField("events", "list", "The events, the oldest first.", fields=EVENT),
    AnswerField("missed", "integer", "How many events before these were too many to be kept."),
    AnswerField("more", "boolean", "Whether another line of the answer follows."),
)
"""The fields of each line of the answer to ``events``."""
