"""The reload, from the request to the answer: the phases LOADING, CUTTING, PROVING.

At most two generations live at a time: before the children of the candidate are born,
the children that still drain from an earlier reload are cut. The candidate is adopted
when all its children are ready. A failed fork, a reported failure, a death, a hang or a
late start of one of them refuses it, and the current generation serves on as before.

Every request is answered once. Requests that come during a reload are answered by one
more reload after it.

Called by :mod:`unpd.core.machine`, whose tables name the functions here.
"""

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.converge import converge
from unpd.core.draft import Draft
from unpd.core.model import Child, State, Wanted
from unpd.names import ChildPhase, MasterPhase

RELOADING = (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)


# --- the request ----------------------------------------------------------------------


def asked(draft: Draft, event: ev.ReloadAsked) -> None:
    """Begin a reload: the shell reads the configuration."""
    _begin(draft, () if event.request is None else (event.request,))


def _begin(draft: Draft, requests: tuple[int, ...]) -> None:
    draft.state.phase = MasterPhase.LOADING
    draft.state.requests = requests
    draft.do(fx.LoadConfig())


def asked_during_reload(draft: Draft, event: ev.ReloadAsked) -> None:
    """Queue one more reload, which reads the file again after this one has ended."""
    queued = draft.state.queued_requests or ()
    draft.state.queued_requests = queued if event.request is None else (*queued, event.request)


def asked_during_stop(draft: Draft, event: ev.ReloadAsked) -> None:
    """Refuse the request: the daemon is stopping."""
    if event.request is not None:
        draft.do(fx.AnswerReload(event.request, "the daemon is stopping"))


def begin_queued(draft: Draft) -> None:
    """Begin the queued reload, if there is one."""
    requests, draft.state.queued_requests = draft.state.queued_requests, None
    if requests is not None:
        _begin(draft, requests)


# --- LOADING and CUTTING --------------------------------------------------------------


def config_loaded(draft: Draft, event: ev.ConfigLoaded) -> None:
    """Cut what still drains, to make room for the children of the candidate."""
    draft.state.candidate = event.wanted
    draft.state.phase = MasterPhase.CUTTING
    for child in _draining_generation(draft.state):
        if not child.finishing:
            draft.note_child(f"{child.slot.kind}.drain_cut", child)
            draft.cut_drain(child)


def config_refused(draft: Draft, event: ev.ConfigRefused) -> None:
    """End the reload. It has no children yet, and no listeners to close."""
    _end(draft, event.reason)


def _draining_generation(state: State) -> list[Child]:
    """The children that drain from an earlier reload, adopted or refused. Killed
    children do not count: one that the kernel cannot end must not hold up reloads.
    """
    return [
        child
        for child in state.children.values()
        if child.generation != state.generation and child.phase is ChildPhase.DRAINING
    ]


def settle_cutting(draft: Draft) -> None:
    """Order the children of the candidate as soon as no earlier generation drains."""
    if not _draining_generation(draft.state):
        draft.state.phase = MasterPhase.PROVING
        draft.state.last_generation += 1
        draft.note("reload.proving", generation=draft.state.last_generation)
        converge(draft)


# --- PROVING --------------------------------------------------------------------------


def is_candidate(state: State, child: Child) -> bool:
    """Whether the child belongs to the generation that is being proved."""
    return (
        state.phase is MasterPhase.PROVING
        and child.generation == state.last_generation
        and not child.retired
    )


def settle_proving(draft: Draft) -> None:
    """Adopt the candidate if all its children are ready. Refuse it if one was killed
    for being late or hung, even where the kernel cannot end that child yet.
    """
    state = draft.state
    if state.candidate is None:
        return
    proving = [child for child in state.children.values() if is_candidate(state, child)]
    ready = {child.slot for child in proving if child.phase is ChildPhase.READY}
    if any(child.phase is ChildPhase.KILLED for child in proving):
        refuse_candidate(draft, state.last_trouble)
        begin_queued(draft)
    elif all(slot in ready for slot in state.candidate.slots()):
        _adopt_candidate(draft, state.candidate)
        begin_queued(draft)


def refuse_candidate(draft: Draft, reason: str) -> None:
    """Drop the candidate and retire its children. The ready ones may have clients
    already, so they drain like any other child.
    """
    for child in list(draft.state.children.values()):
        if is_candidate(draft.state, child):
            draft.retire(child)
    draft.do(fx.DropConfig())
    _end(draft, reason)


def _adopt_candidate(draft: Draft, candidate: Wanted) -> None:
    state = draft.state
    old = state.generation
    state.generation, state.wanted = state.last_generation, candidate
    draft.do(fx.AdoptConfig(state.generation))
    _forget_throttles(state, old)
    for child in list(state.children.values()):
        if child.generation == old and not child.retired:
            draft.retire(child)
    _end(draft, "")


def _forget_throttles(state: State, generation: int) -> None:
    for key in [key for key in state.throttles if key[0] == generation]:
        del state.throttles[key]


# --- the end --------------------------------------------------------------------------


def _end(draft: Draft, refused: str) -> None:
    """Count, log and answer the reload. ``refused``: the reason, or "" for success."""
    draft.do(fx.CountReload(refused))
    if refused:
        draft.note("reload.refused", reason=refused, generation=draft.state.generation)
    else:
        draft.note("reload.succeeded", generation=draft.state.generation)
    _answer(draft, refused)
    draft.state.candidate = None
    draft.state.phase = MasterPhase.RUNNING


def abandon(draft: Draft, reason: str) -> None:
    """Drop the candidate and answer every waiting request, because the daemon stops."""
    state = draft.state
    if state.phase in RELOADING:
        draft.do(fx.DropConfig())
    state.requests = (*state.requests, *(state.queued_requests or ()))
    state.queued_requests = None
    state.candidate = None
    _answer(draft, reason)


def _answer(draft: Draft, refused: str) -> None:
    for request in draft.state.requests:
        draft.do(fx.AnswerReload(request, refused))
    draft.state.requests = ()
