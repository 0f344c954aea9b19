"""Joins the tables of the main file and its drop-ins: key by key, where a later file
wins. A service belongs to one file as a whole.

``[daemon]``, ``[log]``, ``[metrics]`` and each ``[pools.NAME]`` may be spread over
files. A service in two files is an error, because half of it would be where nobody
looks for it.
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
"""How many keys lead to what one file says as a whole: pools.NAME.KEY, services.NAME.
"""

VALUE_DEPTH = 2
"""As above, in every other section: SECTION.KEY."""


def merge(
    files: Sequence[tuple[Source, Table]], findings: Findings
) -> tuple[dict[str, Any], Origins]:
    """The one table that ``files`` are together, and where its keys come from. A
    service that stands in several goes to ``findings``.
    """
    origins = Origins([source for source, _ in files])
    merged: dict[str, Any] = {}
    for rank, (_, table) in enumerate(files):
        _refuse_twice(merged, table, origins, findings)
        _join((), merged, table, rank, origins)
    return merged, origins


def _refuse_twice(merged: Table, table: Table, origins: Origins, findings: Findings) -> None:
    before, here = merged.get(SERVICES), table.get(SERVICES)
    if isinstance(before, dict) and isinstance(here, dict):
        for name in here:
            if name in before:
                path = (SERVICES, name)
                findings.error(
                    path,
                    f"this service stands in {origins.place(path)} too: it belongs in one file"
                    " only; change it there",
                )


def _join(path: KeyPath, into: dict[str, Any], table: Table, rank: int, origins: Origins) -> None:
    for key, value in table.items():
        here = (*path, key)
        if not isinstance(value, dict) or len(here) >= VALUE_DEPTHS.get(str(here[0]), VALUE_DEPTH):
            into[key] = value
            origins.of_value(here, rank)
        elif isinstance(
            joined := into.setdefault(key, {}), dict
        ):  # what an earlier file wrote in place of a table stays, to be refused
            origins.of_table(here, rank)
            _join(here, joined, value, rank, origins)
