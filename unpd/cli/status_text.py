"""The text that ``unpd status`` prints for people.

Called by unpd.cli.verbs with a status that has every field of
:data:`unpd.control.status_fields.STATUS`. Pure. Raises nothing.
"""

from collections.abc import Iterator
from typing import Any

Values = dict[str, Any]


def as_text(status: Values) -> str:
    """Return the status: the daemon first, then services, then children."""
    return "\n".join(
        [
            *_daemon(status),
            *(line for service in status["services"] for line in _service(service)),
            *map(_child, status["children"]),
        ]
    )


def _daemon(status: Values) -> Iterator[str]:
    yield (
        f"unpd {status['version']}: {_state(status)}, pid {status['pid']},"
        f" generation {status['generation']}, up {status['uptime_s']:.0f} s"
    )
    yield f"configuration: {status['config'] or 'the built-in default'}"
    yield f"metrics: {status['metrics'] or 'off'}"
    if status["last_reload"]:
        yield _reload(status["last_reload"])
    for fault in status["degraded"]:
        yield f"degraded: {fault['text']}"
    yield from map(_live_change, status["live_changes"])
    for retired in status["retired"]:
        yield (
            f"retired from generation {retired['generation']}:"
            f" {_count(retired['children'], 'child')},"
            f" {_count(retired['connections'], 'connection')}"
        )


def _state(status: Values) -> str:
    """Return what the daemon does for clients, then what it is doing itself."""
    phase = status["phase"]
    if phase in ("starting", "stopping"):
        return str(phase)
    serves = "ready" if status["ready"] else "not ready"
    return serves if phase == "running" else f"{serves}, reloading ({phase})"


def _reload(reload: Values) -> str:
    at = f"at {reload['ended_at']}"
    if not reload["reason"]:
        return f"last reload: succeeded {at}"
    first, *more = reload["reason"].splitlines()
    rest = f" (and {len(more)} more)" if more else ""
    return f"last reload: refused {at}: {first}{rest}"


def _live_change(change: Values) -> str:
    value, subject = change["value"], change["subject"]
    what = {
        "halt": f"service {subject} is {value}",
        "log_level": f"the level of the log is {value}",
        "scale": f"pool {subject} has {value} workers",
    }.get(change["change"], f"{change['change']} {subject} {value}")
    until = f" until {change['until']}" if change["until"] else ""
    return f"live change, not saved: {what}{until}"


def _count(number: int, word: str) -> str:
    plural = "children" if word == "child" else f"{word}s"
    return f"{number} {word if number == 1 else plural}"


def _service(service: Values) -> Iterator[str]:
    received, sent = service["datagrams_received"], service["datagrams_sent"]
    datagrams = f", {_count(received, 'datagram')}, {sent} answered" if received else ""
    refused = f", {service['refused']} refused" if service["refused"] else ""
    if service["would_refuse"]:
        refused += f", {service['would_refuse']} would be refused"
    halted = f"{service['halted']}, " if service["halted"] else ""
    yield (
        f"service {service['name']}: {halted}{service['active']} active,"
        f" {service['accepted']} accepted{refused}{datagrams}"
    )
    for listener in service["listeners"]:
        queue = listener["queue"]
        length = f", accept queue {queue['length']} of {queue['limit']}" if queue else ""
        yield f"  {listener['address']}{length}"


def _child(child: Values) -> str:
    place = "" if child["kind"] == "exporter" else f" {child['pool']}/{child['index']}"
    if child["service"] is not None:
        place = f" {child['service']}"
    return (
        f"{child['kind']}{place}: {child['phase']}, pid {child['pid']},"
        f" generation {child['generation']}, {child['age_s']:.0f} s old"
    )
