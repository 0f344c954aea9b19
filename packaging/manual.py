"""Makes the parts of the manual pages that repeat a table of the program: in unpd(8)
the commands for a running daemon, the fields of its status, its log events, its
metrics, the reasons for which it is degraded, and the fields of a client's measurement;
in unpd.toml(5) what takes the place of the attributes of xinetd. Run by ``make
manual``; tests compare the pages with it.

A part stands between two comments of the page, which name it. The prose around the
parts is written by hand. Errors: ValueError if the page lacks the comments of a part.
"""

import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from unpd.cli.client.report import BULK_FIELDS, MEASURED_FIELDS
from unpd.cli.doctor.report import FIELDS as REPORT
from unpd.cli.doctor.table import CHECKS
from unpd.cli.parser import option_of
from unpd.config.foreign import XINETD
from unpd.control.answer_fields import AnswerField, paths
from unpd.control.change_fields import HALT, LEVEL, SCALE
from unpd.control.client_fields import CONNECTION, DENIAL, ENDED, EXPLAINED, KICK
from unpd.control.page_fields import PAGE
from unpd.control.reload_fields import PREVIEW, RELOADED
from unpd.control.status_fields import STATUS
from unpd.control.verb import Argument
from unpd.control.verbs import VERBS
from unpd.control.view_fields import EVENT, WAIT
from unpd.log_events.row import LogEvent
from unpd.log_events.table import EVENTS
from unpd.metrics.catalog.table import METRICS
from unpd.names import END_MEANINGS, FAULT_MEANINGS

PAGES = Path(__file__).parent / "man"
WIDTH = 80
_SENTENCE_ENDS = re.compile(r"(?<=\.) (?=[A-Z])")
_NAMES = re.compile(r"\w+(?:[._]\w+)+")
_MARKED = re.compile(r"`([^`]*)`")


def prose(*texts: str) -> Iterator[str]:
    """The lines of some sentences in roff: each sentence begins a line, what stands in
    backticks is in italics, and no name is hyphenated.
    """
    for text in texts:
        for sentence in _SENTENCE_ENDS.split(text):
            escaped = sentence.replace("\\", r"\e").replace("--", r"\-\-")
            whole = _NAMES.sub(r"\\%\g<0>", escaped)
            marked = _MARKED.sub(r"\\fI\1\\fP", whole)
            for line in textwrap.wrap(marked, WIDTH, break_on_hyphens=False):
                yield rf"\&{line}" if line.startswith((".", "'")) else line


def verbs_synopsis() -> Iterator[str]:
    """The synopsis of each verb of a running daemon."""
    for verb in VERBS.values():
        yield from (".Nm", f".Cm {verb.name}", ".Op Fl -config Ar FILE | Fl -control Ar PATH")
        for argument in (*verb.arguments, *verb.options):
            if not argument.internal:
                needed = argument.operand and not argument.optional
                yield f".{_usage(argument)}" if needed else f".Op {_usage(argument)}"


def _usage(argument: Argument) -> str:
    """An argument in a synopsis."""
    if argument.operand:
        return f"Ar {argument.placeholder}"
    value = f" Ar {argument.placeholder}" if argument.placeholder else ""
    return f"Fl {option_of(argument)[1:]}{value}"


def verbs() -> Iterator[str]:
    """An item for each verb of a running daemon."""
    for verb in VERBS.values():
        yield f".It Cm {verb.name}"
        yield from prose(verb.description)


def verbs_options() -> Iterator[str]:
    """An item for each option that only one verb has, in the order of their names."""
    rows = [
        (option, verb)
        for verb in VERBS.values()
        for option in verb.arguments + verb.options
        if not (option.operand or option.internal)
    ]
    for option, verb in sorted(rows, key=lambda row: row[0].name):
        yield f".It {_usage(option)} Pq Cm {verb.name}"
        yield from prose(f"{option.help[0].upper()}{option.help[1:]}.")


def status_fields() -> Iterator[str]:
    """An item for each field of the status, by its path in the JSON."""
    return _fields_of(STATUS)


def reload_fields() -> Iterator[str]:
    """An item for each field of a reload, and of what it has changed."""
    return _fields_of(RELOADED)


def preview_fields() -> Iterator[str]:
    """An item for each field of a reload that only shows what would change."""
    return _fields_of(PREVIEW)


def doctor_checks() -> Iterator[str]:
    """An item for each check of the doctor."""
    yield ".Bl -tag -width Ds"
    for check in CHECKS:
        yield f".It Li {check.name}"
        yield from prose(f"{check.about[0].upper()}{check.about[1:]}.")
    yield ".El"


def doctor_fields() -> Iterator[str]:
    """An item for each field of the doctor's report."""
    return _fields_of(REPORT)


def denial_fields() -> Iterator[str]:
    """An item for each field of a live denial."""
    return _fields_of(DENIAL)


def explanation_fields() -> Iterator[str]:
    """An item for each field of an explanation."""
    return _fields_of(EXPLAINED)


def connection_fields() -> Iterator[str]:
    """An item for each field of an open connection."""
    return _fields_of(CONNECTION)


def ended_fields() -> Iterator[str]:
    """An item for each field of a connection that has ended."""
    return _fields_of(ENDED)


def event_fields() -> Iterator[str]:
    """An item for each field of a recent event."""
    return _fields_of(EVENT)


def halt_fields() -> Iterator[str]:
    """An item for each field of the answers to pause, resume and drain."""
    return _fields_of(HALT)


def level_fields() -> Iterator[str]:
    """An item for each field of the answer to log-level."""
    return _fields_of(LEVEL)


def scale_fields() -> Iterator[str]:
    """An item for each field of the answer to scale."""
    return _fields_of(SCALE)


def kick_fields() -> Iterator[str]:
    """An item for each field of the answer to kick."""
    return _fields_of(KICK)


def wait_fields() -> Iterator[str]:
    """An item for each field of the answer to wait."""
    return _fields_of(WAIT)


def page_fields() -> Iterator[str]:
    """An item for each field of the JSON of the status page."""
    return _fields_of(PAGE)


def _fields_of(fields: tuple[AnswerField, ...]) -> Iterator[str]:
    yield ".Bl -tag -width Ds"
    for path, row in paths(fields):
        yield f".It Va {path} Pq {row.type}"
        yield from prose(row.meaning, *([f"Null means: {row.absent}."] if row.absent else []))
    yield ".El"


def log_events() -> Iterator[str]:
    """An item for each event. Neighbours that differ in their name only share one."""
    yield ".Bl -tag -width Ds"
    for row, namesakes in itertools.groupby(EVENTS.values(), lambda event: replace(event, name="")):
        yield f".It Sy {' , '.join(event.name for event in namesakes)} Pq {_levels(row)}"
        yield from prose(row.meaning, row.what_to_do)
        if row.fields:
            yield ".br"
            yield from prose(f"Fields: {', '.join(_fields(row))}.")
    yield ".El"


def _levels(row: LogEvent) -> str:
    return f"{row.level} , debug unless {row.debug_unless}" if row.debug_unless else row.level


def _fields(row: LogEvent) -> Iterator[str]:
    for name in row.fields:
        yield f"{name} (optional)" if name in row.optional else name


def reasons() -> Iterator[str]:
    """An item for each reason for which a daemon is degraded."""
    yield ".Bl -tag -width Ds"
    for fault, meaning in FAULT_MEANINGS.items():
        yield f".It Li {fault}"
        yield from prose(f"{meaning[0].upper()}{meaning[1:]}.")
    yield ".El"


def end_causes() -> Iterator[str]:
    """An item for each cause for which a connection ends."""
    yield ".Bl -tag -width Ds"
    for cause, meaning in END_MEANINGS.items():
        yield f".It Li {cause}"
        yield from prose(f"{meaning[0].upper()}{meaning[1:]}.")
    yield ".El"


def metrics() -> Iterator[str]:
    """An item for each metric."""
    yield ".Bl -tag -width Ds"
    for row in METRICS:
        yield f".It Sy {row.name} Pq {type(row).__name__.lower()}"
        yield from prose(row.help)
        if row.labels:
            yield ".br"
            yield from prose(f"Labels: {', '.join(row.labels)}.")
    yield ".El"


def measured_fields() -> Iterator[str]:
    """An item for each field of the JSON of a measurement."""
    yield ".Bl -tag -width Ds"
    for fields, condition in ((MEASURED_FIELDS, ""), (BULK_FIELDS, " Pq Fl -bulk")):
        for name, meaning in fields.items():
            yield f".It Va {name}{condition}"
            yield from prose(f"{meaning[0].upper()}{meaning[1:]}.")
    yield ".El"


def xinetd() -> Iterator[str]:
    """An item for each row of attributes of xinetd, in the order of their names."""
    yield ".Bl -tag -width Ds"
    for words, advice in sorted(XINETD):
        yield f".It Li {' , '.join(words.split())}"
        # The name of the program has no capital.
        begin = advice[0] if advice.startswith("unpd ") else advice[0].upper()
        yield from prose(f"{begin}{advice[1:]}.")
    yield ".El"


PARTS: Mapping[str, Callable[[], Iterator[str]]] = MappingProxyType(
    {
        "the synopsis of the verbs": verbs_synopsis,
        "the verbs": verbs,
        "the options of the verbs": verbs_options,
        "the fields of the status": status_fields,
        "the checks of the doctor": doctor_checks,
        "the fields of the doctor": doctor_fields,
        "the fields of a reload": reload_fields,
        "the fields of a preview": preview_fields,
        "the fields of a denial": denial_fields,
        "the fields of an explanation": explanation_fields,
        "the fields of a connection": connection_fields,
        "the fields of an ended connection": ended_fields,
        "the fields of an event": event_fields,
        "the fields of a halt": halt_fields,
        "the fields of a level": level_fields,
        "the fields of a scale": scale_fields,
        "the fields of a kick": kick_fields,
        "the fields of a wait": wait_fields,
        "the fields of the status page": page_fields,
        "the log events": log_events,
        "the metrics": metrics,
        "the end causes": end_causes,
        "the reasons": reasons,
        "the fields of a measurement": measured_fields,
    }
)
"""What makes each part of unpd(8), by the name in its comments."""
TOML_PARTS: Mapping[str, Callable[[], Iterator[str]]] = MappingProxyType(
    {"the attributes of xinetd": xinetd}
)
"""The same of unpd.toml(5)."""


def renewed(page: str, parts: Mapping[str, Callable[[], Iterator[str]]] = PARTS) -> str:
    """The text of the page with each of its parts made anew."""
    for name, make in parts.items():
        begin, end = f'.\\" Made by make manual: {name}.\n', f'.\\" End of {name}.\n'
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no place for {name}")
        page = before + begin + "".join(f"{line}\n" for line in make()) + end + after
    return page


def main() -> None:
    """Write the pages with their parts made anew."""
    for name, parts in (("unpd.8", PARTS), ("unpd.toml.5", TOML_PARTS)):
        page = PAGES / name
        page.write_text(renewed(page.read_text(), parts))


if __name__ == "__main__":
    main()
