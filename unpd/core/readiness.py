"""Whether the generation that serves is whole: which pools lack a ready child, and
which slots keep losing theirs.

Pure functions of the state. The core asks at the start; the status and the service
manager's announcements ask at any time.
"""

from unpd.core.model import Slot, State
from unpd.core.policy import POLICIES
from unpd.names import ChildPhase


def unready_pools(state: State) -> tuple[str, ...]:
    """Pools of the current generation that clients are served from and that have no
    ready child. A draining child does not count.
    """
    ready = {
        (child.slot.kind, child.slot.pool)
        for child in state.children.values()
        if child.phase is ChildPhase.READY
    }
    return tuple(
        pool
        for kind, pool in state.wanted.children
        if POLICIES[kind].serves and (kind, pool) not in ready
    )


def throttled(state: State) -> tuple[Slot, ...]:
    """Slots of the current generation that keep losing their children before long."""
    return tuple(
        slot
        for (generation, slot), throttle in sorted(state.throttles.items())
        if generation == state.generation and throttle.failures and not _is_ready(state, slot)
    )


def _is_ready(state: State, slot: Slot) -> bool:
    holder = state.holder(state.generation, slot)
    return holder is not None and holder.phase is ChildPhase.READY
