"""The roll of programs: the results and causes that follow from an exit status and from
what the keeper has told a program.
"""

import os
import signal
from collections.abc import Iterator
from typing import cast

import pytest

from tests.support.memory_sink import MemorySink
from unpd.board import layout
from unpd.board.layout import Row, Service, Session
from unpd.board.sessions import SessionTable, leave_trace
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Shape, create
from unpd.config.times import ServiceTimes
from unpd.dispatcher.program_roll import LINES_PER_S, ProgramEnded, ProgramRoll, failed_step
from unpd.dispatcher.refusal import refusal_of
from unpd.dispatcher.roll import Began, ProcessEnd
from unpd.kernel.processes import decode_wait_status
from unpd.logs import Log
from unpd.names import EndCause, ProgramResult, StartStep
from unpd.services.base import StreamService
from unpd.worker.ledger import Ledger
from unpd.worker.terms import Terms

COLUMN = 3
CELLS = layout.service_cells(COLUMN)
S = layout.NS
EXIT_0, EXIT_3, KILLED = 0, 3 << 8, int(signal.SIGKILL)
"""Wait statuses (wait(2))."""


class Scene:
    """A launcher's row and roll; every program runs for 2 s."""

    def __init__(self, lane: SourceLane) -> None:
        self.row = memoryview(bytearray(Row.size * layout.WORD_BYTES)).cast("Q")
        self.table = SessionTable(4)
        self.lane = lane
        times, program = ServiceTimes(1.0, 0.0, 1.0), cast(StreamService, None)
        terms = Terms(name="cat", service=program, times=times, words=CELLS)
        self.roll = ProgramRoll(self.table, Ledger(self.row, [terms]), {COLUMN: terms}, lane)

    def begin(self, pid: int = 4711) -> int:
        """A program begins at 10 s."""
        self.lane.service_opened(COLUMN)
        index = self.roll.begin(Began(COLUMN, Row.LISTENER_ACCEPTED, b"\x01peer", 10 * S))
        self.roll.forked(index, pid)
        return index

    def end(self, index: int, status: int, peak_bytes: int = 0) -> ProgramEnded:
        """It ends, after 5 ms of processor time."""
        end = ProcessEnd(decode_wait_status(status), 5_000_000, peak_bytes)
        return self.roll.reaped(index, end, 12 * S)

    def word(self, word: int) -> int:
        """A word of the service in the row."""
        return self.row[CELLS + word]

    def results(self) -> dict[ProgramResult, int]:
        """How many programs have ended, by the results that there were."""
        counts = {
            result: self.word(Service.PROGRAMS_ENDED + index)
            for index, result in enumerate(layout.PROGRAM_RESULTS)
        }
        return {result: count for result, count in counts.items() if count}


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A launcher without programs."""
    sources = create(Shape(buckets=4, entries=2))
    sources.reach(1)
    yield Scene(SourceLane(sources, 0))
    sources.close()


@pytest.mark.parametrize(
    ("status", "result", "cause"),
    [
        (EXIT_0, ProgramResult.OK, EndCause.DONE),
        (EXIT_3, ProgramResult.FAILED, EndCause.ERROR),
        (KILLED, ProgramResult.SIGNAL, EndCause.WORKER_DIED),
    ],
)
def test_a_program_that_ends_by_itself(
    scene: Scene, status: int, result: ProgramResult, cause: EndCause
) -> None:
    """Its exit status tells result and cause."""
    ended = scene.end(scene.begin(), status)
    assert (ended.result, ended.cause, ended.duration_s) == (result, cause, 2.0)
    assert scene.results() == {result: 1}
    assert scene.word(Service.PROGRAM_CPU_NS) == 5_000_000
    assert scene.word(Service.PROGRAM_SUM_NS) == 2 * S
    assert scene.word(Service.ENDED + layout.END_CAUSES.index(cause)) == 1
    assert scene.table.used() == []


@pytest.mark.parametrize("status", [EXIT_0, EXIT_3, KILLED])
def test_a_program_that_had_to_end_for_its_time(scene: Scene, status: int) -> None:
    """It is late, however it then ended, and no line is logged."""
    index = scene.begin()
    assert scene.roll.terminate(index, EndCause.SESSION_LIMIT)
    assert not scene.roll.terminate(index, EndCause.SHUTDOWN), "the first reason counts"
    ended = scene.end(index, status)
    assert (ended.result, ended.cause) == (ProgramResult.TIMEOUT, EndCause.SESSION_LIMIT)
    assert logged(ended) == []


@pytest.mark.parametrize("cause", [EndCause.SHUTDOWN, EndCause.DENIED, EndCause.CLIENT_RST])
def test_a_program_that_had_to_end_otherwise(scene: Scene, cause: EndCause) -> None:
    """The cause is that of the keeper, the result that of the exit status."""
    for status, result in ((EXIT_0, ProgramResult.OK), (KILLED, ProgramResult.SIGNAL)):
        index = scene.begin()
        scene.roll.terminate(index, cause)
        ended = scene.end(index, status)
        assert (ended.result, ended.cause) == (result, cause)
        assert logged(ended) == []


def test_a_program_that_did_not_begin(scene: Scene) -> None:
    """The process that was to become it has written why."""
    index = scene.begin()
    words = scene.table.entry(index)
    words[Session.FAILED_ERRNO] = 13
    words[Session.FAILED_STEP] = layout.START_STEPS.index(StartStep.DIRECTORY) + 1
    ended = scene.end(index, 127 << 8)
    assert (ended.result, ended.cause) == (ProgramResult.NOT_STARTED, EndCause.ERROR)
    (line,) = logged(ended)
    assert f'step=directory reason="{os.strerror(13)}"' in line


def test_a_function_that_has_raised(scene: Scene) -> None:
    """Its traceback is the line, which ends with the exception."""
    index = scene.begin()
    leave_trace(scene.table.entry(index), "Traceback ...\n  at home\nValueError: on purpose\n")
    (line,) = logged(scene.end(index, 1 << 8))
    assert "function.raised service=cat session_pid=4711 " in line
    assert 'error="ValueError: on purpose"' in line
    assert "at home" in line


def test_the_peak_is_that_of_the_greatest_program(scene: Scene) -> None:
    """It never falls."""
    for peak_bytes, greatest in ((5, 5), (7, 7), (6, 7)):
        scene.end(scene.begin(), EXIT_0, peak_bytes)
        assert scene.word(Service.PROGRAM_PEAK_BYTES) == greatest


def test_the_lines_about_failures_are_bounded(scene: Scene) -> None:
    """Those that are left out are counted in the next line."""
    lines = [logged(scene.end(scene.begin(), EXIT_3)) for _ in range(LINES_PER_S + 5)]
    assert sum(map(len, lines)) == LINES_PER_S
    index = scene.begin()
    end = ProcessEnd(decode_wait_status(EXIT_3), 0, 0)
    (line,) = logged(scene.roll.reaped(index, end, 20 * S))
    assert " suppressed=5" in line


def test_the_next_keeper_knows_who_has_to_end(scene: Scene) -> None:
    """And since when."""
    index = scene.begin()
    assert scene.roll.terminated_ns(index) == 0
    scene.roll.terminate(index, EndCause.SHUTDOWN)
    assert scene.roll.terminated_ns(index) > 0


def logged(ended: ProgramEnded) -> list[str]:
    """The lines about an end."""
    memory = MemorySink()
    ended.log_death(Log(memory.sink, "info", "text"), None, "so")  # type: ignore[arg-type]
    return list(memory.lines)


def test_the_errno_of_a_hostile_process_is_bounded() -> None:
    """No errno is that large: strerror(3) would raise."""
    words = SessionTable(1).entry(0)
    assert failed_step(words) is None
    words[Session.FAILED_STEP] = 1
    for told, number in ((2, 2), (4095, 4095), (4096, 0), (1 << 40, 0)):
        words[Session.FAILED_ERRNO] = told
        assert failed_step(words) == (layout.START_STEPS[0], number)
        assert refusal_of((layout.START_STEPS[0], number), None).reason
