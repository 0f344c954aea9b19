"""The fields of the answers that show parts of the status alone, of those about events,
and of that to ``wait``; as in :mod:`unpd.control.status_fields`, which has the form.

Read by the command line, by ``make manual`` and by tests.
"""

from unpd.control.status_fields import CHILDREN, StatusField
from unpd.control.status_fields import LISTENERS as LISTENERS_OF_A_SERVICE
from unpd.log_events.row import LEVELS

WORKERS = (StatusField("children", "list", "The processes.", fields=CHILDREN),)
"""The fields of the answer to ``workers``."""
LISTENER = (StatusField("service", "text", "The service, or metrics."), *LISTENERS_OF_A_SERVICE)
"""The fields of one listener in a list of all."""
LISTENERS = (StatusField("listeners", "list", "The listeners.", fields=LISTENER),)
"""The fields of the answer to ``listeners``."""

WAIT = (
    StatusField("held", "boolean", "Whether the condition holds."),
    StatusField("why", "text", "Why it does not.", "it holds"),
)
"""The fields of the answer to ``wait``."""

EVENT = (
    StatusField(
        "number",
        "integer",
        "How many events of this daemon came before it, and one more; those that are not kept"
        " leave no gap.",
    ),
    StatusField("time", "text", "When it was, in UTC, such as 2026-11-22T21:23:10.123Z."),
    StatusField("level", "text", f"The level of its line in the log: {', '.join(LEVELS)}."),
    StatusField("event", "text", "Its name, as in LOG EVENTS."),
    StatusField("fields", "object", "Its fields, as there."),
)
"""The fields of one event."""
EVENTS = (
    StatusField("events", "list", "The events, the oldest first.", fields=EVENT),
    StatusField("missed", "integer", "How many events before these were too many to be kept."),
    StatusField("more", "boolean", "Whether another line of the answer follows."),
)
"""The fields of each line of the answer to ``events``."""
