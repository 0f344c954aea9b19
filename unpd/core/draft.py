"""The working copy of one step: a state that may change, and the effects so far.

Every change of a child goes through :meth:`Draft.put`, so that the scoreboard never
misses a phase.
"""

from dataclasses import replace

from unpd.core import effects as fx
from unpd.core.model import Child, Slot, State
from unpd.core.policy import CUT_GRACE_S, LAST_SHARE, policy_of
from unpd.names import ChildOrder, ChildPhase, MasterPhase

ABORT_GRACE_S = 2.0
"""How long a hung child has to print its stack before SIGKILL."""
QUICK_GRACE_S = 1.0


def sooner(deadline_at: float | None, other_at: float) -> float:
    """The earlier of the two; None never comes."""
    return other_at if deadline_at is None else min(deadline_at, other_at)


class Draft:
    """One step's state, effects and time."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state.copy()
        self.effects: list[fx.Effect] = []
        self.now = now

    def do(self, effect: fx.Effect) -> None:
        """Order ``effect``."""
        self.effects.append(effect)

    def note(self, event: str, **fields: fx.Field) -> None:
        """Order a line of the log."""
        self.do(fx.Note(event, tuple(fields.items())))

    def note_child(self, event: str, child: Child, **fields: fx.Field) -> None:
        """Order a line of the log about a child."""
        slot = child.slot
        self.note(
            event,
            pool=slot.pool,
            index=slot.index,
            birth=child.birth,
            generation=child.generation,
            **fields,
        )

    def put(self, child: Child) -> None:
        """Store the child as it is now."""
        before = self.state.children.get(child.birth)
        self.state.children[child.birth] = child
        if before is not None and before.phase is not child.phase:
            self.do(fx.ShowPhase(child))

    def spawn(self, generation: int, slot: Slot) -> None:
        """Order the birth of a child in ``slot``."""
        wanted = (
            self.state.candidate
            if generation != self.state.generation and self.state.candidate
            else self.state.wanted
        )
        deadline_at = self.now + wanted.limits.start_timeout_s
        child = Child(
            self.state.next_birth,
            slot,
            generation,
            ChildPhase.STARTING,
            self.now,
            deadline_at=deadline_at,
        )
        self.state.next_birth += 1
        self.state.children[child.birth] = child
        self.do(fx.Spawn(child))

    def tell(self, child: Child, order: ChildOrder) -> None:
        """Order a signal to the child."""
        self.do(fx.Tell(child.birth, order))

    def retire(self, child: Child) -> None:
        """The child is wanted no more, its connections are: it drains for
        ``reload_grace_s``. An exporter has none that last.
        """
        grace_s = policy_of(child).drain_s(self.state.wanted.limits)
        deadline_at = self.now + grace_s if grace_s else None
        self.tell(child, ChildOrder.RETIRE)
        self.put(replace(child, phase=ChildPhase.DRAINING, retired=True, deadline_at=deadline_at))

    def dismiss(self, child: Child) -> None:
        """The child's slot is wanted no more: it drains. One that starts may accept
        before its report is read, so it drains too; an aborted one goes on printing its
        stack.
        """
        if child.phase is ChildPhase.READY:
            self.retire(child)
        elif child.phase is ChildPhase.STARTING:
            self.tell(child, ChildOrder.RETIRE)
            self.put(
                replace(child, phase=ChildPhase.DRAINING, retired=True)
            )  # with the deadline of its start: it may be hung
        else:
            self.put(replace(child, retired=True))

    def cut(self, child: Child) -> None:
        """The child has drained long enough: its connections end now."""
        self.tell(child, ChildOrder.FINISH)
        self.put(
            replace(
                child,
                phase=ChildPhase.DRAINING,
                retired=True,
                finishing=True,
                deadline_at=self.now + CUT_GRACE_S,
            )
        )

    def finish(self, child: Child, deadline_at: float) -> None:
        """The daemon stops: the child ends its connections until ``deadline_at``."""
        self.tell(child, ChildOrder.FINISH)
        self.put(
            replace(
                child,
                phase=ChildPhase.DRAINING,
                retired=True,
                finishing=True,
                deadline_at=deadline_at,
            )
        )

    def kill(self, child: Child, retired: bool) -> None:
        """SIGKILL; ``retired``: its slot is not to be filled for it again."""
        self.tell(child, ChildOrder.KILL)
        self.put(
            replace(
                child, phase=ChildPhase.KILLED, deadline_at=None, retired=child.retired or retired
            )
        )

    def abort(self, child: Child) -> float:
        """SIGABRT; SIGKILL when its time to print a stack is over, which this returns.
        It gets no more than it had anyway, nor than the daemon has to be gone.
        """
        self.tell(child, ChildOrder.ABORT)
        deadline_at = sooner(child.deadline_at, self.now + ABORT_GRACE_S)
        if self.stopping:
            deadline_at = min(deadline_at, self.gone_by)
        self.put(replace(child, phase=ChildPhase.KILLED, deadline_at=deadline_at))
        return deadline_at - self.now

    def hasten(self, child: Child, deadline_at: float) -> None:
        """A child that is on its way out is killed by ``deadline_at``; one that was
        sent SIGKILL needs no more.
        """
        if child.deadline_at is not None:
            self.put(replace(child, deadline_at=sooner(child.deadline_at, deadline_at)))

    @property
    def stopping(self) -> bool:
        """Whether the daemon is on its way out."""
        return self.state.phase is MasterPhase.STOPPING

    @property
    def gone_by(self) -> float:
        """When the stop that is under way has no more time for any child; now, if that
        is past.
        """
        return max(
            self.now, self.state.stop_began_at + LAST_SHARE * self.state.wanted.limits.grace_s
        )
