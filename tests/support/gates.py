"""Gates for tests: the shared memory that admissions read and write, of one process."""

import contextlib

from unpd.board.denied import DeniedWriter
from unpd.board.halted import HaltedWriter
from unpd.board.memory import Scoreboard
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Shape, SourceCounts, create
from unpd.worker.admission import Gate
from unpd.worker.counted import Shown


def make_gate(
    stack: contextlib.ExitStack,
    board: Scoreboard,
    denied: DeniedWriter | None = None,
    halted: HaltedWriter | None = None,
) -> Gate:
    """Make the gate of a process with row 0. ``denied``: who is denied; nobody without
    it. ``halted``: which services are; none without it. ``stack`` closes it.
    """
    sources = create(Shape(buckets=64, entries=4))
    stack.callback(sources.close)
    shown = Shown(
        sources=sources,
        counts=SourceCounts(sources, lambda: 1),
        denied=(denied or DeniedWriter()).denied,
        halted=(halted or HaltedWriter()).halted,
        master=board.words,
    )
    return Gate(shown, SourceLane(sources, 0))
