"""The stop, from the request to the end: the phases LAME and STOPPING.

In LAME the daemon serves as before, and only says that it is not ready. Load balancers
and Kubernetes then send new clients elsewhere, before the listeners close: otherwise a
client that they send in between would be refused. Listeners that had to be opened anew
still get children (:mod:`unpd.core.reload`). The phase lasts lame_duck_s. It is left
out where that is 0, by a quick stop, and by a daemon that is not ready yet. Another
order to stop ends it.

STOPPING has the time grace_s. Its children finish in the order of their policy
(:mod:`unpd.core.policy`), and no child is spawned any more. A quick stop ends every
connection.

Called by :mod:`unpd.core.machine`, whose tables name the functions here.
"""

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core import reload
from unpd.core.converge import retire_surplus
from unpd.core.draft import QUICK_GRACE_S, Draft
from unpd.core.model import Exit, State
from unpd.core.policy import LAST_SHARE, policy_of
from unpd.names import ChildPhase, ExitCode, MasterPhase

# --- the request ----------------------------------------------------------------------


def asked(draft: Draft, event: ev.StopAsked) -> None:
    """Become lame, or stop at once."""
    if event.quick or not draft.state.wanted.limits.lame_duck_s:
        asked_at_once(draft, event)
    else:
        _become_lame(draft, event.by)


def asked_at_once(draft: Draft, event: ev.StopAsked) -> None:
    """Stop without a lame time, or end that time."""
    _begin_asked(draft, quick=event.quick, by=event.by)


def asked_again(draft: Draft, event: ev.StopAsked) -> None:
    """Take another order to stop during a stop. Only a quick stop changes anything."""
    if event.quick:
        draft.note("master.stopping", quick=True, by=event.by)
        _leave_all(draft)


# --- LAME -----------------------------------------------------------------------------


def _become_lame(draft: Draft, by: str) -> None:
    """Serve on for lame_duck_s. A reload under way ends, and its children are retired:
    the services that it adds would be gone soon. A renewal of listeners goes on:
    without it, the daemon would serve nobody there.
    """
    state, limits = draft.state, draft.state.wanted.limits
    reason = _end_of(by).reason
    if state.queued is not None or (state.phase in reload.RELOADING and not state.asked.renewal):
        refusal = f"{reload.STOPPING} ({reason})"
        draft.note("reload.refused", reason=refusal, generation=state.generation)
    if state.asked.renewal:
        reload.abandon_queued(draft, reason)
    else:
        reload.abandon(draft, reason)
    was_cutting = state.phase is MasterPhase.CUTTING
    state.phase, state.stop_asked_by = MasterPhase.LAME, by
    state.phase_deadline_at = draft.now + limits.lame_duck_s
    state.sessions_end_at = state.phase_deadline_at + LAST_SHARE * limits.grace_s
    retire_surplus(draft)
    draft.note("master.lame", lame_duck_s=limits.lame_duck_s, by=by)
    if was_cutting:
        reload.prove_or_refuse(draft)


def lame_time_over(draft: Draft) -> None:
    """Stop: lame_duck_s is over."""
    _begin_asked(draft, quick=False, by=draft.state.stop_asked_by)


# --- STOPPING -------------------------------------------------------------------------


def _begin_asked(draft: Draft, *, quick: bool, by: str) -> None:
    begin(draft, _end_of(by), quick=quick)
    # The log line comes last: when it appears, the listeners are closed.
    draft.note("master.stopping", quick=quick, by=by)


def _end_of(by: str) -> Exit:
    return Exit(ExitCode.DONE, f"stopped by {by}")


def begin(draft: Draft, end: Exit, quick: bool) -> None:
    """Close the listeners, and order the children to finish, or to leave."""
    state = draft.state
    reload.abandon(draft, end.reason)
    state.phase = MasterPhase.STOPPING
    state.phase_deadline_at = None
    state.stop_began_at = draft.now
    state.sessions_end_at = draft.stop_ends_at
    state.exit = end
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
            draft.bring_forward(child, deadline_at)


def _smallest_share(state: State) -> float:
    """The smallest ``stop_share`` of the children that are left; the kind that has it
    finishes next.
    """
    return min((policy_of(child).stop_share for child in state.children.values()), default=0.0)


def _leave_all(draft: Draft) -> None:
    """Order all children to leave within QUICK_GRACE_S, and before the stop's own time
    is over.
    """
    deadline_at = min(draft.now + QUICK_GRACE_S, draft.stop_ends_at)
    draft.state.sessions_end_at = deadline_at
    for child in list(draft.state.children.values()):
        if child.phase is not ChildPhase.KILLED:
            draft.leave(child, deadline_at)
        else:
            draft.bring_forward(child, deadline_at)


def settle(draft: Draft) -> None:
    """Order the kind to finish that has the smallest stop_share of those left. After
    the last child, order the master to leave.
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
