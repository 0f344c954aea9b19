"""What is left of earlier configurations: the retired children, and the sessions of
retired dispatchers that were killed, which the master keeps.

Asked by the status and by :mod:`unpd.master.waiting`. Reads the core's state, the lanes
and the counts of the scoreboard. Owns nothing; raises nothing.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

from unpd.core.model import State
from unpd.logs import moment
from unpd.loop import now
from unpd.master.children.lanes import Lane
from unpd.master.runtime import Runtime


@dataclass(slots=True)
class Left:
    """What is left of a generation: retired children that have not ended, and
    connections. ``ends_at``: when the last of these have to end, inf: they may last.
    """

    children: int = 0
    connections: int = 0
    ends_at: float = -math.inf

    def add(self, children: int, connections: int, ends_at: float) -> None:
        """Count more."""
        self.children += children
        self.connections += connections
        self.ends_at = max(self.ends_at, ends_at)


def is_any_left(runtime: Runtime, state: State) -> bool:
    """Whether anything is left. It counts nothing, so ask it as often as you like."""
    return any(child.retired for child in state.children.values()) or bool(
        _lanes_left(runtime, state)
    )


def left_by_generation(runtime: Runtime, state: State) -> dict[int, Left]:
    """What is left, the earliest generation first."""
    found: dict[int, Left] = {}
    for child in state.children.values():
        if child.retired:
            connections = runtime.open_connections(child.birth)
            left = found.setdefault(child.generation, Left())
            left.add(1, connections, child.drain_ends_at)
    for lane in _lanes_left(runtime, state):
        sessions = len(lane.roll.enrolled) if lane.roll else 0
        ends_at = math.inf if lane.ends_at is None else lane.ends_at
        found.setdefault(lane.generation, Left()).add(0, sessions, ends_at)
    return dict(sorted(found.items()))


def all_left(runtime: Runtime, state: State) -> Left:
    """What is left of all generations together."""
    total = Left()
    for left in left_by_generation(runtime, state).values():
        total.add(left.children, left.connections, left.ends_at)
    return total


def _lanes_left(runtime: Runtime, state: State) -> list[Lane]:
    """The lanes without a dispatcher that get none any more."""
    return [lane for lane in runtime.lanes.unkept() if not state.wants(lane.generation, lane.slot)]


def retired(runtime: Runtime, state: State) -> list[dict[str, Any]]:
    """What is left, as :data:`unpd.control.status_fields.STATUS` has it."""
    return [
        {
            "generation": generation,
            "children": left.children,
            "connections": left.connections,
            "drain_ends_at": moment_of(left.ends_at),
        }
        for generation, left in left_by_generation(runtime, state).items()
    ]


def moment_of(at: float) -> str | None:
    """A deadline in UTC; None if it never comes."""
    return moment(time.time() + at - now()) if math.isfinite(at) else None
