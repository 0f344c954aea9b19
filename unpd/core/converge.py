"""Closes the difference between wanted and actual: spawns children into empty slots,
retires the children whose slots are no longer wanted, and bounds how many reloads may
have retired children that still drain.

This is the only place that spawns or retires children. :mod:`unpd.core.machine` calls
:func:`converge` after every event. It and :mod:`unpd.core.reload` call
:func:`retire_surplus` or :func:`make_room` where they change what is wanted. An event
of one child among 900 must not look at the slots of all: at a reload 900 children
report within start_timeout_s.
"""

from collections.abc import Iterator
from itertools import chain, islice

from unpd.core.draft import Draft
from unpd.core.model import Child, Slot, State
from unpd.names import ChildPhase, MasterPhase

SPAWNS_PER_STEP = 16
"""A fork takes a millisecond or more. Two hundred in a row would block the loop."""

MAX_RETIRED_GENERATIONS = 8
"""How many generations of retired children may drain at a time; one more ends the
connections of the oldest. Without a bound, ``reload_grace_s = 0`` and a client that
never leaves would keep a process for each reload, for ever.

Children that were retired between two reloads, by a signal, count to the reload before.
Those of refused candidates count apart, up to the same number: a reload that changes
nothing must not end the connections of an older generation.
"""


def vacant_slots(state: State) -> Iterator[tuple[int, Slot, float]]:
    """Every wanted slot that is empty, with its generation before it, and after it the
    time from which it may be filled (0.0: at once).
    """
    if state.phase is MasterPhase.STOPPING:
        return
    proved = state.proved
    holders = [child for child in state.children.values() if not child.retired]
    # Each child that is not retired holds a wanted slot, and no slot has two holders.
    added = proved.count_added_to(state.wanted) if proved else 0
    if len(holders) == state.wanted.count + added:
        return
    held = {(child.generation, child.slot) for child in holders}
    added_slots = proved.added_to(state.wanted) if proved else iter(())
    for generation, slot in chain(state.wanted.slots(), added_slots):
        if (generation, slot) not in held:
            throttle = state.throttles.get((generation, slot))
            yield generation, slot, throttle.retry_at if throttle else 0.0


def converge(draft: Draft) -> None:
    """Spawn at most SPAWNS_PER_STEP children into empty slots. The next step, due at
    once, goes on.
    """
    due = (
        (generation, slot)
        for generation, slot, retry_at in vacant_slots(draft.state)
        if retry_at <= draft.now
    )
    for generation, slot in list(islice(due, SPAWNS_PER_STEP)):
        draft.spawn(generation, slot)


def retire_surplus(draft: Draft) -> None:
    """Retire the children whose slots neither the current configuration nor the
    candidate wants, and limit the drains that need not last any more; forget the
    throttles of such slots. Then make room.

    Called wherever one of these two wants less than before.
    """
    state = draft.state
    for child in list(state.children.values()):
        if not (child.retired or state.is_current(child) or state.is_candidate(child)):
            draft.retire(child)
        elif _is_spared_in_vain(child, state):
            draft.spare_no_more(child)
    for generation, slot in list(state.throttles):
        if not state.wanted.has(generation, slot):
            del state.throttles[generation, slot]
    make_room(draft)


def _is_spared_in_vain(child: Child, state: State) -> bool:
    """Whether the child drains without a limit, which it was not to have if it were
    retired now.
    """
    drains = child.spared and child.phase is ChildPhase.DRAINING and not child.finishing
    return drains and not state.wanted.spares(child.generation, child.slot)


def make_room(draft: Draft) -> None:
    """Cut the drains of more than MAX_RETIRED_GENERATIONS generations, and as many more
    as the wanted children need: those of refused candidates first, then the oldest.

    Called wherever more children are wanted or retired than before.
    """
    state = draft.state
    refused, replaced = _lingering(state, refused=True), _lingering(state, refused=False)
    cut = _too_old(refused) + _too_old(replaced)
    ending = sum(child.finishing for child in state.children.values() if child.retired)
    others = [child for child in refused + replaced if child not in cut]
    cut += others[: max(0, missing_room(state) - ending - len(cut))]
    for child in cut:
        draft.note_child(f"{child.slot.kind}.drain_cut", child)
        draft.cut_drain(child)


def _lingering(state: State, *, refused: bool) -> list[Child]:
    """The children that drain and may keep their connections, the first retired first.
    ``refused``: those of refused candidates; otherwise, the others.
    """
    found = [
        child
        for child in state.children.values()
        if child.refused == refused
        and child.retired
        and child.phase is ChildPhase.DRAINING
        and not child.finishing
    ]
    return sorted(found, key=lambda child: (child.retired_by, child.birth))


def _too_old(draining: list[Child]) -> list[Child]:
    """Those of more than MAX_RETIRED_GENERATIONS generations."""
    kept = sorted({child.retired_by or 0 for child in draining})[-MAX_RETIRED_GENERATIONS:]
    return [child for child in draining if child.retired_by not in kept]


def missing_room(state: State) -> int:
    """How many retired children have to go, so that all children that the current
    configuration and the candidate want have room beside the others; 0 or less: none.
    """
    retired = sum(child.retired for child in state.children.values())
    added = state.candidate.count_added_to(state.wanted) if state.candidate else 0
    return retired + state.wanted.count + added - state.max_children
