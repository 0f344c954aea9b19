"""What happens to one child: a table of phase and happening. A pair that is missing is
an error; the tests walk all pairs.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from unpd.core.draft import Draft
from unpd.core.model import Child
from unpd.core.policy import policy_of
from unpd.names import ChildPhase


class Happening(enum.Enum):
    """What can happen to a child that still lives."""

    REPORTED_READY = enum.auto()
    REPORTED_FAILURE = enum.auto()
    """It cannot serve and leaves by itself."""
    OVERDUE = enum.auto()
    """Its phase lasted longer than its deadline."""
    FELL_SILENT = enum.auto()
    """Its heartbeat is older than heartbeat_timeout_s."""


Action = Callable[[Draft, Child], None]


def _became_ready(draft: Draft, child: Child) -> None:
    draft.put(replace(child, phase=ChildPhase.READY, ready_at=draft.now, deadline_at=None))
    draft.note_child(f"{child.slot.kind}.ready", child)


def _start_timed_out(draft: Draft, child: Child) -> None:
    draft.state.last_trouble = f"{child.slot.kind} {child.slot} was not ready in time"
    draft.note_child(
        f"{child.slot.kind}.start_timed_out",
        child,
        after_s=round(draft.now - child.born_at, 3),
    )
    draft.kill(child, retired=False)


def _drain_timed_out(draft: Draft, child: Child) -> None:
    if child.finishing or not policy_of(child).finish_before_kill:
        draft.note_child(f"{child.slot.kind}.drain_timed_out", child)
        draft.kill(child, retired=True)
    else:
        draft.note_child(f"{child.slot.kind}.drain_cut", child)
        draft.cut(child)


def _kill_hung(draft: Draft, child: Child) -> None:
    draft.state.last_trouble = f"{child.slot.kind} {child.slot} was hung"
    kill_in_s = draft.abort(child)
    draft.note_child(f"{child.slot.kind}.hung", child, kill_in_s=round(kill_in_s, 3))


def _kill_again(draft: Draft, child: Child) -> None:
    draft.kill(child, retired=False)


def _nothing(draft: Draft, child: Child) -> None:
    """Already on its way out, or too early to matter."""


CHILD_TABLE: Mapping[tuple[ChildPhase, Happening], Action] = MappingProxyType(
    {
        (ChildPhase.STARTING, Happening.REPORTED_READY): _became_ready,
        (
            ChildPhase.STARTING,
            Happening.REPORTED_FAILURE,
        ): _nothing,  # its exit follows and is accounted for
        (ChildPhase.STARTING, Happening.OVERDUE): _start_timed_out,
        (ChildPhase.STARTING, Happening.FELL_SILENT): _nothing,  # the start timeout watches
        (ChildPhase.READY, Happening.REPORTED_READY): _nothing,
        (ChildPhase.READY, Happening.REPORTED_FAILURE): _nothing,
        (ChildPhase.READY, Happening.OVERDUE): _nothing,
        (ChildPhase.READY, Happening.FELL_SILENT): _kill_hung,
        (ChildPhase.DRAINING, Happening.REPORTED_READY): _nothing,  # the report crossed our order
        (ChildPhase.DRAINING, Happening.REPORTED_FAILURE): _nothing,
        (ChildPhase.DRAINING, Happening.OVERDUE): _drain_timed_out,
        (ChildPhase.DRAINING, Happening.FELL_SILENT): _kill_hung,
        (ChildPhase.KILLED, Happening.REPORTED_READY): _nothing,
        (ChildPhase.KILLED, Happening.REPORTED_FAILURE): _nothing,
        (ChildPhase.KILLED, Happening.OVERDUE): _kill_again,
        (ChildPhase.KILLED, Happening.FELL_SILENT): _nothing,
    }
)


def happened(draft: Draft, birth: int, happening: Happening) -> None:
    """Apply the table to the child, if it still lives (an event may have crossed its
    death).
    """
    child = draft.state.children.get(birth)
    if child is not None:
        CHILD_TABLE[child.phase, happening](draft, child)
