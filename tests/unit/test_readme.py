"""What the README says of public interface is what the program has."""

import re

import pytest

from tests.support import ROOT
from unpd.names import EXIT_MEANINGS, FAULT_MEANINGS, MASTER_SIGNALS, ClientExit, EndCause

README = (ROOT / "README.md").read_text()


def rows(heading: str) -> list[tuple[str, str]]:
    """The rows of the first table below a heading, without its head."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = section.split("|---|---|\n", 1)[1].split("\n\n", 1)[0]
    return [
        (cells[1].strip(), cells[2].strip())
        for cells in (line.split("|") for line in table.strip().splitlines())
    ]


def test_the_signals_are_those_of_the_table() -> None:
    """Every signal that the master takes stands in the README with its meaning, and no
    other.
    """
    assert rows("Signals") == [(row.name, str(row.meaning)) for row in MASTER_SIGNALS]


def test_the_exit_codes_are_those_of_the_table() -> None:
    """Every exit code of the daemon stands in the README with its meaning, and no
    other.
    """
    assert rows("Exit codes") == [
        (str(int(code)), meaning) for code, meaning in EXIT_MEANINGS.items()
    ]


def test_the_reasons_are_those_of_the_table() -> None:
    """Every reason for which the daemon can be degraded stands in the README with its
    meaning, and no other.
    """
    table = README.split("| reason | meaning |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    assert table.splitlines() == [
        f"| `{fault}` | {meaning} |" for fault, meaning in FAULT_MEANINGS.items()
    ]


def test_the_codes_of_the_clients_are_all_there() -> None:
    """Every exit code of the clients stands in the README."""
    section = README.split("The clients have codes of their own", 1)[1].split("\n## ", 1)[0]
    assert re.findall(r"^\| (\d+) ", section, re.MULTILINE) == [
        str(int(code)) for code in ClientExit
    ]


def test_the_ways_through_the_program_lead_to_what_is_there() -> None:
    """In the tables of files and functions, each file has the first name of its row."""
    found = re.findall(r"^\| `(unpd/[\w/]+\.py)` \| [^|`]*`(\w+)", README, re.MULTILINE)
    assert found
    assert [
        (file, name)
        for file, name in found
        if not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ] == []


@pytest.mark.parametrize("cause", list(EndCause))
def test_every_end_cause_is_named(cause: EndCause) -> None:
    """The README names each cause for which a connection can end."""
    assert cause in README


def test_the_speed_is_that_of_the_last_whole_run() -> None:
    """The short table and what became of the targets stand there as the benchmark wrote
    them.
    """
    results = (ROOT / "tests/benchmarks/RESULTS.md").read_text()
    assert (
        results.split("## Ratios\n", 1)[1].split("\n## ", 1)[0].strip()
        in README.split("## Speed\n", 1)[1]
    )
