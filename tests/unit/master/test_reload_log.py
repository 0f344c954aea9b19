"""The lines that a reload logs, kept for its answer."""

import pytest

from tests.support.memory_sink import MemorySink
from unpd.logs import Log
from unpd.master.reload_log import MAX_LINES, ReloadLog


@pytest.fixture
def log() -> Log:
    """A log in JSON, of which the answer has text all the same."""
    return Log(MemorySink().sink, "info", "json")


def test_the_lines_from_the_begin_to_the_end_are_kept(log: Log) -> None:
    """As text, without those of before and of afterwards, and those below the level."""
    kept = ReloadLog()
    log.event("config.warning", text="before")
    kept.begin(log)
    log.event("config.warning", text="meanwhile")
    log.event("reload.proving", generation=2)
    log.event("reload.refused", reason="x", generation=1)
    kept.end(log)
    log.event("config.warning", text="afterwards")
    assert [line.split(maxsplit=2)[2] for line in kept.lines] == [
        "config.warning text=meanwhile",
        "reload.proving generation=2",
        "reload.refused reason=x generation=1",
    ]
    log.set_level("error", connections=False)
    kept.begin(log)
    log.event("config.warning", text="unwanted")
    log.event("reload.succeeded", generation=2)
    kept.end(log)
    log.set_level("info", connections=False)
    log.event("config.warning", text="much later")
    assert kept.fields() == {"log": [], "log_left_out": 0}


def test_many_lines_are_counted_and_the_last_one_is_kept(log: Log) -> None:
    """An answer is bounded."""
    kept = ReloadLog()
    kept.begin(log)
    for number in range(MAX_LINES + 3):
        log.event("reload.proving", generation=number)
    log.event("reload.refused", reason="x", generation=1)
    assert len(kept.lines) == MAX_LINES + 1
    assert "reload.refused" in kept.lines[-1]
    assert kept.more == 3
