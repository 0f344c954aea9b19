"""Parses what a daemon shows: log lines, samples of a scrape, addresses.
:mod:`tests.support.daemon` and tests of the log use it.
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import Address
from unpd.log_events.row import CHILD_FIELDS, CONNECTIONS
from unpd.log_events.table import EVENTS

UNKNOWN_PEER = "unknown"
"""How a client is shown that is neither of TCP nor of a UNIX socket."""
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log."""

    name: str
    level: str
    fields: Mapping[str, Any]

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether every one of ``fields`` is present with that value."""
        return all(self.fields.get(name) == value for name, value in fields.items())


def parse_log(text: str) -> list[Event]:
    """Return the events in the complete lines of ``text``. Lines that are no JSON
    object (a traceback, a message before the log is open) are ignored.
    """
    events = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and "event" in row:
                events.append(Event(row.pop("event"), row.pop("level", ""), row))
    return events


def known(name: str) -> str:
    """Return the name of a log event. AssertionError if no event has it: a test that
    expects no line of it could not fail.
    """
    assert name in EVENTS, f"no log event has the name {name}"
    return name


def contradiction(event: Event) -> str:
    """How the line contradicts the table of log events, or that it does not know its
    client, whose address accept(2) tells; "" if it agrees.
    """
    row = EVENTS.get(event.name)
    if row is None:
        return "the event is not in the table"
    levels = {row.level_of({**event.fields, CONNECTIONS: wanted}): None for wanted in (False, True)}
    if event.level not in levels:
        return f"the level is {' or '.join(levels)} in the table"
    base = {"time", *(CHILD_FIELDS if "role" in event.fields else ())}
    if unknown := event.fields.keys() - base - {*row.fields}:
        return f"the row has not {', '.join(sorted(unknown))}"
    if event.fields.get("peer") == UNKNOWN_PEER:
        return "the client is unknown"
    if missing := {*row.fields} - {*row.optional} - event.fields.keys():
        return f"the line lacks {', '.join(sorted(missing))}"
    return ""


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse_samples(text: str) -> Samples:
    """Parse Prometheus' text format into a dictionary by name and set of labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of all samples of ``name`` whose labels include ``labels``.

    KeyError if no sample has that name: a misspelt name is not a zero.
    """
    if not any(sample == name for sample, _ in samples):
        raise KeyError(name)
    return sum(
        value
        for (sample, own), value in samples.items()
        if sample == name and own >= frozenset(labels.items())
    )


def parse_address(text: str) -> Address:
    """Return an address of the log as clients use it. Loopback replaces a wildcard."""
    scheme, _, rest = text.partition("://")
    if scheme.startswith("unix"):
        return rest
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    return ANY_HOST.get(host, host), int(port)
