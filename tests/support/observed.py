"""What a daemon shows of itself, parsed: log lines, samples of a scrape, addresses."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import Address

ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log."""

    name: str
    level: str
    fields: Mapping[str, Any]

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Whether each of ``fields`` is there with that value."""
        return all(self.fields.get(name) == value for name, value in fields.items())


def parse_log(text: str) -> list[Event]:
    """The events in the complete lines of ``text``; a line that is no JSON object (a
    trace, a message before the log is open) is none.
    """
    events = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if isinstance(row, dict) and "event" in row:
                events.append(Event(row.pop("event"), row.pop("level", ""), row))
    return events


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse_samples(text: str) -> Samples:
    """Prometheus' text format as a dictionary by name and set of labels."""
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
    """The sum of all samples of ``name`` that have ``labels`` among theirs.

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
    """An address of the log as clients use it: the loopback stands for a wildcard."""
    if text.startswith("unix://"):
        return text.removeprefix("unix://")
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    host = host.strip("[]")
    return ANY_HOST.get(host, host), int(port)
