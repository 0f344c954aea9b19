"""The machine: :func:`step` takes one event and returns the next state and the effects;
:func:`next_deadline` says when the machine has to be called again.

A step applies the event (:data:`EVENT_TABLE` says what each event means in each phase
of the master), and retires children that are not wanted any more. Then it spawns those
that are missing (:mod:`unpd.core.converge`), and checks whether the phase has ended
(:data:`SETTLE`). The reload is in :mod:`unpd.core.reload`, the stop in
:mod:`unpd.core.stop`, and the number of workers that an operator gives to a pool in
:mod:`unpd.core.scaling`.
The phases::

    STARTING --all services ready--> RUNNING
    RUNNING --reload asked, or listeners renewed--> LOADING
    LOADING --loaded--> CUTTING --room enough--> PROVING
    LOADING --refused--> RUNNING
    CUTTING --no room in time--> RUNNING
    PROVING --all ready, or a child failed--> RUNNING
    RUNNING or a reload --stop asked, with lame_duck_s--> LAME
    LAME --listeners renewed--> LAME, in which the new children are proved
    LAME --lame_duck_s over, or stop asked again--> STOPPING
    any --stop asked, or a start that failed--> STOPPING --no child left--> Leave

Called by the shell. Raises AssertionError for an event that cannot happen in the
current phase.

Invariants (tests/property/test_machine.py): beside the current children and those of
one candidate, only the retired children of MAX_RETIRED_GENERATIONS reloads, and those
of as many refused candidates, keep their connections; in the generation of its pool a
slot never has two holders; a reload touches no child of a pool that it leaves alone,
unless the pool shrinks; births only go up; no child is spawned in STOPPING; every
request for a reload is answered exactly once.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core import reload, scaling, stop
from unpd.core.backoff import after_death, after_failure
from unpd.core.children import Happening, happened
from unpd.core.converge import converge, retire_surplus, vacant_slots
from unpd.core.draft import Draft
from unpd.core.model import Exit, State, credible_beat
from unpd.core.policy import policy_of
from unpd.core.readiness import is_ready, unready_pools, unready_slots
from unpd.names import ExitCode, MasterPhase, kind_words

ABSENCE_S = 5.0
"""The master reads heartbeats once a second. After a gap longer than this, the master
itself did not run (frozen, stopped), and perhaps its children did not either. So no
child counts as hung before the next reading.
"""


def step(state: State, event: ev.Event, now: float) -> tuple[State, tuple[fx.Effect, ...]]:
    """Take one event at the monotonic time ``now`` (seconds). Return the next state and
    the effects; ``state`` itself does not change.
    """
    draft = Draft(state, now)
    EVENT_TABLE[type(event)][state.phase](draft, event)
    converge(draft)
    SETTLE[draft.state.phase](draft)
    return draft.state, tuple(draft.effects)


def next_deadline(state: State) -> float | None:
    """When the next :class:`~unpd.core.events.TimePassed` is due, in monotonic seconds.
    None: the machine waits for other events alone.
    """
    due = [child.deadline_at for child in state.children.values() if child.deadline_at is not None]
    if state.phase_deadline_at is not None:
        due.append(state.phase_deadline_at)
    due.extend(retry_at for _, _, retry_at in vacant_slots(state))
    return min(due, default=None)


# --- children -------------------------------------------------------------------------


def _child_ready(draft: Draft, event: ev.ChildReady) -> None:
    happened(draft, event.birth, Happening.REPORTED_READY)


def _child_failed(draft: Draft, event: ev.ChildFailed) -> None:
    child = draft.state.children.get(event.birth)
    if child is None:
        return
    draft.state.last_trouble = event.reason
    draft.note_child(f"{child.slot.kind}.failed", child, reason=event.reason)
    happened(draft, event.birth, Happening.REPORTED_FAILURE)
    if draft.state.phase is MasterPhase.STARTING and policy_of(child).serves and not child.retired:
        stop.begin(draft, Exit(event.code, event.reason), quick=True)
    elif draft.state.is_candidate(child):
        reload.refuse_candidate(draft, event.reason)


def _child_exited(draft: Draft, event: ev.ChildExited) -> None:
    child = draft.state.children.pop(event.birth, None)
    if child is None or child.retired or draft.stopping:
        return
    candidate = draft.state.is_candidate(child)
    if candidate or child.ready_at is None:
        moment = "it was ready" if child.ready_at is None else "the others were ready"
        kind, slot = kind_words(child.slot.kind), child.slot
        draft.state.last_trouble = f"{kind} {slot} ended before {moment}: {event.ended}"
    if candidate:
        # A candidate that loses a child is refused, however long that child lived. With
        # respawns, a reload might never end.
        reload.refuse_candidate(draft, draft.state.last_trouble)
        return
    key = (child.generation, child.slot)
    throttle = after_death(draft.state.throttles.pop(key, None), child, draft.now)
    if throttle is not None:
        draft.state.throttles[key] = throttle
    respawn_in_s = round(max(0.0, throttle.retry_at - draft.now), 3) if throttle else 0.0
    draft.note_child(f"{child.slot.kind}.died", child, ended=event.ended, respawn_in_s=respawn_in_s)


def _fork_failed(draft: Draft, event: ev.ForkFailed) -> None:
    child = draft.state.children.pop(event.birth, None)
    if child is None:
        return
    draft.state.last_trouble = f"fork failed: {event.reason}"
    if draft.state.is_candidate(child):
        reload.refuse_candidate(draft, draft.state.last_trouble)
        return
    if child.retired or draft.stopping:
        return
    key = (child.generation, child.slot)
    throttle = after_failure(draft.state.throttles.get(key), draft.now)
    draft.state.throttles[key] = throttle
    respawn_in_s = round(throttle.retry_at - draft.now, 3)
    draft.note_child("fork.failed", child, reason=event.reason, respawn_in_s=respawn_in_s)


def _beats_read(draft: Draft, event: ev.BeatsRead) -> None:
    last_read_at, draft.state.beats_read_at = draft.state.beats_read_at, draft.now
    if draft.now - last_read_at > ABSENCE_S:
        return
    for birth, beat_at in event.beats.items():
        child = draft.state.children.get(birth)
        if child is None or child.ready_at is None:
            continue
        last_beat_at = max(child.ready_at, credible_beat(beat_at, draft.now))
        if draft.now - last_beat_at > draft.limits_of(child).heartbeat_timeout_s:
            happened(draft, birth, Happening.FELL_SILENT)


def _time_passed(draft: Draft, event: ev.TimePassed) -> None:
    del event
    for child in list(draft.state.children.values()):
        if child.deadline_at is not None and child.deadline_at <= draft.now:
            happened(draft, child.birth, Happening.OVERDUE)
    deadline_at = draft.state.phase_deadline_at
    if deadline_at is None or deadline_at > draft.now:
        return
    if draft.state.phase is MasterPhase.STARTING:
        _give_up_start(draft)
    elif draft.state.phase is MasterPhase.CUTTING:
        reload.give_up_cutting(draft)
    elif draft.state.phase is MasterPhase.LAME:
        stop.lame_time_over(draft)


def _give_up_start(draft: Draft) -> None:
    pools = [f"no {kind} of pool {pool}" for kind, pool in unready_pools(draft.state)]
    slots = [
        f"no {kind_words(slot.kind)} of service {slot.service}"
        for slot in unready_slots(draft.state)
    ]
    missing = ", ".join(pools + slots)
    timeout_s = draft.state.wanted.limits.start_timeout_s
    trouble = f" ({draft.state.last_trouble})" if draft.state.last_trouble else ""
    reason = f"{missing} was ready within {timeout_s:g} s{trouble}"
    draft.note("master.start_failed", reason=reason)
    stop.begin(draft, Exit(ExitCode.FAILED, reason), quick=True)


# --- orders ---------------------------------------------------------------------------


def _boot(draft: Draft, event: ev.Booted) -> None:
    del event
    draft.state.phase_deadline_at = draft.now + draft.state.wanted.limits.start_timeout_s


def _resize(draft: Draft, event: ev.PoolResized) -> None:
    state, before = draft.state, draft.state.wanted
    state.wanted = before.resized(event.pool, event.delta)
    workers = state.wanted.workers.get(event.pool, 0)
    if state.candidate is not None and state.asked.renewal:
        state.candidate = state.candidate.sized_as(state.wanted)
    scaling.resized(draft, event.pool, event.delta)
    retire_surplus(draft)
    if state.wanted == before:
        draft.note("pool.not_resized", pool=event.pool, delta=event.delta, workers=workers)
    else:
        draft.note("pool.resized", pool=event.pool, workers=workers)


def _reopen_log(draft: Draft, event: ev.LogReopenAsked) -> None:
    del event
    draft.do(fx.ReopenLog())


# --- the end of a phase ---------------------------------------------------------------


def _settle_starting(draft: Draft) -> None:
    if is_ready(draft.state):
        draft.state.phase, draft.state.phase_deadline_at = MasterPhase.RUNNING, None
        draft.do(fx.AnnounceReady())
        draft.note("master.ready", generation=draft.state.generation)
        reload.begin_queued(draft)


def _settle_nothing(draft: Draft) -> None:
    """Change nothing: LOADING ends when the shell answers LoadConfig."""


# --- the tables -----------------------------------------------------------------------


def _never(draft: Draft, event: ev.Event) -> None:
    raise AssertionError(f"{type(event).__name__} cannot happen in phase {draft.state.phase}")


def _not_now(draft: Draft, event: ev.Event) -> None:
    """Change nothing: the shell asks again if the reload under way does not help."""


def _too_late(draft: Draft, event: ev.Event) -> None:
    """Change nothing: the daemon is stopping."""


Reaction = Callable[[Draft, Any], None]
"""A function that applies an event in a phase."""


def _in_every_phase(reaction: Reaction) -> dict[MasterPhase, Reaction]:
    return dict.fromkeys(MasterPhase, reaction)


EVENT_TABLE: Mapping[type[ev.Event], Mapping[MasterPhase, Reaction]] = MappingProxyType(
    {
        ev.Booted: {
            **_in_every_phase(_never),
            MasterPhase.STARTING: _boot,
            MasterPhase.STOPPING: _too_late,
        },
        ev.TimePassed: _in_every_phase(_time_passed),
        ev.ChildReady: _in_every_phase(_child_ready),
        ev.ChildFailed: _in_every_phase(_child_failed),
        ev.ChildExited: _in_every_phase(_child_exited),
        ev.ForkFailed: _in_every_phase(_fork_failed),
        ev.BeatsRead: _in_every_phase(_beats_read),
        ev.ReloadAsked: {
            **_in_every_phase(reload.asked_during_reload),
            MasterPhase.RUNNING: reload.asked,
            MasterPhase.LAME: reload.asked_while_lame,
            MasterPhase.STOPPING: reload.asked_during_stop,
        },
        ev.ListenersRenewed: {
            **_in_every_phase(_not_now),
            MasterPhase.RUNNING: reload.listeners_renewed,
            MasterPhase.LAME: reload.renewed_while_lame,
        },
        ev.ConfigLoaded: {
            **_in_every_phase(_never),
            MasterPhase.LOADING: reload.config_loaded,
            MasterPhase.LAME: reload.loaded_while_lame,
            MasterPhase.STOPPING: _too_late,
        },
        ev.ConfigRefused: {
            **_in_every_phase(_never),
            MasterPhase.LOADING: reload.config_refused,
            MasterPhase.LAME: reload.refused_while_lame,
            MasterPhase.STOPPING: _too_late,
        },
        ev.StopAsked: {
            **_in_every_phase(stop.asked),
            # A daemon that was never ready has no clients that another one has to take.
            MasterPhase.STARTING: stop.asked_at_once,
            MasterPhase.LAME: stop.asked_at_once,
            MasterPhase.STOPPING: stop.asked_again,
        },
        ev.PoolResized: {**_in_every_phase(_resize), MasterPhase.STOPPING: _too_late},
        ev.PoolScaled: {
            **_in_every_phase(scaling.refused),
            MasterPhase.RUNNING: scaling.scaled,
        },
        ev.LogReopenAsked: _in_every_phase(_reopen_log),
    }
)
"""The reaction to each event in each phase. A test walks all pairs."""

SETTLE: Mapping[MasterPhase, Callable[[Draft], None]] = MappingProxyType(
    {
        MasterPhase.STARTING: _settle_starting,
        MasterPhase.RUNNING: reload.begin_queued,
        MasterPhase.LOADING: _settle_nothing,
        MasterPhase.CUTTING: reload.settle_cutting,
        MasterPhase.PROVING: reload.settle_proving,
        # LAME itself ends at its deadline, or when a stop is asked for again.
        MasterPhase.LAME: reload.settle_proving,
        MasterPhase.STOPPING: stop.settle,
    }
)
"""The last part of a step in each phase: checks whether the phase has ended."""
