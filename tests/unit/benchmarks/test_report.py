"""The page and the JSON of a run."""

import json

from tests.benchmarks.figures import DAEMON, Cell
from tests.benchmarks.report import LIMIT_SAYS, NO_SPLIT, Results, as_json, markdown
from tests.benchmarks.servers import KINDS, UNPD
from tests.benchmarks.targets import Verdict, outcomes

SAMPLE = {"rate": 100.0, "cpu_us": 9.0, "user_us": 1.0, "system_us": 8.0, "load_busy": 0.94}


def results(**cells: Cell) -> Results:
    """A run of row turnover-50 with these servers, and with a fault in the daemon's own figures."""
    table = {"turnover-50": dict(cells), "bulk-4": dict(cells), DAEMON: {UNPD: Cell(fault="it did not say ready")}}
    return Results({"day": "2026-11-25"}, 1, 1.0, table, 3, outcomes(table, 1))


def lines(page: str, title: str) -> list[list[str]]:
    """The rows of the tables that begin with this title, cell by cell."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith(f"| {title}")]


def test_a_fault_stands_in_the_table_and_the_rest_has_its_figures() -> None:
    """One server, or the daemon's own figures, may fail: the page is written nevertheless, and tells what was thrown away."""
    found = results(unpd=Cell({0: SAMPLE}), go=Cell(fault="2 errors"))
    page = markdown(found)
    assert "no figure: 2 errors" in page
    assert "no figure: it did not say ready" in page
    assert "3 laps or rounds were disturbed" in page
    assert found.faults == {DAEMON: "it did not say ready"}


def test_a_server_that_forks_for_each_operation_has_no_user_and_system() -> None:
    """The kernel books children that live shorter than a tick as user time, whatever they did."""
    page = markdown(results(unpd=Cell({0: SAMPLE}), fork=Cell({0: SAMPLE})))
    bulk, turnover = lines(page, KINDS["fork"].title)
    assert (turnover[5:7], bulk[5:7]) == ([NO_SPLIT] * 2, ["1.00", "8.00"])


def test_a_generator_that_is_the_limit_is_marked_at_the_target() -> None:
    """Beside the rate stands how busy the generator was on both sides."""
    page = markdown(results(unpd=Cell({0: SAMPLE | {"load_busy": 0.9}}), epoll=Cell({0: SAMPLE})))
    assert LIMIT_SAYS in page
    assert "90% / 94% (generator-limited)" in page
    assert "90% / 90%" in markdown(results(unpd=Cell({0: SAMPLE | {"load_busy": 0.9}}), epoll=Cell({0: SAMPLE | {"load_busy": 0.9}})))


def test_the_json_has_every_target_with_its_rounds() -> None:
    """For programs: compare.py is one."""
    found = json.loads(as_json(results(unpd=Cell({0: SAMPLE}), epoll=Cell({0: SAMPLE | {"rate": 80.0}}))))
    by_key = {target["key"]: target for target in found["targets"]}
    assert by_key["bulk-4 rate best"] | {"what": ""} == {
        "key": "bulk-4 rate best",
        "what": "",
        "wanted": "at least 1",
        "values": [1.25],
        "median": 1.25,
        "verdict": Verdict.MET,
        "stretch": "1.2 met",
        "load_busy": [0.94, 0.94],
    }
    assert by_key["idle-10000 memory_bytes"]["median"] is None
