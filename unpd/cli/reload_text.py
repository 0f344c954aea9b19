"""The text that ``unpd reload`` prints for people: what the reload has changed, and
what the daemon logged meanwhile.

Called by the commands with the answer of the daemon. Pure. Raises nothing. The text
has at most MAX_LINES lines about keys, as many about pools, MAX_LOG_LINES of the log,
and some more.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unpd.cli.tables import Values
from unpd.control.answer_fields import SCHEMA, mismatch
from unpd.control.reload_fields import CHANGES, RELOADED
from unpd.names import ReloadResult, kind_words
from unpd.wording import counted

MAX_LINES = 12
MAX_LOG_LINES = 40
REFUSED = "reload.refused"
"""The event whose line has the reason of a refusal."""
NAMED = 8
"""How many names or addresses a line has at most."""


def as_text(answer: Values, *, with_log: bool = False) -> str:
    """Return what was changed: the keys, then what became of each pool, then the
    services and the listeners that came or went; then the result with the generation,
    and the log. A daemon of another version may tell the result only.
    """
    result = f"reloaded: generation {answer.get('generation', 'unknown')}"
    changes: Any = answer.get("changes")
    if mismatch(changes, CHANGES):
        return result
    log = log_lines(answer) if with_log else ()
    changed = [*key_lines(changes["keys"]), *pool_lines(changes["pools"]), *_others(changes)]
    return "\n".join([*changed, result, *log])


def key_lines(keys: Sequence[Values], *, would: str = "") -> Iterator[str]:
    """Yield the first keys with both values, and how many more there are. ``would``:
    what stands before the verb of a change that was not made.
    """
    verb = f"{would}change" if would else "changed"
    for one in keys[:MAX_LINES]:
        if one["before"] == one["after"]:
            yield f"{one['key']}: {one['after'] or 'another value'} {verb}"
        else:
            yield f"{one['key']}: {one['before'] or 'nothing'} -> {one['after'] or 'nothing'}"
    if (more := len(keys) - MAX_LINES) > 0:
        yield f"and {more} more keys: see --json"


def as_fields(answer: Mapping[str, Any]) -> Values:
    """The answer of a daemon that has reloaded, or has refused to, as
    :data:`unpd.control.reload_fields.RELOADED` has it.
    """
    succeeded = answer.get("ok") is True
    result = ReloadResult.SUCCESS if succeeded else ReloadResult.REFUSED
    told = {
        "schema": SCHEMA,
        "result": str(result),
        "reason": "" if succeeded else str(answer.get("reason", "")),
        "log": _log(answer),
        "log_left_out": answer.get("log_left_out", 0),
    }
    return {field.name: told.get(field.name, answer.get(field.name)) for field in RELOADED}


def log_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """The lines that the daemon logged, the last ones of many. The reason of a refusal
    is printed anyway.
    """
    lines = [line for line in _log(answer) if f" {REFUSED} " not in line]
    left_out = answer.get("log_left_out", 0)
    if not lines:
        return
    yield "log:"
    hidden = len(lines) - MAX_LOG_LINES
    if isinstance(left_out, int) and left_out + max(0, hidden) > 0:
        yield f"  ({left_out + max(0, hidden)} lines are left out)"
    yield from (f"  {line}" for line in lines[max(0, hidden) :])


def _log(answer: Mapping[str, Any]) -> list[str]:
    lines = answer.get("log")
    return list(map(str, lines)) if isinstance(lines, list) else []


def pool_lines(pools: Sequence[Values]) -> Iterator[str]:
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
        size = counted(pool["children"], "worker")
    else:
        size = counted(pool["children"], "process")
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
            f"{verb} {listed(changes[f'{what}_{verb}'])}"
            for verb in (came, went)
            if changes[f"{what}_{verb}"]
        ]
        if parts:
            yield f"{what}: {'; '.join(parts)}"


def listed(names: Sequence[object]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(map(str, names[:NAMED]))
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
