"""The text that ``unpd reload --dry-run`` prints: what a reload would change.

Called by the commands with a preview that has every field of
:data:`unpd.control.reload_fields.PREVIEW`. Pure. Raises nothing. The text is bounded:
MAX_LINES lines about keys, about pools and about processes, and a few more.
"""

from collections.abc import Iterator, Sequence

from unpd.cli.reload_text import MAX_LINES, key_lines, listed, pool_lines
from unpd.cli.tables import Values
from unpd.names import kind_words
from unpd.wording import counted, span_text

_CHANGES = (("added", "would come"), ("removed", "would go"), ("changed", "would change"))
_LISTENERS = (
    ("opened", "would open"),
    ("closed", "would close"),
    ("changed", "would get other options"),
)


def as_text(preview: Values) -> str:
    """Return the warnings, then the keys, services, listeners and pools that differ,
    and the processes that would be replaced.
    """
    differs = [
        *key_lines(preview["keys"], would="would "),
        *_names("services", preview, _CHANGES),
        *_names("listeners", preview, _LISTENERS),
        *_pools(preview["pools"]),
        *_replaced(preview["replaced"]),
    ]
    warnings = (f"warning: {text}" for text in preview["warnings"])
    return "\n".join([*warnings, *(differs or ["a reload would change nothing"])])


def _bounded(what: str, lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MAX_LINES]
    if (more := len(lines) - MAX_LINES) > 0:
        yield f"and {more} more {what}: see --json"


def _names(what: str, preview: Values, verbs: Sequence[tuple[str, str]]) -> Iterator[str]:
    parts = [
        f"{listed(preview[f'{what}_{field}'])} {words}"
        for field, words in verbs
        if preview[f"{what}_{field}"]
    ]
    if parts:
        yield f"{what}: {'; '.join(parts)}"


def _pools(pools: Sequence[Values]) -> Iterator[str]:
    """The pools that would change: of the others nothing is to be told."""
    changed = [pool for pool in pools if pool["outcome"] != "unchanged"]
    return (f"would be: {line}" for line in pool_lines(changed))


def _replaced(children: Sequence[Values]) -> Iterator[str]:
    if not children:
        return
    total = counted(sum(child["connections"] for child in children), "connection")
    yield f"{counted(len(children), 'process')} would be replaced or end, {total}:"
    lines = [f"  {_child(child)}" for child in children]
    yield from _bounded("processes", lines)


def _child(child: Values) -> str:
    slot = child["service"] or f"{child['pool']}/{child['index']}"
    until = "as long as they last" if child["drain_s"] is None else span_text(child["drain_s"])
    keeps = f", for {until}" if child["connections"] else ""
    return (
        f"{kind_words(child['kind'])} {slot}, pid {child['pid'] or 'unknown'},"
        f" {counted(child['connections'], 'connection')}{keeps}"
    )
