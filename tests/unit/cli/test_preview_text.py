"""What ``unpd reload --dry-run`` shows to people."""

from typing import Any

import pytest

from unpd.cli.preview_text import as_text
from unpd.cli.reload_text import MAX_LINES
from unpd.control.answer_fields import mismatch
from unpd.control.reload_fields import PREVIEW

NOTHING: dict[str, Any] = {
    **{field.name: [] for field in PREVIEW},
    "schema": 1,
    "result": "success",
    "reason": "",
    "generation": 3,
}
KEY = {"key": "daemon.grace_s", "before": "10", "after": "20"}
POOL = {
    "kind": "worker",
    "pool": "default",
    "outcome": "respawned",
    "children": 2,
    "generation": 4,
}
CHILD = {
    "kind": "worker",
    "pool": "default",
    "index": 1,
    "service": None,
    "pid": 77,
    "connections": 3,
    "drain_s": 60.0,
}


def lines(**fields: Any) -> list[str]:
    """The lines for a preview with these fields."""
    preview = {**NOTHING, **fields}
    assert mismatch(preview, PREVIEW) == ""
    return as_text(preview).split("\n")


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ["a reload would change nothing"]),
        ({"warnings": ["a"]}, ["warning: a", "a reload would change nothing"]),
        ({"pools": [{**POOL, "outcome": "unchanged"}]}, ["a reload would change nothing"]),
        ({"keys": [KEY]}, ["daemon.grace_s: 10 -> 20"]),
        ({"keys": [{**KEY, "before": ""}]}, ["daemon.grace_s: nothing -> 20"]),
        (
            {"keys": [{**KEY, "before": "(x)", "after": "(x)"}]},
            ["daemon.grace_s: (x) would change"],
        ),
        (
            {"services_added": ["a", "b"], "services_changed": ["c"], "listeners_closed": ["d"]},
            ["services: a, b would come; c would change", "listeners: d would close"],
        ),
        ({"pools": [POOL]}, ["would be: pool default: respawned with 2 workers, generation 4"]),
        (
            {"replaced": [CHILD]},
            [
                "1 process would be replaced or end, 3 connections:",
                "  worker default/1, pid 77, 3 connections, for 1 min",
            ],
        ),
        (
            {"replaced": [{**CHILD, "drain_s": None, "service": "one", "connections": 1}]},
            [
                "1 process would be replaced or end, 1 connection:",
                "  worker one, pid 77, 1 connection, for as long as they last",
            ],
        ),
        (
            {"replaced": [{**CHILD, "pid": None, "connections": 0}]},
            [
                "1 process would be replaced or end, 0 connections:",
                "  worker default/1, pid unknown, 0 connections",
            ],
        ),
    ],
)
def test_a_difference_has_a_line(fields: dict[str, Any], shown: list[str]) -> None:
    """In the words of the configuration; what stays has none."""
    assert lines(**fields) == shown


def test_the_text_is_bounded() -> None:
    """Of many keys and processes, the rest is counted."""
    found = lines(keys=[KEY] * 30, replaced=[CHILD] * 40)
    assert len(found) == 2 * (MAX_LINES + 1) + 1
    assert found[MAX_LINES] == "and 18 more keys: see --json"
    assert found[-1] == "and 28 more processes: see --json"
