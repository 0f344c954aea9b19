"""Carries out ``unpd scale``: another number of workers in a pool. The core decides
(:mod:`unpd.core.scaling`).

Called by :mod:`unpd.master.orders` and by the performers. Errors: VerbError, which is
answered.
"""

from unpd.config.plan import worker_count
from unpd.config.wording import quoted_list
from unpd.control.server import PendingRequest
from unpd.control.verb import VerbError
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import State
from unpd.core.scaling import why_not
from unpd.errors import quoted
from unpd.master.runtime import Runtime
from unpd.names import kind_words


def scale(runtime: Runtime, state: State, pending: PendingRequest) -> None:
    """Have the core resize a pool; its answer comes later. VerbError for a pool that
    there is not, or that has no workers, and while a reload may be about to replace the
    configuration that is read here.
    """
    if reason := why_not(state.phase):
        raise VerbError(reason)
    config, name = runtime.deployment.config, str(pending.request.arguments["pool"])
    if name not in config.pools:
        reason = f"the daemon has no pool {quoted(name)}; it has {quoted_list(config.pools)}"
        raise VerbError(reason, usage=True)
    if name not in state.wanted.workers:
        kinds = {kind_words(one.kind) for one in config.services.values() if one.pool == name}
        served = " and ".join(f"{kind}s" for kind in sorted(kinds))
        raise VerbError(
            f"the pool {quoted(name)} has no workers:"
            f" {f'{served} serve its services' if served else 'no service uses it'}",
            usage=True,
        )
    workers = int(pending.request.arguments["workers"])
    configured = worker_count(config.pools[name])
    runtime.events.append(ev.PoolScaled(pending.number, name, workers, configured))


def answer(runtime: Runtime, effect: fx.AnswerScale) -> None:
    """Answer the request with what the core has decided."""
    if runtime.control is None:
        return
    if effect.refused:
        runtime.control.answer(effect.request, ok=False, reason=effect.refused)
        return
    runtime.control.answer(
        effect.request,
        ok=True,
        pool=effect.pool,
        workers=effect.workers,
        before=effect.before,
        configured=effect.configured,
    )
