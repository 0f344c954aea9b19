"""The lines that ``unpd events`` prints, for people and for programs.

Called by the commands with answers that have every field of
:data:`unpd.control.view_fields.EVENTS`. Raises nothing.
"""

import json

from unpd.cli.tables import Values
from unpd.control.answer_fields import SCHEMA
from unpd.wording import counted


def as_text(event: Values) -> str:
    """An event as the log has it: time, level, name, and fields as name=value."""
    from unpd.logs import in_words  # noqa: PLC0415 - most commands write no event

    return f"{event['time']} {event['level']:<7} {in_words(event['event'], event['fields'])}"


def as_json(event: Values) -> str:
    """An event as a line of JSON in ASCII, with the number of the schema."""
    line = json.dumps({"schema": SCHEMA, **event}, separators=(",", ":"))
    return line.replace("\x7f", "\\u007f")


def gap(missed: int) -> str:
    """A complaint about events that are lost; "" if none are."""
    if not missed:
        return ""
    return f"{counted(missed, 'event')} between these were too many to be kept"
