"""Whether what the current configuration wants is there: which pools lack a ready
child, and in which slots children keep dying early.

Pure functions of the state. Called by :mod:`unpd.core.machine` at the start, and by
:mod:`unpd.master.status` at any time.
"""

from unpd.core.model import PoolKey, Slot, State
from unpd.core.policy import POLICIES
from unpd.names import ChildPhase


def unready_pools(state: State) -> tuple[PoolKey, ...]:
    """The kinds that serve clients, each with a pool that has no ready child of it. A
    draining child does not count.
    """
    ready = {
        (child.slot.kind, child.slot.pool)
        for child in state.children.values()
        if child.phase is ChildPhase.READY
    }
    return tuple(key for key in state.wanted.pools if POLICIES[key[0]].serves and key not in ready)


def throttled(state: State) -> tuple[Slot, ...]:
    """The slots whose children keep dying early."""
    return tuple(
        slot
        for (generation, slot), throttle in sorted(state.throttles.items())
        if throttle.failures and not _is_ready(state, generation, slot)
    )


def _is_ready(state: State, generation: int, slot: Slot) -> bool:
    holder = state.holder(generation, slot)
    return holder is not None and holder.phase is ChildPhase.READY
