"""What ``unpd reload`` shows to people."""

from typing import Any

import pytest

from unpd.cli.reload_text import (
    MAX_LINES,
    MAX_LOG_LINES,
    NAMED,
    as_fields,
    as_text,
    log_lines,
)
from unpd.control.answer_fields import mismatch
from unpd.control.reload_fields import CHANGES, RELOADED


def pool(outcome: str, name: str = "default", kind: str = "worker", children: int = 2) -> Any:
    """One pool of generation 4."""
    return {
        "kind": kind,
        "pool": name,
        "outcome": outcome,
        "children": children,
        "generation": 4,
    }


def lines(*pools: Any, **changes: list[Any]) -> list[str]:
    """Return the lines for an answer of generation 4 with these changes."""
    nothing: dict[str, list[Any]] = {
        "keys": [],
        "services_added": [],
        "services_removed": [],
        "listeners_opened": [],
        "listeners_closed": [],
    }
    answer = {"generation": 4, "changes": {"pools": list(pools), **nothing, **changes}}
    return as_text(answer).split("\n")


def test_every_pool_has_a_line_in_plain_words() -> None:
    """The pools that changed come first; a kind without pools goes by its own name."""
    assert lines(
        pool("unchanged", "x"),
        pool("respawned"),
        pool("added", "new", children=1),
        pool("removed", "old", children=0),
        pool("resized", "web", children=3),
        pool("respawned", "exporter", "exporter", 1),
        pool("respawned", "slow", "dispatcher", 1),
        pool("respawned", "slow", "iterative", 1),
    ) == [
        "pool default: respawned with 2 workers, generation 4",
        "pool new: added with 1 worker, generation 4",
        "pool old: removed",
        "pool web: resized to 3 workers, the others unchanged",
        "exporter: respawned with 1 process, generation 4",
        "dispatcher of pool slow: respawned with 1 process, generation 4",
        "iterative worker of pool slow: respawned with 1 process, generation 4",
        "pool x: unchanged",
        "reloaded: generation 4",
    ]


def test_the_keys_that_changed_come_first() -> None:
    """With both values, where these can be shown; the result follows what it is of."""
    keys = [
        {"key": "daemon.grace_s", "before": "10", "after": ""},
        {"key": "services.cat.environment", "before": "(not shown)", "after": "(not shown)"},
    ]
    assert lines(pool("unchanged"), keys=keys) == [
        "daemon.grace_s: 10 -> nothing",
        "services.cat.environment: (not shown) changed",
        "pool default: unchanged",
        "reloaded: generation 4",
    ]
    found = lines(keys=keys[:1] * 30)
    assert len(found) == MAX_LINES + 2
    assert found[-2] == "and 18 more keys: see --json"


def test_services_and_listeners_that_came_or_went_have_a_line() -> None:
    """A line has what came before what went, and is left out where nothing did."""
    assert lines(
        services_added=["a", "b"],
        services_removed=["c"],
        listeners_closed=["tcp://127.0.0.1:7"],
    ) == [
        "services: added a, b; removed c",
        "listeners: closed tcp://127.0.0.1:7",
        "reloaded: generation 4",
    ]


def test_the_text_is_bounded() -> None:
    """Of many pools, and of many names in a line, the rest is counted."""
    many = [f"s{number}" for number in range(64)]
    pools = [pool("respawned"), *(pool("unchanged", name) for name in many)]
    found = lines(*pools, services_added=many)
    assert len(found) == 1 + MAX_LINES + 2
    assert found[-3] == "and 53 more pools, 53 of them unchanged: see unpd status"
    assert found[-2] == f"services: added {', '.join(many[:NAMED])} and 56 more"


@pytest.mark.parametrize(
    "changes",
    [None, 7, {}, {"pools": [7]}, {"pools": [{"kind": "worker"}]}],
    ids=["none", "number", "empty", "no-pool", "half-a-pool"],
)
def test_a_daemon_of_another_version_tells_less(changes: Any) -> None:
    """An answer without usable changes still says that the reload succeeded."""
    assert as_text({"generation": 4, "changes": changes}) == "reloaded: generation 4"
    assert as_text({}) == "reloaded: generation unknown"


NOTHING: dict[str, list[str]] = {field.name: [] for field in CHANGES}


def test_the_log_follows_what_was_changed() -> None:
    """Only where it was asked for."""
    answer = {"generation": 4, "changes": NOTHING, "log": ["a b", "c"], "log_left_out": 0}
    assert as_text(answer) == "reloaded: generation 4"
    assert as_text(answer, with_log=True).split("\n") == [
        "reloaded: generation 4",
        "log:",
        "  a b",
        "  c",
    ]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({}, []),
        ({"log": "text"}, []),
        ({"log": []}, []),
        ({"log": [7], "log_left_out": "many"}, ["log:", "  7"]),
        ({"log": ["a"], "log_left_out": 3}, ["log:", "  (3 lines are left out)", "  a"]),
        ({"log": ["at error   reload.refused reason=x", "b"]}, ["log:", "  b"]),
    ],
    ids=["none", "text", "empty", "odd", "left-out", "refused"],
)
def test_the_log_of_any_answer_can_be_shown(answer: Any, shown: list[str]) -> None:
    """The reason of a refusal, which is printed anyway, is left out."""
    assert list(log_lines(answer)) == shown


def test_the_log_is_bounded() -> None:
    """The last lines are shown, which tell how the reload ended."""
    many = [str(number) for number in range(MAX_LOG_LINES + 5)]
    found = list(log_lines({"log": many, "log_left_out": 2}))
    assert found[:3] == ["log:", "  (7 lines are left out)", "  5"]
    assert len(found) == MAX_LOG_LINES + 2


def test_the_json_of_both_outcomes_has_the_fields_of_the_table() -> None:
    """A refusal has a reason in place of changes."""
    log = {"log": ["a"], "log_left_out": 0}
    done = as_fields({"ok": True, "generation": 4, "changes": NOTHING, **log})
    assert mismatch(done, RELOADED) == ""
    assert (done["result"], done["reason"], done["log"]) == ("success", "", ["a"])
    refused = as_fields({"ok": False, "reason": "it is faulty", **log})
    assert mismatch(refused, RELOADED) == ""
    assert (refused["result"], refused["reason"]) == ("refused", "it is faulty")
    assert refused["changes"] is None
