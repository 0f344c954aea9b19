"""The page and the JSON of a run."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.benchmarks.build import Places
from tests.benchmarks.figures import DAEMON, OWN, Cell, Sample
from tests.benchmarks.report import (
    LIMIT_SAYS,
    NO_SPLIT,
    OWN_TITLES,
    RATIOS_HEAD,
    Results,
    as_json,
    keep,
    markdown,
)
from tests.benchmarks.servers import KINDS, UNPD
from tests.benchmarks.targets import BOUNDS, Outcome, Verdict, outcomes

SAMPLE: dict[str, float] = {
    "rate": 100.0,
    "cpu_us": 9.0,
    "user_us": 1.0,
    "system_us": 8.0,
    "load_busy": 0.94,
}


def each(sample: Sample, rounds: int = 3) -> Cell:
    """Build a server with this sample in every round."""
    return Cell(dict.fromkeys(range(rounds), sample))


def results(**cells: Cell) -> Results:
    """Build a run of row turnover-50 with these servers and a fault in the daemon's own
    figures.
    """
    table = {
        "turnover-50": dict(cells),
        "bulk-4": dict(cells),
        DAEMON: {UNPD: Cell(fault="it did not say ready")},
    }
    return Results({"day": "2026-11-25"}, 3, 1.0, table, 3, 4, outcomes(table))


def lines(page: str, title: str) -> list[list[str]]:
    """Return the table rows that begin with this title, as cells."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith(f"| {title}")
    ]


def test_a_fault_is_shown_in_the_table_and_the_rest_has_its_figures() -> None:
    """One server, or the daemon's own figures, may fail. The page is still written, and
    counts the measurements that were repeated.
    """
    found = results(unpd=each(SAMPLE), go=Cell(fault="2 errors"))
    page = markdown(found)
    assert "no figure: 2 errors" in page
    assert "no figure: it did not say ready" in page
    assert "3 disturbed turns or rounds were repeated, 4 were put up with" in page
    assert found.faults == {DAEMON: "it did not say ready"}


def test_a_server_that_forks_for_each_operation_has_no_user_and_system() -> None:
    """For a server that forks per operation the page shows no user and system time. The
    kernel books children that live shorter than a tick as user time.
    """
    page = markdown(results(unpd=each(SAMPLE), fork=each(SAMPLE)))
    bulk, turnover = lines(page, KINDS["fork"].title)
    assert (turnover[5:7], bulk[5:7]) == ([NO_SPLIT] * 2, ["1.00", "8.00"])


def test_a_generator_that_is_the_limit_is_marked_at_the_target() -> None:
    """The target shows how busy the generator was on both sides, and marks it as the
    limit.
    """
    page = markdown(results(unpd=each(SAMPLE | {"load_busy": 0.9}), epoll=each(SAMPLE)))
    assert LIMIT_SAYS in page
    assert "90% / 94% (generator-limited)" in page
    assert "90% / 90%" in markdown(
        results(unpd=each(SAMPLE | {"load_busy": 0.9}), epoll=each(SAMPLE | {"load_busy": 0.9}))
    )


def test_datagrams_that_were_lost_are_shown() -> None:
    """The row of UDP shows for each server the largest share of datagrams without an
    answer in a round. No other row has that column.
    """
    lossy = each(SAMPLE | {"lost": 0.0})
    lossy.rounds[1] = SAMPLE | {"lost": 0.25}
    cells = {UNPD: each(SAMPLE | {"lost": 0.0}), "xinetd": lossy, "go": Cell(fault="2 errors")}
    page = markdown(dataclasses.replace(results(), table={"udp-64-50": cells}))
    ours, xinetd, go = lines(page, "")[-3:]
    assert lines(page, "server")[0][-1] == "lost"
    assert (ours[-1], xinetd[-1]) == ("0.00%", "25.00%")
    assert len(go) == len(ours)
    assert "lost" not in markdown(results(unpd=each(SAMPLE)))


def test_a_row_of_processes_has_no_user_and_system() -> None:
    """Where all servers fork for each client, none has user and system time."""
    cells = {UNPD: each(SAMPLE), "pyfork": each(SAMPLE)}
    page = markdown(dataclasses.replace(results(), table={"fork-50": cells}))
    assert [line[5:7] for line in lines(page, "")[-2:]] == [[NO_SPLIT] * 2] * 2


def test_the_rows_of_unpd_alone_have_their_figures() -> None:
    """Each figure of such a row stands below the head of the row with its title, and
    each of its targets is about one of them.
    """
    for row, (head, titles) in OWN_TITLES.items():
        cell = each(dict.fromkeys(titles, 7.5))
        page = markdown(dataclasses.replace(results(), table={row: {UNPD: cell}}))
        section = page.split(f"## {head}\n", 1)[1]
        assert lines(section, "")[2:] == [[title, "7.5", "7.5 to 7.5"] for title in titles.values()]
        assert {bound.measure for bound in BOUNDS if bound.row == row} <= titles.keys()
    assert set(OWN_TITLES) == set(OWN)


def test_a_title_says_what_accepts() -> None:
    """A worker, or the dispatcher where each client has a process."""
    titles = {
        "fork-50": "unpd, a dispatcher",
        "function-50": "unpd, a python dispatcher",
        "program-50": "unpd, a launcher",
        "program-user-50": "unpd, a launcher",
        "turnover-50": "unpd, one worker",
    }
    for row, title in titles.items():
        page = markdown(dataclasses.replace(results(), table={row: {UNPD: each(SAMPLE)}}))
        assert lines(page, "")[-1][0] == f"**{title}**"


def test_a_figure_of_fewer_rounds_says_so() -> None:
    """A figure of fewer rounds is marked, at the target and in the server's row."""
    found = dataclasses.replace(results(unpd=each(SAMPLE), epoll=each(SAMPLE)), rounds=4)
    (target,) = (line for line in lines(markdown(found), "bulk echo") if "at least" in line[1])
    assert target[3].endswith("(3 rounds)")
    assert lines(markdown(found), KINDS["epoll"].title)[0][2].endswith("(3 rounds)")
    assert "(3 rounds)" not in markdown(dataclasses.replace(found, rounds=3))


def test_a_figure_of_disturbed_rounds_says_so() -> None:
    """A figure of disturbed rounds is marked, at the target and at the disturbed
    server.
    """
    quiet, disturbed = each(SAMPLE), each(SAMPLE)
    disturbed.disturbed.add(1)
    page = markdown(results(unpd=quiet, epoll=disturbed))
    (target,) = (line for line in lines(page, "bulk echo") if "at least" in line[1])
    assert target[3].endswith("(disturbed)")
    assert lines(page, KINDS["epoll"].title)[0][2].endswith("(disturbed)")
    assert "disturbed)" not in "".join(line[2] for line in lines(page, f"**{KINDS[UNPD].title}"))


def test_a_rate_has_the_ratio_of_the_processor_time_beside_it() -> None:
    """A rate has the ratio of the processor time beside it, which is the reliable
    figure where the generator is the limit.
    """
    page = markdown(results(unpd=each(SAMPLE), epoll=each(SAMPLE | {"cpu_us": 6.0})))
    (target,) = (line for line in lines(page, "bulk echo") if "at least" in line[1])
    assert target[5] == "1.50"


def test_the_short_table_has_the_ratios_and_the_verdicts() -> None:
    """The short table has the ratios of unpd to three peers, with a star where the
    generator is the limit. A row without a figure of one of them is left out.
    """
    quiet = {name: each(SAMPLE | {"load_busy": 0.9}) for name in (UNPD, "uvloop", "go")}
    page = markdown(results(**quiet, epoll=each(SAMPLE | {"rate": 80.0, "cpu_us": 6.0})))
    section = page.split(f"{RATIOS_HEAD}\n", 1)[1].split("\n## ", 1)[0]
    assert lines(section, "connect") == [
        [
            "connect, echo 64 bytes, close; 50 at a time",
            r"1.25\*",
            "1.00",
            "1.00",
            "1.50",
            "1.00",
            "1.00",
        ]
    ]
    assert (
        "Of 53 targets: 1 missed, 2 within noise (median holds), 50 no figure. Missed: connect"
        in section
    )
    assert RATIOS_HEAD not in markdown(results(**quiet, epoll=Cell(fault="2 errors")))


def test_the_short_table_says_where_the_work_differs() -> None:
    """For daytime the short table says that the work differs, and gives the ratios to
    the peer that does the same, if it has a figure.
    """
    quiet = {name: each(SAMPLE | {"load_busy": 0.9}) for name in (UNPD, "epoll", "uvloop", "go")}
    page = markdown(results(**quiet, corked=each(SAMPLE | {"rate": 125.0, "cpu_us": 6.0})))
    assert (
        r"Over a C server that does so too, the rate is 0.80\* and the CPU 1.50 (1.50 to 1.50 in"
        r" the rounds)." in page.split(f"{RATIOS_HEAD}\n", 1)[1].split("\n## ", 1)[0]
    )
    assert "does so too" not in markdown(results(**quiet))
    assert "does so too" not in markdown(results(**quiet, corked=Cell(fault="2 errors")))
    assert "does so too" not in markdown(
        results(**quiet | {"go": Cell(fault="2 errors")}, corked=each(SAMPLE))
    )


def test_the_json_has_every_target_with_its_rounds() -> None:
    """The JSON has every target with its rounds, for programs such as compare.py."""
    found = json.loads(as_json(results(unpd=each(SAMPLE), epoll=each(SAMPLE | {"rate": 80.0}))))
    by_key = {target["key"]: target for target in found["targets"]}
    assert by_key["bulk-4 rate best"] | {"what": ""} == {
        "key": "bulk-4 rate best",
        "what": "",
        "wanted": "at least 1",
        "values": [1.25] * 3,
        "median": 1.25,
        "verdict": Verdict.MET,
        "stretch": "1.2 met",
        "disturbed": False,
        "load_busy": [0.94, 0.94],
        "cpu": 1.0,
    }
    assert by_key["idle-10000 memory_bytes"]["median"] is None


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Provide the places of results, with those of an earlier run."""
    found = Places(
        tmp_path / "RESULTS.md",
        *(tmp_path / "out" / f"{name}.json" for name in ("results", "previous", "partial")),
    )
    found.last.parent.mkdir()
    found.page.write_text("earlier")
    found.last.write_text("earlier")
    return found


def ran(verdict: Verdict, fault: str = "") -> Results:
    """Build a run with one target and one server."""
    return dataclasses.replace(
        results(),
        table={"bulk-4": {UNPD: Cell(fault=fault)}},
        outcomes=[Outcome("a", "a target", "at least 1", [], verdict, "")],
    )


def test_a_whole_run_replaces_the_run_before(places: Places) -> None:
    """A whole run writes a new page and JSON. The old JSON is kept for the
    comparison.
    """
    assert keep(ran(Verdict.MISSED), "new", places, whole=True) == []
    assert (places.page.read_text(), places.previous.read_text()) == ("new", "earlier")
    assert json.loads(places.last.read_text())["thrown_away"] == 3
    assert not places.partial.exists()


@pytest.mark.parametrize(
    ("run", "whole", "faults"),
    [
        (ran(Verdict.NONE), True, ["a target"]),
        (ran(Verdict.MET, fault="2 errors"), True, ["bulk-4: 2 errors"]),
        (ran(Verdict.MET, fault="2 errors"), False, ["bulk-4: 2 errors"]),
        (ran(Verdict.NONE), False, []),
        (ran(Verdict.MET), False, []),
    ],
)
def test_an_incomplete_run_replaces_nothing(
    places: Places, run: Results, *, whole: bool, faults: list[str]
) -> None:
    """A partial run, or one without a figure or with a fault, is written elsewhere.
    Missing figures and faults are returned.
    """
    assert keep(run, "new", places, whole=whole) == faults
    assert (places.page.read_text(), places.last.read_text()) == ("earlier", "earlier")
    assert places.partial.exists()
    assert not places.previous.exists()
