"""The reload, from the request to the answer: the phases LOADING, CUTTING, PROVING.

A pool whose recipe did not change keeps its children and its generation. So the
candidate's children are those of the other pools, and those by which a pool grows. The
candidate is adopted when all its children are ready; only then are the old children of
the changed pools retired. A failed fork, a reported failure, a death, a hang or a late
start of a candidate's child refuses it, and the daemon serves on as before.

The retired children of several reloads drain side by side
(:data:`unpd.core.converge.MAX_RETIRED_GENERATIONS`). They are cut before the proof only
where the new children would have no room beside them: a candidate that is refused would
have ended connections in vain. If there is no room after CUTTING_S all the same, the
reload is refused.

Every request is answered once. Requests that come during a reload are answered by one
more reload after it.

A renewal of listeners runs like a reload, but nobody asked for it and no file is read.
So it does not count as one, and it keeps the numbers of workers that signals have set.
A lame daemon still serves everybody, so a renewal goes on when the daemon becomes lame,
and may begin then. The phase stays LAME: its end must not wait, and so the renewal does
not wait for room.

Called by :mod:`unpd.core.machine`, whose tables name the functions here.
"""

from collections.abc import Iterator
from dataclasses import replace

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core import scaling
from unpd.core.converge import converge, make_room, missing_room, retire_surplus
from unpd.core.draft import Draft
from unpd.core.model import Asked, Child, PoolChange, State, Wanted, pool_changes
from unpd.core.policy import CUT_GRACE_S
from unpd.names import ChildPhase, MasterPhase

CUTTING_S = CUT_GRACE_S + 2.0
"""How long a reload waits for room: until the drains that it cut have ended or were
killed, and for these to be reaped. A process in an uninterruptible call of the kernel
is not reaped before that call returns, perhaps never.
"""

STOPPING = "the daemon is stopping"
"""Why a reload that is asked for during a stop is refused."""
RELOADING = (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)


# --- the request ----------------------------------------------------------------------


def asked(draft: Draft, event: ev.ReloadAsked) -> None:
    """Begin a reload: the shell reads the configuration."""
    _begin(draft, _asked(event))


def _asked(event: ev.ReloadAsked) -> Asked:
    return Asked(() if event.request is None else (event.request,), event.every_pool)


def _begin(draft: Draft, asked: Asked) -> None:
    draft.state.phase = MasterPhase.LOADING
    draft.state.asked = asked
    draft.do(fx.LoadConfig())


def asked_during_reload(draft: Draft, event: ev.ReloadAsked) -> None:
    """Queue one more reload, which reads the file again after this one has ended."""
    draft.state.queued = (draft.state.queued or Asked()) + _asked(event)


def listeners_renewed(draft: Draft, event: ev.ListenersRenewed) -> None:
    """Begin a reload with the running configuration: its new children inherit the
    renewed listeners. The file may hold a change that nobody asked for yet.
    """
    draft.state.phase = MasterPhase.LOADING
    _renew(draft, event)


def renewed_while_lame(draft: Draft, event: ev.ListenersRenewed) -> None:
    """Begin the same, unless it is under way, and stay lame."""
    if not draft.state.asked.renewal:
        _renew(draft, event)


def _renew(draft: Draft, event: ev.ListenersRenewed) -> None:
    del event
    draft.state.asked = Asked(renewal=True)
    draft.do(fx.ReuseConfig())


def asked_while_lame(draft: Draft, event: ev.ReloadAsked) -> None:
    """Refuse the request, and log that: the daemon may serve on for a while."""
    draft.note("reload.refused", reason=STOPPING, generation=draft.state.generation)
    asked_during_stop(draft, event)


def asked_during_stop(draft: Draft, event: ev.ReloadAsked) -> None:
    """Refuse the request: the daemon is stopping."""
    if event.request is not None:
        draft.do(fx.AnswerReload(event.request, STOPPING, began=False))


def begin_queued(draft: Draft) -> None:
    """Begin the queued reload, if there is one."""
    queued, draft.state.queued = draft.state.queued, None
    if queued is not None:
        _begin(draft, queued)


# --- LOADING and CUTTING --------------------------------------------------------------


def config_loaded(draft: Draft, event: ev.ConfigLoaded) -> None:
    """Compare the candidate with the current configuration, pool by pool. If there is
    no room for its children, the oldest drains are cut in this step
    (:mod:`unpd.core.converge`).
    """
    state = draft.state
    _take_candidate(state, event.wanted)
    state.phase = MasterPhase.CUTTING
    state.phase_deadline_at = draft.now + CUTTING_S
    make_room(draft)


def _take_candidate(state: State, loaded: Wanted) -> None:
    state.last_generation += 1
    every_pool = state.asked.every_pool
    if state.asked.renewal:
        wanted = loaded.sized_as(state.wanted)
        state.candidate = wanted.after(state.wanted, state.last_generation, every_pool)
    else:
        state.candidate_scales = scaling.kept_scales(state.scales, loaded)
        state.candidate = candidate_of(state, loaded, state.last_generation, every_pool=every_pool)


def loaded_while_lame(draft: Draft, event: ev.ConfigLoaded) -> None:
    """Prove a renewal."""
    if _is_awaited(draft.state, event):
        _take_candidate(draft.state, event.wanted)
        prove_or_refuse(draft)


def refused_while_lame(draft: Draft, event: ev.ConfigRefused) -> None:
    """End a renewal. It has no children yet."""
    if _is_awaited(draft.state, event):
        _end(draft, event.reason)


def _is_awaited(state: State, event: ev.ConfigLoaded | ev.ConfigRefused) -> bool:
    """Whether a renewal waits for this answer. The answer to a reload may have crossed
    the order to stop, which has ended that reload.
    """
    return event.renewal and state.asked.renewal and state.candidate is None


def prove_or_refuse(draft: Draft) -> None:
    """Refuse the candidate, if there is one, where its children lack room: LAME does
    not wait for drains to end, and cuts none.
    """
    if draft.state.candidate is None:
        return
    if missing_room(draft.state) > 0:
        refuse_candidate(draft, "there is no room for the new children yet")
    else:
        draft.note("reload.proving", generation=draft.state.last_generation)


def candidate_of(state: State, configured: Wanted, generation: int, *, every_pool: bool) -> Wanted:
    """What a reload wants with a configuration: its children, in the numbers that an
    operator has given to pools, with those of the current one where nothing changed. A
    preview asks for the same. Changes nothing.
    """
    wanted = scaling.apply_scales(scaling.kept_scales(state.scales, configured), configured)
    return wanted.after(state.wanted, generation, every_pool)


def config_refused(draft: Draft, event: ev.ConfigRefused) -> None:
    """End the reload. It has no children yet, and no listeners to close."""
    _end(draft, event.reason)


def settle_cutting(draft: Draft) -> None:
    """Order the children of the candidate as soon as there is room for them. Where all
    drains were killed they are not waited for: a child that the kernel cannot end must
    not hold up reloads.
    """
    state = draft.state
    draining = any(child.phase is ChildPhase.DRAINING for child in state.children.values())
    if draining and missing_room(state) > 0:
        return
    state.phase, state.phase_deadline_at = MasterPhase.PROVING, None
    draft.note("reload.proving", generation=state.last_generation)
    converge(draft)
    # There may be nothing to prove.
    settle_proving(draft)


def give_up_cutting(draft: Draft) -> None:
    """Refuse the candidate, because the drains that were cut have not made room."""
    state = draft.state
    stuck = [
        child
        for child in state.children.values()
        if child.retired and child.phase is ChildPhase.KILLED
    ]
    births = ", ".join(str(child.birth) for child in stuck)
    reason = f"there is no room for the new children within {CUTTING_S:g} s"
    if stuck:
        reason += f": the kernel has not ended the killed children of birth {births}"
    refuse_candidate(draft, reason)


# --- PROVING --------------------------------------------------------------------------


def settle_proving(draft: Draft) -> None:
    """Adopt the candidate if all its children are ready. Refuse it if one was killed
    for being late or hung, even where the kernel cannot end that child yet.
    """
    state = draft.state
    if state.candidate is None:
        return
    if any(_candidates(state, ChildPhase.KILLED)):
        refuse_candidate(draft, state.last_trouble)
        begin_queued(draft)
    elif not any(_candidates(state, ChildPhase.STARTING)):
        ready = sum(1 for _ in _candidates(state, ChildPhase.READY))
        if ready == state.candidate.count_added_to(state.wanted):
            _adopt_candidate(draft, state.candidate)
            begin_queued(draft)


def _candidates(state: State, phase: ChildPhase) -> Iterator[Child]:
    """The children of the candidate that are in ``phase``."""
    return (
        child
        for child in state.children.values()
        if child.phase is phase and state.is_candidate(child)
    )


def refuse_candidate(draft: Draft, reason: str) -> None:
    """Drop the candidate and retire its children. The ready ones may have clients
    already, so they drain like any other child.
    """
    _forget_candidate(draft)
    retire_surplus(draft)
    draft.do(fx.DropConfig())
    _end(draft, reason)


def _forget_candidate(draft: Draft) -> None:
    state = draft.state
    for child in [child for child in state.children.values() if state.is_candidate(child)]:
        draft.put(replace(child, refused=True))
    state.candidate = None


def _adopt_candidate(draft: Draft, candidate: Wanted) -> None:
    """Make the candidate the current configuration; retire the children that it does
    not want. Forget all back-offs: the reload may have mended the cause.
    """
    state = draft.state
    changes = pool_changes(state.wanted, candidate)
    state.generation, state.wanted, state.candidate = state.last_generation, candidate, None
    draft.do(fx.AdoptConfig(state.generation))
    if not state.asked.renewal:
        scaling.adopt_scales(draft, state.candidate_scales)
    state.throttles.clear()
    retire_surplus(draft)
    converge(draft)
    _end(draft, "", changes)


# --- the end --------------------------------------------------------------------------


def _end(draft: Draft, refused: str, changes: tuple[PoolChange, ...] = ()) -> None:
    """Count, log and answer the reload. ``refused``: the reason, or "" for success.
    ``changes``: what a success did to each pool.
    """
    if refused:
        draft.note("reload.refused", reason=refused, generation=draft.state.generation)
    else:
        draft.do(fx.ReportReload(changes))
    if not draft.state.asked.renewal:
        draft.do(fx.CountReload(refused))
    _answer(draft, refused)
    if draft.state.phase is not MasterPhase.LAME:
        draft.state.phase, draft.state.phase_deadline_at = MasterPhase.RUNNING, None


def abandon(draft: Draft, why: str) -> None:
    """Drop the candidate and answer every waiting request, because the daemon stops.
    ``why`` it does is in the answer. The candidate's children are to be retired, or to
    finish.
    """
    if draft.state.phase in RELOADING or draft.state.asked.renewal:
        draft.do(fx.DropConfig())
    _forget_candidate(draft)
    _answer(draft, _stopping(why))
    abandon_queued(draft, why)


def abandon_queued(draft: Draft, why: str) -> None:
    """Answer the requests for the reload that would come after the one under way."""
    queued, draft.state.queued = draft.state.queued or Asked(), None
    for request in queued.requests:
        draft.do(fx.AnswerReload(request, _stopping(why), began=False))


def _stopping(why: str) -> str:
    return f"{STOPPING} ({why})"


def _answer(draft: Draft, refused: str) -> None:
    for request in draft.state.asked.requests:
        draft.do(fx.AnswerReload(request, refused))
    draft.state.asked = Asked()
