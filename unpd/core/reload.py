"""A reload, from the asking to the answer: LOADING, CUTTING, PROVING.

Never three generations: what drains of an earlier reload is cut before the candidate is
born. The candidate is adopted when all its children are ready; whatever happens to one
of them before (a failed fork, a report, a death, a hang, the start timeout) refuses it,
and the generation that serves goes on as if nothing had been. Everybody who asks is
answered once; those who ask during a reload are answered by one more reload after it.
"""

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.converge import converge
from unpd.core.draft import Draft
from unpd.core.model import Child, State, Wanted
from unpd.names import ChildPhase, MasterPhase

RELOADING = (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)


def asked(draft: Draft, event: ev.ReloadAsked) -> None:
    """The shell shall read the configuration."""
    asked_by = () if event.request is None else (event.request,)
    _begin(draft, asked_by)


def _begin(draft: Draft, asked_by: tuple[int, ...]) -> None:
    draft.state.phase = MasterPhase.LOADING
    draft.state.asked_by = asked_by
    draft.do(fx.LoadConfig())


def asked_during(draft: Draft, event: ev.ReloadAsked) -> None:
    """Reloads that come during a reload become one more, after it: it reads what the
    file says then.
    """
    again = draft.state.asked_again or ()
    draft.state.asked_again = again if event.request is None else (*again, event.request)


def asked_too_late(draft: Draft, event: ev.ReloadAsked) -> None:
    """During the stop."""
    if event.request is not None:
        draft.do(fx.AnswerReload(event.request, "the daemon is stopping"))


def loaded(draft: Draft, event: ev.ConfigLoaded) -> None:
    """The candidate is valid: make room for its children."""
    draft.state.candidate = event.wanted
    draft.state.phase = MasterPhase.CUTTING
    for child in _draining_generation(draft.state):
        if not child.finishing:
            draft.note_child(f"{child.slot.kind}.drain_cut", child)
            draft.cut(child)


def refused_to_load(draft: Draft, event: ev.ConfigRefused) -> None:
    """Nothing has begun, nothing is to be undone."""
    _end(draft, event.reason)


def refuse_candidate(draft: Draft, reason: str) -> None:
    """Back to what was. The candidate's ready workers may have clients already, who are
    not to blame: they drain like any generation that is wanted no more.
    """
    for child in list(draft.state.children.values()):
        if is_candidate(draft.state, child):
            draft.dismiss(child)
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
            draft.dismiss(child)
    _end(draft, "")


def _end(draft: Draft, refused: str) -> None:
    draft.do(fx.CountReload(succeeded=not refused))
    if refused:
        draft.note("reload.refused", reason=refused, generation=draft.state.generation)
    else:
        draft.note("reload.succeeded", generation=draft.state.generation)
    _answer(draft, refused)
    draft.state.candidate = None
    draft.state.phase = MasterPhase.RUNNING


def abandon(draft: Draft, reason: str) -> None:
    """The daemon stops: who waits for a reload hears so, and the candidate is
    dropped.
    """
    state = draft.state
    if state.phase in RELOADING:
        draft.do(fx.DropConfig())
    state.asked_by, state.asked_again, state.candidate = (
        (*state.asked_by, *(state.asked_again or ())),
        None,
        None,
    )
    _answer(draft, reason)


def _answer(draft: Draft, refused: str) -> None:
    for request in draft.state.asked_by:
        draft.do(fx.AnswerReload(request, refused))
    draft.state.asked_by = ()


def _forget_throttles(state: State, generation: int) -> None:
    for key in [key for key in state.throttles if key[0] == generation]:
        del state.throttles[key]


def is_candidate(state: State, child: Child) -> bool:
    """Whether the child belongs to the generation that is being proved."""
    return (
        state.phase is MasterPhase.PROVING
        and child.generation == state.last_generation
        and not child.retired
    )


def _draining_generation(state: State) -> list[Child]:
    """What still drains of the generation before, or of a refused one. A killed child
    is as good as gone: an unkillable one must not hold up reloads.
    """
    return [
        c
        for c in state.children.values()
        if c.generation != state.generation and c.phase is ChildPhase.DRAINING
    ]


def settle_cutting(draft: Draft) -> None:
    """Never three generations: the new one is born when the old one is gone."""
    if not _draining_generation(draft.state):
        draft.state.phase = MasterPhase.PROVING
        draft.state.last_generation += 1
        draft.note("reload.proving", generation=draft.state.last_generation)
        converge(draft)


def settle_proving(draft: Draft) -> None:
    """All ready: adopted. One of them killed, for being late or hung: refused, even
    where the kernel cannot end it yet.
    """
    state = draft.state
    if state.candidate is None:
        return
    proving = [child for child in state.children.values() if is_candidate(state, child)]
    ready = {child.slot for child in proving if child.phase is ChildPhase.READY}
    if any(child.phase is ChildPhase.KILLED for child in proving):
        refuse_candidate(draft, state.last_trouble)
        begin_waiting(draft)
    elif all(slot in ready for slot in state.candidate.slots()):
        _adopt_candidate(draft, state.candidate)
        begin_waiting(draft)


def begin_waiting(draft: Draft) -> None:
    """Begin the reload that was asked for in the meantime, if one was."""
    if draft.state.asked_again is not None:
        asked_by, draft.state.asked_again = draft.state.asked_again, None
        _begin(draft, asked_by)
