"""Makes the parts of the manual page unpd(8) that repeat a table of the program: its
log events and its metrics. Run by ``make manual``; a test compares the page with it.

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

from unpd.log_events import EVENTS, LogEvent
from unpd.metrics.catalog import METRICS

PAGE = Path(__file__).parent / "man" / "unpd.8"
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


PARTS: Mapping[str, Callable[[], Iterator[str]]] = MappingProxyType(
    {"the log events": log_events, "the metrics": metrics}
)
"""What makes each part, by the name in its comments."""


def renewed(page: str) -> str:
    """The text of the page with each of its parts made anew."""
    for name, make in PARTS.items():
        begin, end = f'.\\" Made by make manual: {name}.\n', f'.\\" End of {name}.\n'
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"the page has no place for {name}")
        page = before + begin + "".join(f"{line}\n" for line in make()) + end + after
    return page


def main() -> None:
    """Write the page with its parts made anew."""
    PAGE.write_text(renewed(PAGE.read_text()))


if __name__ == "__main__":
    main()
