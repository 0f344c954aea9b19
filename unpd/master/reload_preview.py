"""Tells what a reload would change, for ``unpd reload --dry-run``: reads the
configuration as a reload does, and compares. Changes nothing.

The listeners that a reload would open are planned, as sockets that are bound nowhere:
so the pools can be compared by the recipes of :mod:`unpd.master.children.kinds`, as the
core compares them.

Called by :mod:`unpd.master.orders`. Errors: VerbError with the reason for which a
reload would be refused. A key that needs a restart is none: it is listed, so that the
rest of the difference can be seen too. Known gaps: whether an address is free, whether
the directory of access.state_file can be made, whether names of services that are gone
make room on the scoreboard, and whether the new children become ready, only a reload
can tell.
"""

from collections.abc import Iterator
from typing import Any

from unpd.board.columns import ColumnsExhaustedError
from unpd.config.load import Loaded
from unpd.config.plan import restart_needed, why_restart
from unpd.control.answer_fields import SCHEMA
from unpd.control.reload_fields import PREVIEW
from unpd.control.verb import VerbError
from unpd.core.model import Child, State, Wanted, pool_changes
from unpd.core.reload import STOPPING, candidate_of
from unpd.errors import UnpdError
from unpd.master.children.kinds import wanted_children
from unpd.master.listening.table import Listeners
from unpd.master.reload_report import ReloadReport, pool_fields
from unpd.master.runtime import Deployment, Runtime
from unpd.names import ENDING_PHASES, ReloadResult


def preview(runtime: Runtime, state: State, *, every_pool: bool) -> dict[str, Any]:
    """Return the fields of PREVIEW. VerbError, which has them too."""
    if state.phase in ENDING_PHASES:
        raise _refused(state, STOPPING)
    try:
        loaded = runtime.load()
        wanted_listeners = runtime.deployment.listeners.sources.wanted_listeners(loaded.config)
        runtime.columns.check(loaded.config, wanted_listeners)
        listeners = runtime.deployment.listeners.plan(wanted_listeners)
    except (UnpdError, ColumnsExhaustedError) as error:
        raise _refused(state, str(error)) from error
    try:
        return _compared(runtime, state, loaded, listeners, every_pool=every_pool)
    finally:
        for planned in runtime.deployment.listeners.added_by(listeners):
            planned.sock.close()


def _refused(state: State, reason: str) -> VerbError:
    nothing: dict[str, Any] = {field.name: [] for field in PREVIEW}
    return VerbError(reason, preview={**nothing, **_result(state, reason)})


def _result(state: State, reason: str) -> dict[str, Any]:
    result = ReloadResult.REFUSED if reason else ReloadResult.SUCCESS
    return {
        "schema": SCHEMA,
        "result": str(result),
        "reason": reason,
        "generation": state.generation,
    }


def _compared(
    runtime: Runtime, state: State, loaded: Loaded, listeners: Listeners, *, every_pool: bool
) -> dict[str, Any]:
    """What differs from the configuration that is loaded now."""
    old, new = runtime.deployment, Deployment(loaded.config, listeners)
    wanted, generation = wanted_children(new), state.last_generation + 1
    candidate = candidate_of(state, wanted, generation, every_pool=every_pool)
    fixed = restart_needed(old.config, new.config)
    told = {
        **_result(state, why_restart(fixed)),
        "warnings": list(loaded.warnings),
        "restart": list(fixed),
        **_changes(old, new),
        "pools": [pool_fields(change) for change in pool_changes(state.wanted, candidate)],
        "replaced": list(_replaced(runtime, state, candidate)),
    }
    return {field.name: told[field.name] for field in PREVIEW}


def _changes(old: Deployment, new: Deployment) -> dict[str, Any]:
    """The keys that differ, and the services and listeners that come, go and change. A
    listener changes if its options do.
    """
    report = ReloadReport.between(
        (old.config, new.config), (old.listeners.opened, new.listeners.opened)
    )
    fields = report.fields(0)["changes"]
    keys = [change.key for change in report.keys]
    tables = {key.split(".")[1] for key in keys if key.startswith("services.")}
    return {
        **{name: value for name, value in fields.items() if name != "pools"},
        "services_changed": [name for name in new.config.services if name in tables],
        "listeners_changed": list(_changed(old.listeners, new.listeners)),
    }


def _changed(old: Listeners, new: Listeners) -> Iterator[str]:
    for key, listener in new.opened.items():
        before = old.opened.get(key)
        if before is not None and before.wanted.options != listener.wanted.options:
            yield listener.text


def _replaced(runtime: Runtime, state: State, candidate: Wanted) -> Iterator[dict[str, Any]]:
    """The children that would lose their slots, with their connections, and for how
    long these might go on.
    """
    for child in state.children.values():
        if not child.retired and not candidate.has(child.generation, child.slot):
            yield _child(runtime, child, _drain_s(candidate, child))


def _drain_s(candidate: Wanted, child: Child) -> float | None:
    if candidate.spares(child.generation, child.slot):
        return None
    return candidate.limits.reload_grace_s or None


def _child(runtime: Runtime, child: Child, drain_s: float | None) -> dict[str, Any]:
    process = runtime.processes.get(child.birth)
    return {
        "kind": str(child.slot.kind),
        "pool": child.slot.pool,
        "index": child.slot.index,
        "service": child.slot.service or None,
        "pid": process.pid if process else None,
        "connections": runtime.open_connections(child.birth),
        "drain_s": drain_s,
    }
