"""Whether what the current configuration wants is there: which pools and slots lack a
ready child, and in which slots children keep dying early.

One ready child is enough for a pool whose children all serve the same. Where each slot
serves another service, every slot needs one. A draining child does not count.

Pure functions of the state. Called by :mod:`unpd.core.machine` at the start, and by
:mod:`unpd.master.status` at any time.
"""

from unpd.core.model import PoolKey, Slot, State
from unpd.core.policy import POLICIES
from unpd.names import ChildPhase


def is_ready(state: State) -> bool:
    """Whether every service has a ready child."""
    return not unready_pools(state) and not unready_slots(state)


def unready_pools(state: State) -> tuple[PoolKey, ...]:
    """The kinds that serve clients, each with a pool that has no ready child of it."""
    ready = {(slot.kind, slot.pool) for slot in _ready_slots(state)}
    return tuple(
        key
        for key, pool in state.wanted.pools.items()
        if POLICIES[key[0]].serves and not pool.services and key not in ready
    )


def unready_slots(state: State) -> tuple[Slot, ...]:
    """The slots without a ready child that alone serve a service."""
    ready = _ready_slots(state)
    return tuple(slot for _, slot in state.wanted.slots() if slot.service and slot not in ready)


def _ready_slots(state: State) -> set[Slot]:
    return {child.slot for child in state.children.values() if child.phase is ChildPhase.READY}


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
