"""The text that ``unpd reload`` prints for people: what the reload has changed.

Called by unpd.cli.verbs with the answer of the daemon. Pure. Raises nothing. The text
has at most MAX_LINES lines about pools, and two more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from unpd.control.status_fields import CHANGES, mismatch
from unpd.names import kind_words

MAX_LINES = 12
NAMED = 8
"""How many names or addresses a line has at most."""

Values = dict[str, Any]


def as_text(answer: Values) -> str:
    """Return the generation, then what became of each pool, then the services and the
    listeners that came or went. A daemon of another version may tell the first only.
    """
    first = f"reloaded: generation {answer.get('generation', 'unknown')}"
    changes: Any = answer.get("changes")
    if mismatch(changes, CHANGES):
        return first
    return "\n".join([first, *_pools(changes["pools"]), *_others(changes)])


def _pools(pools: Sequence[Values]) -> Iterator[str]:
    """Yield the pools that changed before the others."""
    changed_first = sorted(pools, key=lambda pool: pool["outcome"] == "unchanged")
    for pool in changed_first[:MAX_LINES]:
        yield f"{_name(pool)}: {_outcome(pool)}"
    if more := changed_first[MAX_LINES:]:
        unchanged = sum(pool["outcome"] == "unchanged" for pool in more)
        yield f"and {len(more)} more pools, {unchanged} of them unchanged: see unpd status"


def _name(pool: Values) -> str:
    kind, name = pool["kind"], pool["pool"]
    if kind == "worker":
        return f"pool {name}"
    return str(kind) if kind == name else f"{kind_words(kind)} of pool {name}"


def _outcome(pool: Values) -> str:
    if pool["kind"] == "worker":
        size = f"{pool['children']} worker{'s' * (pool['children'] != 1)}"
    else:
        size = f"{pool['children']} process{'es' * (pool['children'] != 1)}"
    match pool["outcome"]:
        case "unchanged":
            return "unchanged"
        case "removed":
            return "removed"
        case "resized":
            return f"resized to {size}, the others unchanged"
        case outcome:
            return f"{outcome} with {size}, generation {pool['generation']}"


def _others(changes: Values) -> Iterator[str]:
    for what, came, went in (("services", "added", "removed"), ("listeners", "opened", "closed")):
        parts = [
            f"{verb} {_listed(changes[f'{what}_{verb}'])}"
            for verb in (came, went)
            if changes[f"{what}_{verb}"]
        ]
        if parts:
            yield f"{what}: {'; '.join(parts)}"


def _listed(names: Sequence[object]) -> str:
    shown = ", ".join(map(str, names[:NAMED]))
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
