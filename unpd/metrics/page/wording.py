"""The words of the status page: times and events as people read them. Sizes, rates and
counts are those of :mod:`unpd.wording`.

Called by the other modules of the page. Pure; raises nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from unpd.names import ChildKind
from unpd.wording import NOTHING, counted, span_text

_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "master.started": "unpd {version} started as pid {pid}, user {user}",
        "master.ready": "every service has a ready worker",
        "master.lame": "unpd serves on for {lame_duck_s} s and then stops",
        "master.stopping": "unpd stops{at_once}",
        "child.reaped": "{child}, pid {pid}: {ended}, {lost} lost",
        "reload.proving": "the new configuration is valid, generation {generation} starts",
        "reload.succeeded": "generation {generation} serves",
        "reload.refused": "{reason}",
        "daemon.degraded": "{text}",
        "daemon.recovered": "no more: {text}",
        "service.halted": "service {service} is {halted}{until}",
        "service.resumed": "service {service} takes clients again, it was {was}: {reason}",
        "log.level_changed": "the level of the log is {threshold}{until}, not {before}: {reason}",
        "pool.scaled": "pool {pool} has {workers} workers, it had {before}",
    }
)
"""How events are worded. Every other one has its fields, in their order."""
_KIND_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "failed": "{child} cannot serve: {reason}",
        "died": "{child}: {ended}, the next one starts {respawn}",
        "hung": "{child} gives no sign of life",
        "drain_timed_out": "{child} did not end in time and is killed",
    }
)
"""The same of the events that each kind of child has."""


def event_text(event: str, fields: Mapping[str, Any]) -> str:
    """An event as a sentence without its full stop."""
    begin, _, what = event.partition(".")
    kind = str(fields.get("kind", begin))
    place = fields.get("slot") or fields.get("service")
    place = place or f"{fields.get('pool', '')}/{fields.get('index', '')}"
    words = {
        **fields,
        "child": child_name(kind, str(place)),
        "lost": counted(fields.get("connections_lost", 0), "connection"),
        "respawn": _respawn(fields.get("respawn_in_s")),
        "until": _until(fields.get("until")),
        "at_once": " at once" if fields.get("quick") else "",
    }
    template = _TEXTS.get(event) or (_KIND_TEXTS.get(what) if "birth" in fields else None)
    try:
        return template.format(**words) if template else _listed(fields)
    except KeyError:  # a field that is missing
        return _listed(fields)


def _until(moment_text: Any) -> str:
    return f" until {moment_text}" if moment_text else ""


def _respawn(seconds: Any) -> str:
    return "at once" if not seconds or seconds < 0.05 else f"in {seconds:.1f} s"


def child_name(kind: str, place: str) -> str:
    """A child by its kind and its place. There is one exporter."""
    return kind if kind == ChildKind.EXPORTER else f"{kind} {place}"


def _listed(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value not in ("", None))


def short_time(seconds: float | None) -> str:
    """A time as a network has it, in microseconds, milliseconds or seconds."""
    if seconds is None:
        return NOTHING
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:
            shown = seconds * factor
            return f"{shown:.{0 if shown >= 9.95 or unit == 'µs' else 1}f} {unit}"
    return f"{seconds:.1f} s"


def span(seconds: float | None) -> str:
    """An age, in two units."""
    return NOTHING if seconds is None else span_text(seconds)


def percent(number: float | None) -> str:
    """A share of one processor."""
    return NOTHING if number is None else f"{number:.0f} %"


def time_of_day(moment_text: str, now_text: str) -> str:
    """A moment as a person reads it at another one: with its date unless that is
    today's.
    """
    date, _, of_day = moment_text.removesuffix("Z").partition("T")
    return of_day if date == now_text[:10] else f"{date} {of_day}"
