"""The machine: ``step(state, event, now) -> (state, effects)``, and when it wants to be
asked again.

A step applies the event (:data:`EVENT_TABLE`: what each event means in each phase of
the master), then closes the difference between wanted and actual, then sees whether the
phase has come to its end. The reload has a module of its own. The phases::

    STARTING --ready--> RUNNING --reload asked--> LOADING --loaded--> CUTTING --old
    drain gone--> PROVING --all ready--> RUNNING
                                                  LOADING --refused--> RUNNING
                                                  PROVING --a child failed--> RUNNING
    any --stop asked, or not ready in time--> STOPPING --no child left--> Leave

Invariants (tests/property/test_machine.py): at most two generations live, those that
were sent SIGKILL aside; a slot never has two holders in one generation; births only go
up; once STOPPING nothing is born; every reload asked for is answered exactly once.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core import reload
from unpd.core.backoff import after_death, after_failure
from unpd.core.children import Happening, happened
from unpd.core.converge import converge, vacant
from unpd.core.draft import QUICK_GRACE_S, Draft, sooner
from unpd.core.model import Child, Exit, Limits, State, believed
from unpd.core.policy import policy_of
from unpd.core.readiness import unready_pools
from unpd.names import ChildOrder, ChildPhase, ExitCode, MasterPhase

ABSENCE_S = 5.0
"""Heartbeats are looked at once a second. After a longer gap it was the master who did
not run (frozen, stopped), and perhaps its children with it: they get until the next
look to show that they live.
"""


def step(state: State, event: ev.Event, now: float) -> tuple[State, tuple[fx.Effect, ...]]:
    """Take one event at the monotonic time ``now`` (seconds); return the next state and
    what to do. ``state`` itself is not changed.
    """
    draft = Draft(state, now)
    EVENT_TABLE[type(event)][state.phase](draft, event)
    converge(draft)
    SETTLE[draft.state.phase](draft)
    return draft.state, tuple(draft.effects)


def next_deadline(state: State) -> float | None:
    """The earliest time at which :class:`~unpd.core.events.TimePassed` has something to
    do; None: nothing is due, ever.
    """
    due = [child.deadline_at for child in state.children.values() if child.deadline_at is not None]
    if state.phase_deadline_at is not None:
        due.append(state.phase_deadline_at)
    due.extend(retry_at for _, _, retry_at in vacant(state))
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
        _stop(draft, Exit(event.code, event.reason), quick=True)
    elif reload.is_candidate(draft.state, child):
        reload.refuse_candidate(draft, event.reason)


def _child_exited(draft: Draft, event: ev.ChildExited) -> None:
    child = draft.state.children.pop(event.birth, None)
    if child is None or child.retired or draft.stopping:
        return
    candidate = reload.is_candidate(draft.state, child)
    if candidate or child.ready_at is None:
        who = "it was" if child.ready_at is None else "the others were"
        draft.state.last_trouble = (
            f"{child.slot.kind} {child.slot} ended before {who} ready: {event.ended}"
        )
    if candidate:
        # However long it lived: what dies while it is being proved is not proven, and a
        # proof without respawns comes to an end.
        reload.refuse_candidate(draft, draft.state.last_trouble)
        return
    key = (child.generation, child.slot)
    throttle = after_death(draft.state.throttles.pop(key, None), child, draft.now)
    if throttle is not None:
        draft.state.throttles[key] = throttle
    respawn_in_s = max(0.0, throttle.retry_at - draft.now) if throttle else 0.0
    draft.note_child(
        f"{child.slot.kind}.died",
        child,
        ended=event.ended,
        respawn_in_s=round(respawn_in_s, 3),
    )


def _fork_failed(draft: Draft, event: ev.ForkFailed) -> None:
    child = draft.state.children.pop(event.birth, None)
    if child is None:
        return
    draft.state.last_trouble = f"fork failed: {event.reason}"
    if reload.is_candidate(draft.state, child):
        reload.refuse_candidate(draft, draft.state.last_trouble)
        return
    if child.retired or draft.stopping:
        return
    key = (child.generation, child.slot)
    throttle = after_failure(draft.state.throttles.get(key), draft.now)
    draft.state.throttles[key] = throttle
    draft.note_child(
        "fork.failed",
        child,
        reason=event.reason,
        respawn_in_s=round(throttle.retry_at - draft.now, 3),
    )


def _beats_read(draft: Draft, event: ev.BeatsRead) -> None:
    looked_at, draft.state.looked_at = draft.state.looked_at, draft.now
    if draft.now - looked_at > ABSENCE_S:
        return
    for birth, beat_at in event.beats.items():
        child = draft.state.children.get(birth)
        if child is None or child.ready_at is None:
            continue
        last_at = max(child.ready_at, believed(beat_at, draft.now))
        if draft.now - last_at > _limits_of(draft.state, child).heartbeat_timeout_s:
            happened(draft, birth, Happening.FELL_SILENT)


def _time_passed(draft: Draft, event: ev.TimePassed) -> None:
    del event
    for child in list(draft.state.children.values()):
        if child.deadline_at is not None and child.deadline_at <= draft.now:
            happened(draft, child.birth, Happening.OVERDUE)
    at = draft.state.phase_deadline_at
    if at is not None and at <= draft.now and draft.state.phase is MasterPhase.STARTING:
        missing = ", ".join(unready_pools(draft.state))
        trouble = f" ({draft.state.last_trouble})" if draft.state.last_trouble else ""
        reason = (
            f"no worker of pool {missing} was ready within"
            f" {draft.state.wanted.limits.start_timeout_s:g} s{trouble}"
        )
        draft.note("master.start_failed", reason=reason)
        _stop(draft, Exit(ExitCode.FAILED, reason), quick=True)


def _limits_of(state: State, child: Child) -> Limits:
    wanted = (
        state.candidate
        if state.candidate is not None and child.generation == state.last_generation
        else state.wanted
    )
    return wanted.limits


# --- orders ---------------------------------------------------------------------------


def _boot(draft: Draft, event: ev.Booted) -> None:
    del event
    draft.state.phase_deadline_at = draft.now + draft.state.wanted.limits.start_timeout_s


def _resize(draft: Draft, event: ev.PoolResized) -> None:
    before = draft.state.wanted
    draft.state.wanted = before.resized(event.pool, event.delta)
    if draft.state.wanted == before:
        draft.note(
            "pool.not_resized",
            pool=event.pool,
            delta=event.delta,
            workers=before.workers.get(event.pool, 0),
        )
    else:
        draft.note("pool.resized", pool=event.pool, workers=draft.state.wanted.workers[event.pool])


def _reopen_log(draft: Draft, event: ev.LogReopenAsked) -> None:
    del event
    draft.do(fx.ReopenLog())
    for child in draft.state.children.values():
        if child.phase is not ChildPhase.KILLED:
            draft.tell(child, ChildOrder.REOPEN_LOG)


def _stop_asked(draft: Draft, event: ev.StopAsked) -> None:
    _stop(draft, Exit(ExitCode.DONE, f"stopped by {event.by}"), quick=event.quick)
    draft.note(
        "master.stopping", quick=event.quick, by=event.by
    )  # when it can be read, the listeners are closed


def _stop_again(draft: Draft, event: ev.StopAsked) -> None:
    """A stop during a stop: only a quick one has more to say."""
    if event.quick:
        draft.note("master.stopping", quick=True, by=event.by)
        _leave_all(draft)


def _stop(draft: Draft, end: Exit, quick: bool) -> None:
    state = draft.state
    reload.abandon(draft, f"the daemon is stopping ({end.reason})")
    state.phase, state.exit, state.phase_deadline_at, state.stop_began_at = (
        MasterPhase.STOPPING,
        end,
        None,
        draft.now,
    )
    draft.do(fx.CloseListeners())
    if quick:
        _leave_all(draft)
        return
    share = _smallest_share(state)
    deadline_at = draft.now + share * state.wanted.limits.grace_s
    for child in list(state.children.values()):
        if child.phase is not ChildPhase.KILLED and policy_of(child).stop_share == share:
            draft.finish(child, deadline_at)
        elif child.phase is ChildPhase.KILLED or child.retired:
            draft.hasten(child, deadline_at)


def _smallest_share(state: State) -> float:
    """The share of the grace time of those children that finish first."""
    return min((policy_of(child).stop_share for child in state.children.values()), default=0.0)


def _leave_all(draft: Draft) -> None:
    """Quick: LEAVE to all. Asked for again, it never gives more time than before."""
    deadline_at = min(draft.now + QUICK_GRACE_S, draft.gone_by)
    for child in list(draft.state.children.values()):
        if child.phase is not ChildPhase.KILLED:
            draft.tell(child, ChildOrder.LEAVE)
            draft.put(
                replace(
                    child,
                    phase=ChildPhase.DRAINING,
                    retired=True,
                    finishing=True,
                    deadline_at=sooner(child.deadline_at, deadline_at),
                )
            )
        else:
            draft.hasten(child, deadline_at)


# --- the end of a phase ---------------------------------------------------------------


def _settle_starting(draft: Draft) -> None:
    if not unready_pools(draft.state):
        draft.state.phase, draft.state.phase_deadline_at = MasterPhase.RUNNING, None
        draft.do(fx.AnnounceReady())
        draft.note("master.ready", generation=draft.state.generation)
        reload.begin_waiting(draft)


def _settle_stopping(draft: Draft) -> None:
    """Workers first, the exporter after them (a scrape can watch the drain), then the
    master.
    """
    state = draft.state
    if not state.children:
        end = state.exit or Exit(ExitCode.FAILED, "stopped for no reason")
        draft.do(fx.Leave(end.code, end.reason))
        return
    share = _smallest_share(state)
    deadline_at = max(draft.now, state.stop_began_at + share * state.wanted.limits.grace_s)
    for child in list(state.children.values()):
        is_next = policy_of(child).stop_share == share
        if is_next and child.phase in (ChildPhase.STARTING, ChildPhase.READY):
            draft.finish(child, deadline_at)


def _settled(draft: Draft) -> None:
    """LOADING ends with the shell's answer, not by itself."""


# --- the tables -----------------------------------------------------------------------


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
        ev.Booted: {
            **_in_all(_never),
            MasterPhase.STARTING: _boot,
            MasterPhase.STOPPING: _too_late,
        },
        ev.TimePassed: _in_all(_time_passed),
        ev.ChildReady: _in_all(_child_ready),
        ev.ChildFailed: _in_all(_child_failed),
        ev.ChildExited: _in_all(_child_exited),
        ev.ForkFailed: _in_all(_fork_failed),
        ev.BeatsRead: _in_all(_beats_read),
        ev.ReloadAsked: {
            **_in_all(reload.asked_during),
            MasterPhase.RUNNING: reload.asked,
            MasterPhase.STOPPING: reload.asked_too_late,
        },
        ev.ConfigLoaded: {
            **_in_all(_never),
            MasterPhase.LOADING: reload.loaded,
            MasterPhase.STOPPING: _too_late,
        },
        ev.ConfigRefused: {
            **_in_all(_never),
            MasterPhase.LOADING: reload.refused_to_load,
            MasterPhase.STOPPING: _too_late,
        },
        ev.StopAsked: {**dict.fromkeys(_ALIVE, _stop_asked), MasterPhase.STOPPING: _stop_again},
        ev.PoolResized: {**_in_all(_resize), MasterPhase.STOPPING: _too_late},
        ev.LogReopenAsked: _in_all(_reopen_log),
    }
)
"""What each event means in each phase. Every event has every phase; a test walks all
pairs.
"""

SETTLE: Mapping[MasterPhase, Callable[[Draft], None]] = MappingProxyType(
    {
        MasterPhase.STARTING: _settle_starting,
        MasterPhase.RUNNING: reload.begin_waiting,
        MasterPhase.LOADING: _settled,
        MasterPhase.CUTTING: reload.settle_cutting,
        MasterPhase.PROVING: reload.settle_proving,
        MasterPhase.STOPPING: _settle_stopping,
    }
)
