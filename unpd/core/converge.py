"""Closing the difference between wanted and actual: slots to fill, children to retire.
The only place from which children are born.
"""

from collections.abc import Iterator
from itertools import islice

from unpd.core.draft import Draft
from unpd.core.model import Slot, State
from unpd.names import MasterPhase

SPAWNS_PER_STEP = 16
"""A fork takes a millisecond or more: two hundred in a row would keep the loop from
everything else.
"""


def _held(state: State) -> set[tuple[int, Slot]]:
    return {
        (child.generation, child.slot) for child in state.children.values() if not child.retired
    }


def vacant(state: State) -> Iterator[tuple[int, Slot, float]]:
    """The slots that are wanted and empty, by generation, and from when on each may be
    filled (0.0: at once).
    """
    if state.phase is MasterPhase.STOPPING:
        return
    targets = [(state.generation, state.wanted)]
    if state.phase is MasterPhase.PROVING and state.candidate is not None:
        targets.append((state.last_generation, state.candidate))
    held = _held(state)
    for generation, wanted in targets:
        for slot in wanted.slots():
            if (generation, slot) not in held:
                throttle = state.throttles.get((generation, slot))
                yield generation, slot, throttle.retry_at if throttle else 0.0


def converge(draft: Draft) -> None:
    """Fill the slots that are wanted and empty, a batch at a time (the rest is due at
    once, in the next step); retire the children whose slots are wanted no more.
    """
    if draft.stopping:
        return
    due = (
        (generation, slot)
        for generation, slot, retry_at in vacant(draft.state)
        if retry_at <= draft.now
    )
    for generation, slot in list(islice(due, SPAWNS_PER_STEP)):
        draft.spawn(generation, slot)
    _retire_surplus(draft)


def _retire_surplus(draft: Draft) -> None:
    state = draft.state
    for child in list(state.children.values()):
        if (
            child.generation == state.generation
            and _is_surplus(state, child.slot)
            and not child.retired
        ):
            draft.dismiss(child)
    for generation, slot in list(state.throttles):
        if generation == state.generation and _is_surplus(state, slot):
            del state.throttles[generation, slot]


def _is_surplus(state: State, slot: Slot) -> bool:
    return not state.wanted.has(slot)
