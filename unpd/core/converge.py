"""Closes the difference between wanted and actual: spawns children into empty slots and
retires the children whose slots are no longer wanted.

Called by :mod:`unpd.core.machine` after every event, and by :mod:`unpd.core.reload`.
This is the only place that spawns children.
"""

from collections.abc import Iterator
from itertools import islice

from unpd.core.draft import Draft
from unpd.core.model import Slot, State
from unpd.names import MasterPhase

SPAWNS_PER_STEP = 16
"""A fork takes a millisecond or more. Two hundred in a row would block the loop."""


def vacant_slots(state: State) -> Iterator[tuple[int, Slot, float]]:
    """Every wanted slot that is empty, with its generation before it, and after it the
    time from which it may be filled (0.0: at once).
    """
    if state.phase is MasterPhase.STOPPING:
        return
    targets = [(state.generation, state.wanted)]
    if state.phase is MasterPhase.PROVING and state.candidate is not None:
        targets.append((state.last_generation, state.candidate))
    held = _held_slots(state)
    for generation, wanted in targets:
        for slot in wanted.slots():
            if (generation, slot) not in held:
                throttle = state.throttles.get((generation, slot))
                yield generation, slot, throttle.retry_at if throttle else 0.0


def _held_slots(state: State) -> set[tuple[int, Slot]]:
    children = state.children.values()
    return {(child.generation, child.slot) for child in children if not child.retired}


def converge(draft: Draft) -> None:
    """Spawn at most SPAWNS_PER_STEP children into empty slots (the next step, due at
    once, goes on), and retire the surplus children.
    """
    if draft.stopping:
        return
    due = (
        (generation, slot)
        for generation, slot, retry_at in vacant_slots(draft.state)
        if retry_at <= draft.now
    )
    for generation, slot in list(islice(due, SPAWNS_PER_STEP)):
        draft.spawn(generation, slot)
    _retire_surplus(draft)


def _retire_surplus(draft: Draft) -> None:
    """Retire the current children whose slots are not wanted; forget the throttles of
    such slots.
    """
    state = draft.state
    for child in list(state.children.values()):
        is_current = child.generation == state.generation and not child.retired
        if is_current and not state.wanted.has(child.slot):
            draft.retire(child)
    for generation, slot in list(state.throttles):
        if generation == state.generation and not state.wanted.has(slot):
            del state.throttles[generation, slot]
