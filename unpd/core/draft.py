"""The working copy of one step: a state that may change, and the effects so far.

Made by :func:`unpd.core.machine.step`; every function of the core that changes the
state takes a draft. Every change of a child goes through :meth:`Draft.put`, so that the
scoreboard shows each phase.
"""

import math
from dataclasses import replace

from unpd.core import effects as fx
from unpd.core.model import Child, Limits, Slot, State
from unpd.core.policy import CUT_GRACE_S, LAST_SHARE, drain_end
from unpd.log_events.row import Field
from unpd.names import ChildOrder, ChildPhase, MasterPhase

ABORT_GRACE_S = 2.0
"""How long a hung child has to print its stack before SIGKILL."""
QUICK_GRACE_S = 1.0
"""How long a child has to end at a quick stop before SIGKILL."""


def sooner(deadline_at: float | None, other_at: float) -> float:
    """The earlier of two deadlines; None is a deadline that never comes."""
    return other_at if deadline_at is None else min(deadline_at, other_at)


class Draft:
    """The state, the effects and the time of one step."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state.copy()
        self.effects: list[fx.Effect] = []
        self.now = now

    def do(self, effect: fx.Effect) -> None:
        """Order ``effect``."""
        self.effects.append(effect)

    def note(self, event: str, **fields: Field) -> None:
        """Order a line of the log."""
        self.do(fx.Note(event, tuple(fields.items())))

    def note_child(self, event: str, child: Child, **fields: Field) -> None:
        """Order a line of the log about a child. It names the service of a slot that
        alone serves one.
        """
        slot = child.slot
        if slot.service:
            fields = {"service": slot.service, **fields}
        self.note(
            event,
            pool=slot.pool,
            index=slot.index,
            birth=child.birth,
            generation=child.generation,
            **fields,
        )

    def put(self, child: Child) -> None:
        """Replace the child's record by ``child``; show its phase if that changed."""
        before = self.state.children.get(child.birth)
        self.state.children[child.birth] = child
        if before is not None and before.phase is not child.phase:
            self.do(fx.ShowPhase(child))

    def spawn(self, generation: int, slot: Slot) -> None:
        """Order the birth of a child in ``slot``."""
        state = self.state
        child = Child(
            birth=state.next_birth,
            slot=slot,
            generation=generation,
            phase=ChildPhase.STARTING,
            born_at=self.now,
        )
        deadline_at = self.now + self.limits_of(child).start_timeout_s
        child = replace(child, deadline_at=deadline_at)
        state.next_birth += 1
        state.children[child.birth] = child
        self.do(fx.Spawn(child))

    def limits_of(self, child: Child) -> Limits:
        """The limits of the configuration to which the child belongs."""
        if self.state.candidate is not None and self.state.is_candidate(child):
            return self.state.candidate.limits
        return self.state.wanted.limits

    def tell(self, child: Child, order: ChildOrder) -> None:
        """Order a signal to the child."""
        self.do(fx.Tell(child.birth, order))

    def retire(self, child: Child) -> None:
        """Let the child drain and take its slot away: the slot is no longer wanted.

        A starting child may accept connections before its report is read, so it drains
        too. It keeps the deadline of its start, because it may be hung. A child that
        drains already, or prints its stack after SIGABRT, goes on with that.
        """
        if child.phase is ChildPhase.READY:
            self._drain(child)
        elif child.phase is ChildPhase.STARTING:
            self.tell(child, ChildOrder.RETIRE)
            self.put(replace(self._retired(child), phase=ChildPhase.DRAINING))
        else:
            self.put(self._retired(child))

    def _retired(self, child: Child) -> Child:
        """The child without its slot. A second retirement changes nothing. A child that
        a signal has removed counts to the last reload that was adopted.
        """
        if child.retired:
            return child
        state = self.state
        return replace(
            child,
            retired_by=state.last_generation if child.refused else state.generation,
            drain_ends_at=self._drain_end(child),
            spared=state.wanted.spares(child.generation, child.slot),
        )

    def _drain(self, child: Child) -> None:
        """Let the child keep its connections for as long as its policy says."""
        self.tell(child, ChildOrder.RETIRE)
        ends_at = self._drain_end(child)
        deadline_at = None if ends_at == math.inf else ends_at
        draining = replace(child, phase=ChildPhase.DRAINING, deadline_at=deadline_at)
        self.put(self._retired(draining))

    def _drain_end(self, child: Child) -> float:
        """When the connections of the child have to end, if it retires now; inf: they
        may last.
        """
        wanted = self.state.wanted
        if wanted.spares(child.generation, child.slot):
            return math.inf
        return drain_end(child.slot, wanted.limits, self.now)

    def spare_no_more(self, child: Child) -> None:
        """Limit the drain of a child that was spared: by now, more than the rules has
        changed.
        """
        ends_at = self._drain_end(child)
        deadline_at = None if ends_at == math.inf else ends_at
        self.put(replace(child, deadline_at=deadline_at, drain_ends_at=ends_at, spared=False))

    def cut_drain(self, child: Child) -> None:
        """End the child's drain: it has CUT_GRACE_S to end its connections."""
        self.finish(child, self.now + CUT_GRACE_S)

    def finish(self, child: Child, deadline_at: float) -> None:
        """Have the child end its connections gracefully until ``deadline_at``."""
        self.tell(child, ChildOrder.FINISH)
        self._put_finishing(child, deadline_at)

    def leave(self, child: Child, deadline_at: float) -> None:
        """Have the child drop its connections and end until ``deadline_at``. It never
        gets more time than it had before.
        """
        self.tell(child, ChildOrder.LEAVE)
        self._put_finishing(child, sooner(child.deadline_at, deadline_at))

    def _put_finishing(self, child: Child, deadline_at: float) -> None:
        draining = replace(child, phase=ChildPhase.DRAINING, deadline_at=deadline_at)
        retired = self._retired(replace(draining, finishing=True))
        self.put(replace(retired, drain_ends_at=deadline_at))

    def kill(self, child: Child, retired: bool) -> None:
        """Send SIGKILL. ``retired``: the child also loses its slot."""
        self.tell(child, ChildOrder.KILL)
        killed = replace(child, phase=ChildPhase.KILLED, deadline_at=None)
        self.put(self._retired(killed) if retired else killed)

    def abort(self, child: Child) -> float:
        """Send SIGABRT, which makes the child print its stack. Return the seconds until
        SIGKILL: ABORT_GRACE_S, but never more than the child or the daemon had left.
        """
        self.tell(child, ChildOrder.ABORT)
        deadline_at = sooner(child.deadline_at, self.now + ABORT_GRACE_S)
        if self.stopping:
            deadline_at = min(deadline_at, self.stop_ends_at)
        self.put(replace(child, phase=ChildPhase.KILLED, deadline_at=deadline_at))
        return deadline_at - self.now

    def bring_forward(self, child: Child, deadline_at: float) -> None:
        """Bring the child's deadline forward to ``deadline_at``, if that is earlier. A
        child without a deadline was sent SIGKILL, or drains without a limit, and stays
        as it is.
        """
        if child.deadline_at is not None:
            self.put(replace(child, deadline_at=sooner(child.deadline_at, deadline_at)))

    @property
    def stopping(self) -> bool:
        """Whether the daemon is stopping."""
        return self.state.phase is MasterPhase.STOPPING

    @property
    def stop_ends_at(self) -> float:
        """When the stop under way has no more time for any child; ``now`` if that
        moment is past.
        """
        longest_s = LAST_SHARE * self.state.wanted.limits.grace_s
        return max(self.now, self.state.stop_began_at + longest_s)
