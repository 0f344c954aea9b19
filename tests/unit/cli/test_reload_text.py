"""What ``unpd reload`` shows to people."""

from typing import Any

import pytest

from unpd.cli.reload_text import MAX_LINES, NAMED, as_text


def pool(outcome: str, name: str = "default", kind: str = "worker", children: int = 2) -> Any:
    """One pool of generation 4."""
    return {
        "kind": kind,
        "pool": name,
        "outcome": outcome,
        "children": children,
        "generation": 4,
    }


def lines(*pools: Any, **changes: list[str]) -> list[str]:
    """Return the lines for an answer of generation 4 with these changes."""
    nothing: dict[str, list[str]] = {
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
        "reloaded: generation 4",
        "pool default: respawned with 2 workers, generation 4",
        "pool new: added with 1 worker, generation 4",
        "pool old: removed",
        "pool web: resized to 3 workers, the others unchanged",
        "exporter: respawned with 1 process, generation 4",
        "dispatcher of pool slow: respawned with 1 process, generation 4",
        "iterative worker of pool slow: respawned with 1 process, generation 4",
        "pool x: unchanged",
    ]


def test_services_and_listeners_that_came_or_went_have_a_line() -> None:
    """A line has what came before what went, and is left out where nothing did."""
    assert lines(
        services_added=["a", "b"],
        services_removed=["c"],
        listeners_closed=["tcp://127.0.0.1:7"],
    ) == [
        "reloaded: generation 4",
        "services: added a, b; removed c",
        "listeners: closed tcp://127.0.0.1:7",
    ]


def test_the_text_is_bounded() -> None:
    """Of many pools, and of many names in a line, the rest is counted."""
    many = [f"s{number}" for number in range(64)]
    pools = [pool("respawned"), *(pool("unchanged", name) for name in many)]
    found = lines(*pools, services_added=many)
    assert len(found) == 1 + MAX_LINES + 2
    assert found[-2] == "and 53 more pools, 53 of them unchanged: see unpd status"
    assert found[-1] == f"services: added {', '.join(many[:NAMED])} and 56 more"


@pytest.mark.parametrize(
    "changes",
    [None, 7, {}, {"pools": [7]}, {"pools": [{"kind": "worker"}]}],
    ids=["none", "number", "empty", "no-pool", "half-a-pool"],
)
def test_a_daemon_of_another_version_tells_less(changes: Any) -> None:
    """An answer without usable changes still says that the reload succeeded."""
    assert as_text({"generation": 4, "changes": changes}) == "reloaded: generation 4"
    assert as_text({}) == "reloaded: generation unknown"
