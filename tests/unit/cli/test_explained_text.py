"""The words of ``unpd explain``."""

from typing import Any

from unpd.cli.explained_text import text


def answer(**fields: Any) -> dict[str, Any]:
    """An answer of a daemon, with other values."""
    values: dict[str, Any] = {
        "service": "echo",
        "peer": "192.0.2.7",
        "outcome": "admitted",
        "about": "connections",
        "rules_of": None,
        "waits_for": None,
        "proxy": None,
        "denial": None,
        "checks": [],
    }
    return values | fields


def check(**fields: Any) -> dict[str, Any]:
    """A live denial that passes, with other values."""
    values: dict[str, Any] = {
        "reason": "denied",
        "resource": None,
        "known": True,
        "refuses": False,
        "observed": False,
        "waits": False,
        "value": None,
        "limit": None,
        "rule": None,
        "file": None,
        "line": None,
        "frees_in_s": None,
    }
    return values | fields


def test_a_denial_says_who_and_why() -> None:
    """An operator with the reason, or the sensor: no worker knows that."""
    refuses = check(refuses=True, rule="192.0.2.0/24", frees_in_s=600.0)
    common = {"network": "192.0.2.0/24", "since": "", "until": None}
    for denial, who in (
        ({"uid": 0, "service": None, "reason": "a scan"}, "root: a scan"),
        ({"uid": 0, "service": None, "reason": ""}, "root"),
        ({"uid": None, "service": "trap", "reason": ""}, "the sensor trap"),
    ):
        said = text(answer(outcome="refused", denial=common | denial, checks=[refuses]))
        assert said == (
            "192.0.2.7 may not use echo now\n"
            f"  denied: refuses, by 192.0.2.0/24, denied by {who}, for 10 min"
        )


def test_a_rule_is_named_with_its_place() -> None:
    """With the line, if it has one. Each resource of max_pressure has its value."""
    network = check(reason="deny", refuses=True, rule="192.0.2.0/24", file="/etc/unpd/deny.list")
    key = {"rule": "max_pressure.io = 20", "file": "/etc/unpd.toml", "line": 9}
    checks = [
        network | {"line": 7},
        network,
        check(reason="max_pressure", resource="cpu", value=3.5, limit=80.0),
        check(reason="max_pressure", resource="io", refuses=True, value=21.0, limit=20.0, **key),
    ]
    assert text(answer(outcome="refused", checks=checks)).splitlines() == [
        "192.0.2.7 may not use echo now",
        "  deny: refuses, by 192.0.2.0/24 (/etc/unpd/deny.list, line 7)",
        "  deny: refuses, by 192.0.2.0/24 (/etc/unpd/deny.list)",
        "  max_pressure.cpu: passes (3.5 of 80)",
        "  max_pressure.io: refuses (21 of 20), by max_pressure.io = 20 (/etc/unpd.toml, line 9)",
    ]


def test_rules_alone_say_so_first() -> None:
    """No count is shown as if it were known, and nothing is said of now."""
    checks = [
        check(known=False),
        check(reason="deny"),
        check(reason="max_per_source", known=False, limit=5),
    ]
    assert text(answer(rules_of="/etc/unpd/unpd.toml", checks=checks)).splitlines() == [
        "by the rules of /etc/unpd/unpd.toml alone; no daemon was asked",
        "192.0.2.7 may use echo",
        "  denied: not known",
        "  deny: passes",
        "  max_per_source: not known (the limit is 5)",
    ]


def test_a_client_may_wait_for_something_else_than_a_limit() -> None:
    """As for the one before it in the model iterative."""
    said = text(answer(outcome="waits", waits_for="the model iterative serves one"))
    assert said == (
        "192.0.2.7 would wait in the accept queue of echo now\n  the model iterative serves one"
    )
