"""The number of workers that an operator gives to a pool (``unpd scale``).

It holds until a restart, or until a reload finds another number of workers in the file:
a reload that leaves that number alone keeps it. A signal that resizes such a pool
changes the number that is kept, also while a reload is under way. That reload may be
about to change it, so that a request has to wait for its end.

Called by :mod:`unpd.core.machine`, whose table names the functions, by
:mod:`unpd.core.reload`, and by :mod:`unpd.master.scaling` for :func:`why_not`.
"""

from collections.abc import Mapping
from dataclasses import replace

from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.converge import retire_surplus
from unpd.core.draft import Draft
from unpd.core.model import Scale, Wanted
from unpd.names import ENDING_PHASES, MAX_WORKERS, MasterPhase


def scaled(draft: Draft, event: ev.PoolScaled) -> None:
    """Give a pool its number of workers. Surplus ones drain as after a reload."""
    state = draft.state
    before = state.wanted.workers.get(event.pool)
    if before is None:
        _refuse(draft, event, f"the pool {event.pool} has no workers")
        return
    total = sum(state.wanted.workers.values()) - before + event.workers
    if total > MAX_WORKERS:
        _refuse(
            draft,
            event,
            f"all pools together would have {total} workers, but at most {MAX_WORKERS} fit",
        )
        return
    state.wanted = state.wanted.with_workers(event.pool, event.workers)
    scale = Scale(event.workers, event.configured)
    state.scales = _live({**state.scales, event.pool: scale})
    retire_surplus(draft)
    draft.note("pool.scaled", pool=event.pool, workers=event.workers, before=before)
    draft.do(
        fx.AnswerScale(
            request=event.request,
            refused="",
            pool=event.pool,
            workers=event.workers,
            before=before,
            configured=event.configured,
        )
    )


def refused(draft: Draft, event: ev.PoolScaled) -> None:
    """Refuse the request: the master is busy with its children, or the daemon is
    stopping.
    """
    _refuse(draft, event, why_not(draft.state.phase))


def why_not(phase: MasterPhase) -> str:
    """Why no pool can be scaled in a phase; "" if it can."""
    if phase is MasterPhase.RUNNING:
        return ""
    if phase in ENDING_PHASES:
        return "the daemon is stopping"
    return f"the daemon is {phase}: ask again when it is running"


def _refuse(draft: Draft, event: ev.PoolScaled, reason: str) -> None:
    draft.do(fx.AnswerScale(event.request, reason))


def resized(draft: Draft, pool: str, delta: int) -> None:
    """Keep the number of workers of a scaled pool that a signal has changed; also in
    the candidate, if that keeps the scale.
    """
    state = draft.state
    state.scales = _live(_resized(state.scales, pool, state.wanted))
    kept = pool in state.candidate_scales and not state.asked.renewal
    if state.candidate is not None and kept:
        state.candidate = state.candidate.resized(pool, delta)
        state.candidate_scales = _resized(state.candidate_scales, pool, state.candidate)


def _resized(scales: Mapping[str, Scale], pool: str, wanted: Wanted) -> Mapping[str, Scale]:
    """The scales, that of ``pool`` with the number of workers in ``wanted``."""
    if pool not in scales:
        return scales
    return {**scales, pool: replace(scales[pool], workers=wanted.workers.get(pool, 0))}


def _live(scales: Mapping[str, Scale]) -> Mapping[str, Scale]:
    """Those of the scales that differ from the configuration."""
    return {pool: scale for pool, scale in scales.items() if not scale.is_none}


def kept_scales(scales: Mapping[str, Scale], wanted: Wanted) -> Mapping[str, Scale]:
    """Those of ``scales`` that hold for a new configuration: its number of workers is
    the one that was scaled, and there is room.
    """
    kept: dict[str, Scale] = {}
    for pool, scale in scales.items():
        if wanted.workers.get(pool) != scale.configured:
            continue
        with_it = wanted.with_workers(pool, scale.workers)
        if sum(with_it.workers.values()) <= MAX_WORKERS:
            wanted, kept[pool] = with_it, scale
    return kept


def apply_scales(scales: Mapping[str, Scale], wanted: Wanted) -> Wanted:
    """The same with the number of workers of each scaled pool."""
    for pool, scale in scales.items():
        wanted = wanted.with_workers(pool, scale.workers)
    return wanted


def adopt_scales(draft: Draft, scales: Mapping[str, Scale]) -> None:
    """Go on with the scales that a new configuration keeps; log the others."""
    state = draft.state
    for pool in [pool for pool in state.scales if pool not in scales]:
        workers = state.wanted.workers.get(pool, 0)
        draft.note("pool.scale_ended", pool=pool, workers=workers)
    state.scales = _live(scales)
