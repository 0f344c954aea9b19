"""The transitions of one child: what each happening means in each phase.

:data:`CHILD_TABLE` names every pair, and the tests walk all pairs; a pair that is
missing is an error. Called by :mod:`unpd.core.machine`; changes the child through its
:class:`~unpd.core.draft.Draft`.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from unpd.core.draft import Draft
from unpd.core.model import Child
from unpd.core.policy import policy_of
from unpd.names import ChildPhase, kind_words


class Happening(enum.Enum):
    """What can happen to a living child."""

    REPORTED_READY = enum.auto()
    REPORTED_FAILURE = enum.auto()
    """The child cannot serve and is about to exit."""
    OVERDUE = enum.auto()
    """The deadline of the child's phase has passed."""
    FELL_SILENT = enum.auto()
    """The child's heartbeat is older than heartbeat_timeout_s."""


Action = Callable[[Draft, Child], None]


def _became_ready(draft: Draft, child: Child) -> None:
    draft.put(replace(child, phase=ChildPhase.READY, ready_at=draft.now, deadline_at=None))
    draft.note_child(f"{child.slot.kind}.ready", child)


def _start_timed_out(draft: Draft, child: Child) -> None:
    kind = kind_words(child.slot.kind)
    draft.state.last_trouble = f"{kind} {child.slot} was not ready in time"
    after_s = round(draft.now - child.born_at, 3)
    draft.note_child(f"{child.slot.kind}.start_timed_out", child, after_s=after_s)
    draft.kill(child, retired=False)


def _drain_timed_out(draft: Draft, child: Child) -> None:
    if child.finishing or not policy_of(child).finish_before_kill:
        draft.note_child(f"{child.slot.kind}.drain_timed_out", child)
        draft.kill(child, retired=True)
    else:
        draft.note_child(f"{child.slot.kind}.drain_cut", child)
        draft.cut_drain(child)


def _kill_hung(draft: Draft, child: Child) -> None:
    draft.state.last_trouble = f"{kind_words(child.slot.kind)} {child.slot} was hung"
    kill_in_s = draft.abort(child)
    draft.note_child(f"{child.slot.kind}.hung", child, kill_in_s=round(kill_in_s, 3))


def _kill_again(draft: Draft, child: Child) -> None:
    draft.kill(child, retired=False)


def _nothing(draft: Draft, child: Child) -> None:
    """Change nothing: the child is on its way out, or its exit is still to come."""


_STARTING: Mapping[Happening, Action] = MappingProxyType(
    {
        Happening.REPORTED_READY: _became_ready,
        # The exit of the child follows, and is accounted for then.
        Happening.REPORTED_FAILURE: _nothing,
        Happening.OVERDUE: _start_timed_out,
        # The start timeout watches the child instead.
        Happening.FELL_SILENT: _nothing,
    }
)
_READY: Mapping[Happening, Action] = MappingProxyType(
    {
        Happening.REPORTED_READY: _nothing,
        Happening.REPORTED_FAILURE: _nothing,
        Happening.OVERDUE: _nothing,
        Happening.FELL_SILENT: _kill_hung,
    }
)
_DRAINING: Mapping[Happening, Action] = MappingProxyType(
    {
        # The report crossed the order to retire.
        Happening.REPORTED_READY: _nothing,
        Happening.REPORTED_FAILURE: _nothing,
        Happening.OVERDUE: _drain_timed_out,
        Happening.FELL_SILENT: _kill_hung,
    }
)
_KILLED: Mapping[Happening, Action] = MappingProxyType(
    {
        Happening.REPORTED_READY: _nothing,
        Happening.REPORTED_FAILURE: _nothing,
        Happening.OVERDUE: _kill_again,
        Happening.FELL_SILENT: _nothing,
    }
)

CHILD_TABLE: Mapping[ChildPhase, Mapping[Happening, Action]] = MappingProxyType(
    {
        ChildPhase.STARTING: _STARTING,
        ChildPhase.READY: _READY,
        ChildPhase.DRAINING: _DRAINING,
        ChildPhase.KILLED: _KILLED,
    }
)
"""What each happening means in each phase."""


def happened(draft: Draft, birth: int, happening: Happening) -> None:
    """Apply the table to the child. If its death crossed the event, change nothing."""
    child = draft.state.children.get(birth)
    if child is not None:
        CHILD_TABLE[child.phase][happening](draft, child)
