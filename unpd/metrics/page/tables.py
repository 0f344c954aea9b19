"""The tables of the status page as HTML: services, children and events.

Called by :mod:`unpd.metrics.page.html` with a snapshot. Pure; raises nothing. Every
text goes through :func:`html.escape`, because names and reasons are not ours.

A row of a child or of an event has a key, by which the script finds it again: focus and
selection stay in it. Rows and cells have no end tags, as HTML allows (the standard of
WHATWG, section 13.1.2.4): these are a seventh of a page with 64 services.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from unpd.metrics.page.snapshot import SESSIONS_ONLY
from unpd.metrics.page.wording import (
    child_name,
    percent,
    span,
    time_of_day,
)
from unpd.names import MISSING, ChildPhase
from unpd.wording import NOTHING, ago_text, count_text, end_text, rate_text, reasons_text, size_text

Values = Mapping[str, Any]
EVENTS_SHOWN = 20
CHILDREN_SHOWN = 36
ADDRESSES_SHOWN = 1
"""How many addresses of a service are shown."""
NEAR = 0.9
"""A maximum of so much of its limit stands out."""
LONGEST_TEXT = 300
"""How many characters of an event are shown."""
_WELL = (ChildPhase.READY, ChildPhase.STARTING)
_CALM = (*_WELL, ChildPhase.DRAINING, SESSIONS_ONLY)
"""The phases that are no trouble."""


def _table(name: str, title: str, head: str, rows: Iterable[str], note: str) -> str:
    """A section with one table, which scrolls in its own box on a narrow screen."""
    return (
        f'<section>\n<h2 id="h-{name}">{title}</h2>\n'
        f'<div class="scroll" role="region" aria-labelledby="h-{name}" tabindex="0">'
        f'<table id="{name}" aria-labelledby="h-{name}"><caption>{note}</caption>'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>\n</section>"
    )


def _cells(*texts: str) -> str:
    return "".join(f"<td>{escape(text)}" for text in texts)


def _heads(names: Iterable[str]) -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in names)


def _row(key: object, cells: str) -> str:
    return f'<tr data-key="{escape(str(key))}">{cells}'


def services(found: Sequence[Values]) -> str:
    """The table of services: now, maximum and limit side by side. What rules would
    refuse has a column if they only observe any.
    """
    observes = any(service["would_refuse"] for service in found)
    groups = (
        ("Connections", ("now", "max", "limit")),
        ("Accept queue", ("now", "max", "limit")),
        ("Accepted", ("per s", "total")),
        ("Refused", ("per s", "total")),
        *((("Would refuse", ("total",)),) if observes else ()),
        ("Datagrams", ("per s", "total")),
        ("Bytes per second", ("in", "out")),
        ("Kernel", ("drops",)),
    )
    head = (
        '<tr><th rowspan="2" scope="col">Service</th>'
        + "".join(
            f'<th colspan="{len(names)}" scope="colgroup">{name}</th>' for name, names in groups
        )
        + "</tr><tr>"
        + _heads(name for _, names in groups for name in names)
        + "</tr>"
    )
    note = "Max is the highest sample of the last ten minutes, one a second. A dash: no limit."
    rows = (_service(service, observes=observes) for service in found)
    return _table("services", "Services", head, rows, note)


def _service(service: Values, *, observes: bool) -> str:
    drops = [each["drops"] for each in service["listeners"] if each["drops"] is not None]
    return (
        f'<tr><th scope="row">{_service_name(service)}'
        + _limited(service, "active", "limit")
        + _limited(service, "queued", "queued_limit")
        + _cells(
            rate_text(service["accepted_per_s"]),
            count_text(service["accepted"]),
            rate_text(service["refused_per_s"]),
        )
        + _refused(service)
        + _cells(
            *([count_text(service["would_refuse"])] if observes else []),
            rate_text(service["datagrams_per_s"]),
            count_text(service["datagrams_received"]),
            size_text(service["received_bytes_per_s"]),
            size_text(service["sent_bytes_per_s"]),
            count_text(sum(drops)) if drops else NOTHING,
        )
    )


def _refused(service: Values) -> str:
    """How many clients were refused, and why; of several reasons the most frequent."""
    line = reasons_text(service["refused_by_reason"])
    return _cells(count_text(service["refused"])) + _small([line] if line else [])


def _small(lines: Iterable[str]) -> str:
    return "".join(f"<small>{escape(line)}</small>" for line in lines)


def _service_name(service: Values) -> str:
    troubles = [service["halted"] or "", "" if service["reachable"] else "unreachable"]
    marks = "".join(f' <strong class="ill">{each}</strong>' for each in troubles if each)
    addresses = [each["address"] for each in service["listeners"]]
    lines = addresses[:ADDRESSES_SHOWN]
    if more := len(addresses) - len(lines):
        lines.append(f"and {more} more")
    return escape(service["name"]) + marks + _small(lines)


def _limited(service: Values, name: str, limit_name: str) -> str:
    """Three cells: now, maximum and limit. A maximum near the limit stands out."""
    now, highest, limit = service[name], service[f"{name}_max_10min"], service[limit_name]
    if limit and highest >= limit * NEAR:
        strong = f'<td><strong class="ill">{count_text(highest)}</strong>'
        return f"{_cells(count_text(now))}{strong}{_cells(count_text(limit))}"
    return _cells(count_text(now), count_text(highest), count_text(limit))


# --- children -------------------------------------------------------------------------


def children(found: Sequence[Values], now_text: str) -> str:
    """The table of children. Of very many it has those that deserve a look."""
    names = ("Child", "State", "Pid", "Generation", "Age", "Connections", "Accepted", "CPU")
    head = f"<tr>{_heads((*names, 'Memory', 'Heartbeat', 'Last end in this slot (UTC)'))}</tr>"
    shown = _deserving(found)
    note = "The processes that the main process started."
    if more := len(found) - len(shown):
        note += f" {count_text(more)} more are not shown: see unpd status."
    rows = (_child(each, now_text) for each in shown)
    return _table("children", "Children", head, rows, note)


def _deserving(found: Sequence[Values]) -> list[Values]:
    """At most CHILDREN_SHOWN of the children, in their order: first those that are not
    well, then those whose slots had an end last.
    """
    by_end = sorted(found, key=lambda one: (one["last_end"] or {"at": ""})["at"], reverse=True)
    chosen = sorted(by_end, key=lambda one: _rank(one["phase"]))[:CHILDREN_SHOWN]
    places = {id(one) for one in chosen}
    return [one for one in found if id(one) in places]


def _rank(phase: str) -> int:
    if phase not in _CALM:
        return 0
    return 2 if phase in _WELL else 1


def _child(child: Values, now_text: str) -> str:
    place = child["service"] or f"{child['pool']}/{child['index']}"
    phase = child["phase"]
    words = phase.replace("_", " ")
    state = words if phase in _CALM else f'<strong class="ill">{escape(words)}</strong>'
    end, beat = child["last_end"], child["heartbeat_age_s"]
    ended = end_text(end, time_of_day(end["at"], now_text)) if end else NOTHING
    key = f"{child['kind']} {place}" if phase == MISSING else child["birth"]
    return _row(
        key,
        f'<th scope="row">{escape(child_name(child["kind"], place))}<td>{state}'
        + _cells(
            NOTHING if child["pid"] is None else str(child["pid"]),
            count_text(child["generation"]),
            span(child["age_s"]),
            count_text(child["connections"]),
            count_text(child["accepted"]),
            percent(child["cpu_percent"]),
            size_text(child["memory_bytes"]),
            ago_text(beat),
            ended,
        ),
    )


# --- events ---------------------------------------------------------------------------


def events(found: Sequence[Values], now_text: str) -> str:
    """The table of the last events."""
    head = f"<tr>{_heads(('Time (UTC)', 'Event', 'Details'))}</tr>"
    rows = [
        _row(
            each["number"],
            f"<td><time>{time_of_day(each['time'], now_text)}</time>"
            + _cells(each["event"], shortened(each["text"])),
        )
        for each in found[:EVENTS_SHOWN]
    ]
    note = "Warnings, errors, and what changed the daemon; the newest first."
    return _table("events", "Events", head, rows, note)


def shortened(text: str) -> str:
    """A text of an event as the page shows it: the whole of it is in the log."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
