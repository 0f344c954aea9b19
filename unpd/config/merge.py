"""Merges the tables of the main file and its drop-ins key by key; the later file wins.

Files may share every table except those of services. A service belongs to one file as
a whole: a service in two files is an error, because a reader of one file would miss
half of it.

Called by unpd.config.load, before the build. Calls nothing but the records of
unpd.config. Raises nothing: a service in two files becomes a finding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from unpd.config.findings import Findings
from unpd.config.lines import KeyPath
from unpd.config.origins import Origins
from unpd.config.source import Source

Table = Mapping[str, Any]

SERVICES = "services"
VALUE_DEPTHS: Mapping[str, int] = {"pools": 3, SERVICES: 2}
"""How many keys long the path is of what one file sets as a whole: pools.NAME.KEY,
services.NAME.
"""

VALUE_DEPTH = 2
"""The same in every other section: SECTION.KEY."""


def merge(
    files: Sequence[tuple[Source, Table]], findings: Findings
) -> tuple[dict[str, Any], Origins]:
    """Merge ``files``, in this order; return one table and the origins of its keys.

    A service in several files becomes an error in ``findings``.
    """
    origins = Origins([source for source, _ in files])
    merged: dict[str, Any] = {}
    for rank, (_, table) in enumerate(files):
        _refuse_duplicate_services(merged, table, origins, findings)
        _merge_into((), merged, table, rank, origins)
    return merged, origins


def _refuse_duplicate_services(
    merged: Table, table: Table, origins: Origins, findings: Findings
) -> None:
    earlier, later = merged.get(SERVICES), table.get(SERVICES)
    if isinstance(earlier, dict) and isinstance(later, dict):
        for name in later:
            if name in earlier:
                path = (SERVICES, name)
                findings.error(
                    path,
                    f"this service is in {origins.place(path)} too, but it may be in one file"
                    " only: change it there",
                )


def _merge_into(
    path: KeyPath, merged: dict[str, Any], table: Table, rank: int, origins: Origins
) -> None:
    for key, value in table.items():
        here = (*path, key)
        if not isinstance(value, dict) or len(here) >= VALUE_DEPTHS.get(str(here[0]), VALUE_DEPTH):
            merged[key] = value
            origins.note_value(here, rank)
            continue
        # If an earlier file has a value in place of this table, that value stays: the
        # build then refuses it.
        inner = merged.setdefault(key, {})
        if isinstance(inner, dict):
            origins.note_table(here, rank)
            _merge_into(here, inner, value, rank, origins)
