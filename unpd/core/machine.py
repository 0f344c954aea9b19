"""The machine: ``step(state, event, now) -> (state, effects)``, and when it wants to be asked again.

A step applies the event (:data:`EVENT_TABLE`: what each event means in each phase of the master), then closes the difference between wanted and actual, then sees
whether the phase has come to its end. The phases::

    STARTING --ready--> RUNNING --reload asked--> LOADING --loaded--> CUTTING --old drain gone--> PROVING --all ready--> RUNNING
                                                  LOADING --refused--> RUNNING                    PROVING --a child failed--> RUNNING
    any --stop asked, or not ready in time--> STOPPING --no child left--> Leave

Invariants (tests/property/test_machine.py): at most two generations hold slots; a slot never has two holders in one generation; counters of births only go up;
once STOPPING nothing is born; every reload asked for is answered exactly once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from types import MappingProxyType
from typing import Any

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.backoff import after_death, after_failure
from unpd.core.children import Happening, happened
from unpd.core.draft import EXPORTER_SHARE, QUICK_GRACE_S, WORKERS_SHARE, Draft
from unpd.core.model import Child, Exit, Limits, Slot, State, Wanted
from unpd.names import ChildKind, ChildOrder, ChildPhase, ExitCode, MasterPhase

SPAWNS_PER_STEP = 16
"""A fork takes a millisecond or more: two hundred in a row would keep the loop from everything else."""
RELOADING = (MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING)


def step(state: State, event: ev.Event, now: float) -> tuple[State, tuple[fx.Effect, ...]]:
    """Take one event at the monotonic time ``now`` (seconds); return the next state and what to do. ``state`` itself is not changed."""
    draft = Draft(state, now)
    EVENT_TABLE[type(event)][state.phase](draft, event)
    _converge(draft)
    SETTLE[draft.state.phase](draft)
    return draft.state, tuple(draft.effects)


def next_deadline(state: State) -> float | None:
    """The earliest time at which :class:`~unpd.core.events.TimePassed` has something to do; None: nothing is due, ever."""
    due = [child.deadline_at for child in state.children.values() if child.deadline_at is not None]
    if state.phase_deadline_at is not None:
        due.append(state.phase_deadline_at)
    due.extend(retry_at for _, _, retry_at in _vacant(state))
    return min(due, default=None)


# --- children ---------------------------------------------------------------------------------------------------------------------------


def _child_ready(draft: Draft, event: ev.ChildReady) -> None:
    happened(draft, event.birth, Happening.REPORTED_READY)


def _child_failed(draft: Draft, event: ev.ChildFailed) -> None:
    child = draft.state.children.get(event.birth)
    if child is None:
        return
    draft.state.last_trouble = event.reason
    draft.note_child("error", f"{child.slot.kind}.failed", child, reason=event.reason)
    happened(draft, event.birth, Happening.REPORTED_FAILURE)
    if draft.state.phase is MasterPhase.STARTING and child.slot.kind is ChildKind.WORKER:
        _stop(draft, Exit(event.code, event.reason), quick=True)
    elif _is_candidate(draft.state, child):
        _refuse_candidate(draft, event.reason)


def _child_exited(draft: Draft, event: ev.ChildExited) -> None:
    child = draft.state.children.pop(event.birth, None)
    if child is None or child.retired or draft.stopping:
        return
    key = (child.generation, child.slot)
    throttle = after_death(draft.state.throttles.pop(key, None), child, draft.now)
    if throttle is not None:
        draft.state.throttles[key] = throttle
    if child.ready_at is None:
        draft.state.last_trouble = f"{child.slot.kind} {child.slot} ended before it was ready: {event.ended}"
        if _is_candidate(draft.state, child):
            _refuse_candidate(draft, draft.state.last_trouble)
            return
    respawn_in_s = max(0.0, throttle.retry_at - draft.now) if throttle else 0.0
    draft.note_child("warning", f"{child.slot.kind}.died", child, ended=event.ended, respawn_in_s=round(respawn_in_s, 3))


def _fork_failed(draft: Draft, event: ev.ForkFailed) -> None:
    child = draft.state.children.pop(event.birth, None)
    if child is None:
        return
    draft.state.last_trouble = f"fork failed: {event.reason}"
    if _is_candidate(draft.state, child):
        _refuse_candidate(draft, draft.state.last_trouble)
        return
    key = (child.generation, child.slot)
    throttle = after_failure(draft.state.throttles.get(key), draft.now)
    draft.state.throttles[key] = throttle
    draft.note_child("error", "fork.failed", child, reason=event.reason, respawn_in_s=round(throttle.retry_at - draft.now, 3))


def _beats_read(draft: Draft, event: ev.BeatsRead) -> None:
    for birth, beat_at in event.beats.items():
        child = draft.state.children.get(birth)
        if child is None or child.ready_at is None:
            continue
        last_at = max(child.ready_at, min(beat_at, draft.now))
        if draft.now - last_at > _limits_of(draft.state, child).heartbeat_timeout_s:
            happened(draft, birth, Happening.FELL_SILENT)


def _time_passed(draft: Draft, event: ev.TimePassed) -> None:
    del event
    for child in list(draft.state.children.values()):
        if child.deadline_at is not None and child.deadline_at <= draft.now:
            happened(draft, child.birth, Happening.OVERDUE)
    at = draft.state.phase_deadline_at
    if at is not None and at <= draft.now and draft.state.phase is MasterPhase.STARTING:
        missing = ", ".join(draft.state.unready_pools())
        trouble = f" ({draft.state.last_trouble})" if draft.state.last_trouble else ""
        reason = f"no worker of pool {missing} was ready within {draft.state.wanted.limits.start_timeout_s:g} s{trouble}"
        draft.note("error", "master.start_failed", reason=reason)
        _stop(draft, Exit(ExitCode.FAILED, reason), quick=True)


def _limits_of(state: State, child: Child) -> Limits:
    wanted = state.candidate if state.candidate is not None and child.generation == state.last_generation else state.wanted
    return wanted.limits


# --- orders -----------------------------------------------------------------------------------------------------------------------------


def _boot(draft: Draft, event: ev.Booted) -> None:
    del event
    draft.state.phase_deadline_at = draft.now + draft.state.wanted.limits.start_timeout_s


def _resize(draft: Draft, event: ev.PoolResized) -> None:
    before = draft.state.wanted
    draft.state.wanted = before.resized(event.pool, event.delta)
    if draft.state.wanted == before:
        draft.note("warning", "pool.not_resized", pool=event.pool, delta=event.delta, workers=before.workers.get(event.pool, 0))
    else:
        draft.note("info", "pool.resized", pool=event.pool, workers=draft.state.wanted.workers[event.pool])


def _reopen_log(draft: Draft, event: ev.LogReopenAsked) -> None:
    del event
    draft.do(fx.ReopenLog())
    for child in draft.state.children.values():
        if child.ready_at is not None:
            draft.tell(child, ChildOrder.REOPEN_LOG)


def _stop_asked(draft: Draft, event: ev.StopAsked) -> None:
    draft.note("info", "master.stopping", quick=event.quick, by=event.by)
    _stop(draft, Exit(ExitCode.DONE, f"stopped by {event.by}"), quick=event.quick)


def _stop_again(draft: Draft, event: ev.StopAsked) -> None:
    """A stop during a stop: only a quick one has more to say."""
    if event.quick:
        draft.note("info", "master.stopping", quick=True, by=event.by)
        _leave_all(draft)


def _stop(draft: Draft, end: Exit, quick: bool) -> None:
    state = draft.state
    if state.phase in RELOADING:
        _answer(draft, f"the daemon is stopping ({end.reason})")
        draft.do(fx.DropConfig())
    if state.asked_again is not None:
        state.asked_by, state.asked_again = state.asked_again, None
        _answer(draft, f"the daemon is stopping ({end.reason})")
    state.phase, state.exit, state.phase_deadline_at, state.stop_began_at = MasterPhase.STOPPING, end, None, draft.now
    state.candidate = None
    draft.do(fx.CloseListeners())
    if quick:
        _leave_all(draft)
        return
    for child in list(state.children.values()):
        if child.slot.kind is ChildKind.WORKER and child.phase is not ChildPhase.KILLED:
            draft.finish(child, draft.now + WORKERS_SHARE * state.wanted.limits.grace_s)


def _leave_all(draft: Draft) -> None:
    for child in list(draft.state.children.values()):
        if child.phase is not ChildPhase.KILLED:
            draft.tell(child, ChildOrder.LEAVE)
            deadline_at = draft.now + QUICK_GRACE_S
            draft.put(replace(child, phase=ChildPhase.DRAINING, retired=True, finishing=True, deadline_at=deadline_at))


# --- reload -----------------------------------------------------------------------------------------------------------------------------


def _reload(draft: Draft, event: ev.ReloadAsked) -> None:
    asked_by = () if event.request is None else (event.request,)
    _begin_reload(draft, asked_by)


def _begin_reload(draft: Draft, asked_by: tuple[int, ...]) -> None:
    draft.state.phase = MasterPhase.LOADING
    draft.state.asked_by = asked_by
    draft.do(fx.LoadConfig())


def _reload_later(draft: Draft, event: ev.ReloadAsked) -> None:
    """Reloads that come during a reload become one more, after it: it reads what the file says then."""
    again = draft.state.asked_again or ()
    draft.state.asked_again = again if event.request is None else (*again, event.request)


def _refuse_reload(draft: Draft, event: ev.ReloadAsked) -> None:
    if event.request is not None:
        draft.do(fx.AnswerReload(event.request, "the daemon is stopping"))


def _config_loaded(draft: Draft, event: ev.ConfigLoaded) -> None:
    draft.state.candidate = event.wanted
    draft.state.phase = MasterPhase.CUTTING
    for child in _draining_generation(draft.state):
        if not child.finishing:
            draft.note_child("info", f"{child.slot.kind}.drain_cut", child)
            draft.cut(child)


def _config_refused(draft: Draft, event: ev.ConfigRefused) -> None:
    _end_reload(draft, event.reason)


def _refuse_candidate(draft: Draft, reason: str) -> None:
    state = draft.state
    for child in list(state.children.values()):
        if child.generation == state.last_generation and child.phase is not ChildPhase.KILLED:
            draft.kill(child, retired=True)
        elif child.generation == state.last_generation:
            draft.put(replace(child, retired=True))
    _forget_throttles(state, state.last_generation)
    draft.do(fx.DropConfig())
    _end_reload(draft, reason)


def _adopt_candidate(draft: Draft, candidate: Wanted) -> None:
    state = draft.state
    old = state.generation
    state.generation, state.wanted = state.last_generation, candidate
    draft.do(fx.AdoptConfig(state.generation))
    _forget_throttles(state, old)
    for child in list(state.children.values()):
        if child.generation == old and not child.retired:
            draft.dismiss(child)
    _end_reload(draft, "")


def _end_reload(draft: Draft, refused: str) -> None:
    draft.do(fx.CountReload(succeeded=not refused))
    if refused:
        draft.note("error", "reload.refused", reason=refused, generation=draft.state.generation)
    else:
        draft.note("info", "reload.succeeded", generation=draft.state.generation)
    _answer(draft, refused)
    draft.state.candidate = None
    draft.state.phase = MasterPhase.RUNNING


def _answer(draft: Draft, refused: str) -> None:
    for request in draft.state.asked_by:
        draft.do(fx.AnswerReload(request, refused))
    draft.state.asked_by = ()


def _forget_throttles(state: State, generation: int) -> None:
    for key in [key for key in state.throttles if key[0] == generation]:
        del state.throttles[key]


def _is_candidate(state: State, child: Child) -> bool:
    return state.phase is MasterPhase.PROVING and child.generation == state.last_generation and not child.retired


def _draining_generation(state: State) -> list[Child]:
    """What still drains of the generation before this one. A killed child is as good as gone: an unkillable one must not hold up reloads."""
    return [c for c in state.children.values() if c.generation < state.generation and c.phase is ChildPhase.DRAINING]


# --- wanted and actual ------------------------------------------------------------------------------------------------------------------


def _held(state: State) -> set[tuple[int, Slot]]:
    return {(child.generation, child.slot) for child in state.children.values() if not child.retired}


def _vacant(state: State) -> Iterator[tuple[int, Slot, float]]:
    """The slots that are wanted and empty, by generation, and from when on each may be filled (0.0: at once)."""
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


def _converge(draft: Draft) -> None:
    """Fill the slots that are wanted and empty, a batch at a time (the rest is due at once, in the next step); retire the children whose slots are wanted no more."""
    if draft.stopping:
        return
    due = ((generation, slot) for generation, slot, retry_at in _vacant(draft.state) if retry_at <= draft.now)
    for generation, slot in list(islice(due, SPAWNS_PER_STEP)):
        draft.spawn(generation, slot)
    _retire_surplus(draft)


def _retire_surplus(draft: Draft) -> None:
    state = draft.state
    for child in list(state.children.values()):
        count = state.wanted.workers.get(child.slot.pool, 0)
        if child.generation == state.generation and child.slot.kind is ChildKind.WORKER and child.slot.index >= count and not child.retired:
            draft.dismiss(child)


# --- the end of a phase -----------------------------------------------------------------------------------------------------------------


def _settle_starting(draft: Draft) -> None:
    if not draft.state.unready_pools():
        draft.state.phase, draft.state.phase_deadline_at = MasterPhase.RUNNING, None
        draft.do(fx.AnnounceReady(draft.state.generation))
        draft.note("info", "master.ready", generation=draft.state.generation)
        _settle_running(draft)


def _settle_running(draft: Draft) -> None:
    if draft.state.asked_again is not None:
        asked_by, draft.state.asked_again = draft.state.asked_again, None
        _begin_reload(draft, asked_by)


def _settle_cutting(draft: Draft) -> None:
    """Never three generations: the new one is born when the old one is gone."""
    if not _draining_generation(draft.state):
        draft.state.phase = MasterPhase.PROVING
        draft.state.last_generation += 1
        draft.note("info", "reload.proving", generation=draft.state.last_generation)
        _converge(draft)


def _settle_proving(draft: Draft) -> None:
    state = draft.state
    if state.candidate is None:
        return
    ready = {c.slot for c in state.children.values() if c.generation == state.last_generation and c.phase is ChildPhase.READY}
    if all(slot in ready for slot in state.candidate.slots()):
        _adopt_candidate(draft, state.candidate)
        _settle_running(draft)


def _settle_stopping(draft: Draft) -> None:
    """Workers first, the exporter after them (a scrape can watch the drain), then the master."""
    state = draft.state
    if not state.children:
        end = state.exit or Exit(ExitCode.FAILED, "stopped for no reason")
        draft.do(fx.Leave(end.code, end.reason))
    elif not any(child.slot.kind is ChildKind.WORKER for child in state.children.values()):
        for child in list(state.children.values()):
            if child.phase in (ChildPhase.STARTING, ChildPhase.READY):
                draft.finish(child, max(draft.now, state.stop_began_at + EXPORTER_SHARE * state.wanted.limits.grace_s))


def _settled(draft: Draft) -> None:
    """LOADING ends with the shell's answer, not by itself."""


# --- the tables -------------------------------------------------------------------------------------------------------------------------


def _never(draft: Draft, event: ev.Event) -> None:
    raise AssertionError(f"{type(event).__name__} cannot happen in phase {draft.state.phase}")


def _too_late(draft: Draft, event: ev.Event) -> None:
    """The daemon is stopping: it changes nothing any more."""


Take = Callable[[Draft, Any], None]


def _in_all(take: Take) -> dict[MasterPhase, Take]:
    return dict.fromkeys(MasterPhase, take)


_ALIVE = tuple(phase for phase in MasterPhase if phase is not MasterPhase.STOPPING)

EVENT_TABLE: Mapping[type[ev.Event], Mapping[MasterPhase, Take]] = MappingProxyType(
    {
        ev.Booted: {**_in_all(_never), MasterPhase.STARTING: _boot, MasterPhase.STOPPING: _too_late},
        ev.TimePassed: _in_all(_time_passed),
        ev.ChildReady: _in_all(_child_ready),
        ev.ChildFailed: _in_all(_child_failed),
        ev.ChildExited: _in_all(_child_exited),
        ev.ForkFailed: _in_all(_fork_failed),
        ev.BeatsRead: _in_all(_beats_read),
        ev.ReloadAsked: {**_in_all(_reload_later), MasterPhase.RUNNING: _reload, MasterPhase.STOPPING: _refuse_reload},
        ev.ConfigLoaded: {**_in_all(_never), MasterPhase.LOADING: _config_loaded, MasterPhase.STOPPING: _too_late},
        ev.ConfigRefused: {**_in_all(_never), MasterPhase.LOADING: _config_refused, MasterPhase.STOPPING: _too_late},
        ev.StopAsked: {**dict.fromkeys(_ALIVE, _stop_asked), MasterPhase.STOPPING: _stop_again},
        ev.PoolResized: {**_in_all(_resize), MasterPhase.STOPPING: _too_late},
        ev.LogReopenAsked: _in_all(_reopen_log),
    }
)
"""What each event means in each phase. Every event has every phase; a test walks all pairs."""

SETTLE: Mapping[MasterPhase, Callable[[Draft], None]] = MappingProxyType(
    {
        MasterPhase.STARTING: _settle_starting,
        MasterPhase.RUNNING: _settle_running,
        MasterPhase.LOADING: _settled,
        MasterPhase.CUTTING: _settle_cutting,
        MasterPhase.PROVING: _settle_proving,
        MasterPhase.STOPPING: _settle_stopping,
    }
)
