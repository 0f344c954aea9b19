"""What the master writes on the board about how busy the machine is."""

from pathlib import Path

import pytest

from unpd.board import layout
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.config.schema import Config
from unpd.kernel.pressure import load_average
from unpd.master.sampling import sample_machine

PRESSURE = slice(layout.Master.PRESSURE, layout.Master.LOAD)


@pytest.fixture
def words() -> memoryview:
    """The master's words, with old figures."""
    return memoryview(bytearray(b"\1" * layout.Master.size * layout.WORD_BYTES)).cast("Q")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system that tells the pressures of a busy machine."""
    directory = tmp_path / "proc/pressure"
    directory.mkdir(parents=True)
    for name, avg10 in (("cpu", "12.34"), ("memory", "100.00"), ("io", "0.29")):
        (directory / name).write_text(f"some avg10={avg10} avg60=0.00 avg300=0.00 total=0\n")
    return tmp_path


def limited(keys: str, defaults: str = "") -> Config:
    """A configuration of two services, one of which has these keys."""
    text = f"""
        [defaults]
        {defaults}
        [services.daytime]
        listen = ["tcp://127.0.0.1:13"]
        [services.echo]
        listen = ["tcp://127.0.0.1:7"]
        {keys}
    """
    return loads(text, this_host()).config


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (limited(""), [0, 0, 0]),
        (limited("max_pressure = { cpu = 80, io = 0 }"), [1234, 0, 0]),
        (limited("max_pressure = { memory = 1, io = 1 }"), [0, 10_000, 29]),
        (limited("", "max_pressure = { io = 0.5 }"), [0, 0, 29]),
        (limited("max_pressure = {}", "max_pressure = { io = 0.5 }"), [0, 0, 29]),
    ],
)
def test_pressures_that_a_limit_asks_for(
    words: memoryview, root: Path, config: Config, expected: list[int]
) -> None:
    """They stand on the board in hundredths of a per cent; the others are 0. A limit of
    any service counts.
    """
    sample_machine(words, config, root)
    assert list(words[PRESSURE]) == expected


def test_nothing_tells_the_pressure_any_more(words: memoryview, root: Path) -> None:
    """Without a figure the board has 0, not an old one: it could close a service for
    good.
    """
    config = limited("max_pressure = { cpu = 80, memory = 20 }")
    sample_machine(words, config, root)
    (root / "proc/pressure/cpu").unlink()
    sample_machine(words, config, root)
    assert list(words[PRESSURE]) == [0, 10_000, 0]


def test_the_load(words: memoryview, root: Path) -> None:
    """The load stands on the board in hundredths if a limit asks for it."""
    sample_machine(words, limited(""), root)
    assert words[layout.Master.LOAD] == 0
    for _ in range(10):  # the load changes every five seconds
        before = round(100 * load_average())
        sample_machine(words, limited("max_load = 4"), root)
        if before == round(100 * load_average()):
            assert words[layout.Master.LOAD] == before
            return
    pytest.fail("the load of this machine never stays for a moment")
