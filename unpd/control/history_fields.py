"""The fields that /status.json and the answer to ``status`` have in common: the figures
of all services together, their last ten minutes, and the last events; as in
:mod:`unpd.control.answer_fields`, which says what may change.
"""

from dataclasses import replace

from unpd.control.answer_fields import AnswerField
from unpd.log_events.row import LEVELS

_UNMEASURED = "the history has no two samples without a gap"
REFUSED_PER_S = AnswerField("refused_per_s", "number", "Refusals in a second.", _UNMEASURED)
_RATES = (
    AnswerField("accepted_per_s", "number", "New connections in a second.", _UNMEASURED),
    AnswerField("datagrams_per_s", "number", "Datagrams received in a second.", _UNMEASURED),
    AnswerField(
        "received_bytes_per_s",
        "number",
        "Bytes received in a second, in datagrams too.",
        _UNMEASURED,
    ),
    AnswerField(
        "sent_bytes_per_s", "number", "Bytes sent in a second, in datagrams too.", _UNMEASURED
    ),
    REFUSED_PER_S,
)
ACTIVE_MAX = AnswerField(
    "active_max_10min",
    "integer",
    "How many were open at most in the last ten minutes; they are counted once a second.",
)
QUEUED = AnswerField("queued", "integer", "How many connections wait in its accept queues.")
QUEUED_MAX = AnswerField(
    "queued_max_10min", "integer", "How many waited at most in the last ten minutes."
)
TOTALS = (
    AnswerField("active", "integer", "How many connections are open."),
    ACTIVE_MAX,
    replace(QUEUED, meaning="How many connections wait in accept queues."),
    QUEUED_MAX,
    AnswerField("accepted", "integer", "How many connections were accepted."),
    AnswerField("refused", "integer", "How many connections and datagrams were refused."),
    *_RATES,
    AnswerField("rtt_s", "number", "The mean round-trip time of late.", "none was measured"),
    AnswerField(
        "lag_s",
        "number",
        "The mean length of late of the longest turns of the loops of workers.",
        "none was measured",
    ),
)
"""The figures of all services together."""
HISTORY = (
    AnswerField("now_s", "number", "The time of the answer on the clock since boot, in seconds."),
    AnswerField("at_s", "list", "The times of the samples on that clock, the oldest first."),
    AnswerField("active", "list", "Open connections at each."),
    AnswerField("queued", "list", "Connections in accept queues at each."),
    *(
        AnswerField(field.name, "list", f"{field.meaning[:-1]}, before each; null behind a gap.")
        for field in _RATES
    ),
    AnswerField("rtt_s", "list", "The mean round-trip time before each; null: none came."),
    AnswerField(
        "lag_s",
        "list",
        "The mean length of the longest turns of the loops of workers before each; null: none"
        " came.",
    ),
)
"""The same in the last ten minutes: a list for each, with a sample a second."""
EVENTS = (
    AnswerField("number", "integer", "Its number; goes up."),
    AnswerField("time", "text", "When it happened, in UTC."),
    AnswerField("level", "text", f"The level of its line in the log: {', '.join(LEVELS)}."),
    AnswerField("event", "text", "Its name in the log."),
    AnswerField("text", "text", "A sentence."),
    AnswerField(
        "fields",
        "object",
        "Its fields in the log, without the users and processes that asked for something.",
    ),
)
"""The fields of one of the last events."""
