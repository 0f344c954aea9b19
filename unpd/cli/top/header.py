"""The lines at the top of ``unpd top``: what the daemon does, its faults, sums over its
services, and what else the status page says at its top.

Called by the screen and by the plain text; calls :mod:`unpd.cli.top.answers`, and
:mod:`unpd.cli.status_text` for what both say. Pure. Raises nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from unpd.cli.output import printable
from unpd.cli.status_text import facts_line, live_change_line, retired_line
from unpd.cli.tables import Values
from unpd.cli.top import figures
from unpd.cli.top.answers import Answers, total
from unpd.cli.top.columns import Mark
from unpd.names import UNREADY_PHASES, MasterPhase
from unpd.wording import rate_text, size_text

MOST_NAMED = 4
"""How many faults, and how many live changes, the header names; more would leave no
room for the tables.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the header."""

    text: str
    mark: Mark = Mark.NONE


def lines(answers: Answers) -> list[Line]:
    """The header."""
    status = answers.last.status
    every = [*_daemon(status), *_faults(status), _sums(answers), Line(facts_line(status))]
    return [Line(printable(line.text), line.mark) for line in every]


def _daemon(status: Values) -> Iterator[Line]:
    word, mark = _state(status)
    yield Line(
        f"unpd {status.get('version')}: {word}, generation {status.get('generation')},"
        f" up {figures.span(status.get('uptime_s'))}, pid {status.get('pid')}",
        mark,
    )
    reload = status.get("last_reload") or {}
    if reload.get("reason"):
        first = str(reload["reason"]).partition("\n")[0]
        yield Line(f"last reload: refused at {reload.get('ended_at')}: {first}", Mark.WARNING)
    changes = status.get("live_changes", [])
    for change in changes[:MOST_NAMED]:
        yield Line(live_change_line(change), Mark.WARNING)
    if len(changes) > MOST_NAMED:
        yield Line(f"live change, not saved: and {len(changes) - MOST_NAMED} more", Mark.WARNING)
    for retired in status.get("retired", []):
        yield Line(retired_line(retired))


def _state(status: Values) -> tuple[str, Mark]:
    """What the daemon does for clients, then what it is doing itself."""
    phase, ready = status.get("phase"), status.get("ready")
    if phase in UNREADY_PHASES:
        return str(phase), Mark.WARNING
    word = "ready" if ready else "not ready"
    mark = Mark.BAD if not ready else Mark.WARNING if status.get("degraded") else Mark.GOOD
    if status.get("degraded"):
        word += ", degraded"
    return (word if phase == MasterPhase.RUNNING else f"{word}, reloading ({phase})"), mark


def _faults(status: Values) -> Iterator[Line]:
    faults = status.get("degraded", [])
    for fault in faults[:MOST_NAMED]:
        yield Line(f"degraded: {fault.get('text')}", Mark.BAD)
    if len(faults) > MOST_NAMED:
        yield Line(f"degraded: and {len(faults) - MOST_NAMED} more", Mark.BAD)


def _sums(answers: Answers) -> Line:
    """Sums over all services. What no service tells is left out."""
    services = answers.services()

    def rates(name: str) -> float | None:
        return total(pair.rate(name) for pair in services)

    def numbers(name: str) -> float | None:
        return total(pair.number(name) for pair in services)

    parts = [
        f"{figures.count(numbers('active'))} open",
        f"{rate_text(rates('accepted'))} accepted/s",
        f"{rate_text(rates('refused'))} refused/s",
    ]
    if numbers("would_refuse"):
        parts.append(f"{rate_text(rates('would_refuse'))} would refuse/s")
    parts.append(f"{rate_text(rates('datagrams_received'))} datagrams/s")
    if numbers("received_bytes") is not None:
        parts.append(f"{size_text(rates('received_bytes'))} in/s")
        parts.append(f"{size_text(rates('sent_bytes'))} out/s")
    return Line(f"connections: {', '.join(parts)}")
