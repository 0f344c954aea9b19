"""The alert rules and the dashboard name what the program has, and work."""

import json
import re
import runpy
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support import ROOT, faults
from unpd.log_events.table import EVENTS
from unpd.metrics.catalog.row import Histogram
from unpd.metrics.catalog.table import METRICS
from unpd.names import (
    ACCEPT_ERRNOS,
    ChildPhase,
    EndCause,
    Fault,
    HeaderResult,
    ProgramResult,
    ReapReason,
    RefusalReason,
)

PLACE = ROOT / "packaging/monitoring"
RULES = (PLACE / "alerts.yaml").read_text()
CASES = (PLACE / "alerts_test.yaml").read_text()
DASHBOARD: dict[str, Any] = json.loads((PLACE / "dashboard.json").read_text())
LABELS = {
    name: {*row.labels, "instance", "job"}
    for row in METRICS
    for name in (
        [f"{row.name}_{part}" for part in ("bucket", "sum", "count")]
        if isinstance(row, Histogram)
        else [row.name]
    )
}
"""The labels of each series, by its name in an expression."""
VALUES: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("unpd_degraded", "reason"): tuple(Fault),
        ("unpd_workers", "state"): tuple(ChildPhase),
        ("unpd_children_reaped_total", "reason"): tuple(ReapReason),
        ("unpd_connections_ended_total", "cause"): tuple(EndCause),
        ("unpd_refused_total", "reason"): tuple(RefusalReason),
        ("unpd_accept_errors_total", "errno"): ACCEPT_ERRNOS,
        ("unpd_proxy_headers_total", "result"): tuple(HeaderResult),
        ("unpd_programs_ended_total", "result"): tuple(ProgramResult),
    }
)
"""The values of the labels that a rule may ask for."""
ALERTS = re.findall(r"^      - alert: (\w+)$", RULES, re.MULTILINE)


def rules() -> Iterator[str]:
    """The expression of each rule, in one line."""
    for rule in RULES.split("- alert: ")[1:]:
        found = re.search(r"^        expr: (.*\n(?: {10}.*\n)*)", rule, re.MULTILINE)
        assert found, rule
        yield " ".join(found[1].removeprefix(">-").split())


def panels() -> list[dict[str, Any]]:
    """The panels with queries."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[str]:
    """Every expression of the dashboard: of panels, variables and marks."""
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])
    yield from (mark["expr"] for mark in DASHBOARD["annotations"]["list"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((.*), \w+\)", r"\1", variable["definition"])


def metrics_in(expr: str) -> list[tuple[str, dict[str, str]]]:
    """Each of our metrics in an expression, with its matchers."""
    found = re.findall(r"\b((?:unpd|process)_\w+)(?:\{([^}]*)\})?", expr)
    return [(name, dict(re.findall(r'(\w+)[=!~]+"([^"]*)"', inside))) for name, inside in found]


@pytest.mark.parametrize("expr", [*rules(), *queries()])
def test_an_expression_names_only_what_there_is(expr: str) -> None:
    """Each metric is in the catalogue, has the labels by which it is chosen and summed,
    and the values of these are those that the program gives it.
    """
    used = metrics_in(expr)
    assert used or "ALERTS" in expr
    for name, matchers in used:
        assert name in LABELS
        assert matchers.keys() <= LABELS[name]
        for label, value in matchers.items():
            if not value.startswith("$"):
                assert set(value.split("|")) <= set(VALUES[name, label])
    grouped = {
        label
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr)
        for label in labels.split(", ")
    }
    assert grouped <= {"le"}.union(*(LABELS[name] for name, _ in used))


def test_the_rules_name_events_of_the_log_that_there_are() -> None:
    """What stands in brackets as an event is one."""
    named = re.findall(r"\(([a-z]+\.[a-z_*]+)\)", " ".join(RULES.split()))
    assert "child.reaped" in named
    assert {name for name in named if not name.endswith("*")} <= EVENTS.keys()
    for group in {name.removesuffix("*") for name in named if name.endswith("*")}:
        assert any(event.startswith(group) for event in EVENTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_both_kinds_of_case(alert: str) -> None:
    """The unit tests have a time at which it fires, and one at which it does not."""
    asked = CASES.split(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')[1:]
    fires = {"exp_samples" in after.split("- expr:")[0].split("- name:")[0] for after in asked}
    assert fires == {True, False}


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_an_alert(fault: Fault) -> None:
    """One of the rules about a degraded daemon takes it, and no other does."""
    of_degraded = [expr for expr in rules() if "unpd_degraded{" in expr]
    matched = [
        expr
        for expr in of_degraded
        for operator, values in re.findall(r'reason(=|!~)"([^"]*)"', expr)
        if (fault.value in values.split("|")) == (operator == "=")
    ]
    assert len(matched) == 1


@faults.requires_tool("promtool")
@pytest.mark.parametrize(("verb", "file"), [("check", "alerts.yaml"), ("test", "alerts_test.yaml")])
def test_promtool_accepts_the_rules(verb: str, file: str) -> None:
    """The rules are well formed, and their unit tests pass."""
    promtool(verb, PLACE / file)


@faults.requires_tool("promtool")
def test_promtool_accepts_the_queries(tmp_path: Path) -> None:
    """Every expression of the dashboard is PromQL."""
    records = [
        {"record": f"query:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(queries())
    ]
    # JSON is YAML, too.
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", file)


def promtool(verb: str, file: Path) -> None:
    """Run ``promtool check rules`` or ``promtool test rules``. AssertionError, with
    what it says, if it finds a fault.
    """
    done = subprocess.run(
        ["promtool", verb, "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of packaging/dashboard.py."""
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    return runpy.run_path(str(ROOT / "packaging/dashboard.py"))


def test_the_dashboard_is_new(script: dict[str, Any]) -> None:
    """The file is what ``make dashboard`` makes of the metrics of the program."""
    assert script["text"]() == (PLACE / "dashboard.json").read_text()


def test_every_metric_has_a_panel(script: dict[str, Any]) -> None:
    """The dashboard shows each metric of the catalogue, but for those that the script
    leaves out with a reason.
    """
    used = {name for expr in queries() for name, _ in metrics_in(expr)}
    without = {row.name for row in METRICS if not used & {row.name, f"{row.name}_bucket"}}
    assert without == set(script["LEFT_OUT"])


def test_sizes_of_several_instances_are_not_added_up() -> None:
    """Counts are. A rate is one of counts."""
    exprs = [*queries()]
    (memory,) = (expr for expr in exprs if "unpd_program_peak_memory_bytes" in expr)
    (cpu,) = (expr for expr in exprs if "unpd_program_cpu_seconds_total" in expr)
    assert memory.startswith("max by (service)")
    assert cpu.startswith("sum by (service) (rate(")
    assert any(expr.startswith("sum by (service) (unpd_connections_active") for expr in exprs)


def test_a_panel_of_an_unknown_label_is_refused(script: dict[str, Any]) -> None:
    """A label that was renamed is an error of the script, not an empty panel."""
    query = script["Query"]("unpd_zombies", ("service",))
    panel = script["Panel"]("Zombies", (query,))
    with pytest.raises(KeyError, match="unpd_zombies has no label service"):
        script["dashboard"]([("", [panel])])


def test_the_panels_lie_side_by_side() -> None:
    """No two cover the same place, none is wider than the page, and each has a number
    and a description of its own.
    """
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    assert all(panel["description"] for panel in panels())


def test_the_dashboard_finds_its_source_by_a_variable() -> None:
    """Whatever the Prometheus of a Grafana is called, nobody has to edit a panel."""
    sources = [panel["datasource"] for panel in panels()]
    sources += [target["datasource"] for panel in panels() for target in panel["targets"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    variables = [(each["type"], each["name"]) for each in DASHBOARD["templating"]["list"]]
    assert variables == [("datasource", "datasource"), ("query", "instance"), ("query", "service")]
