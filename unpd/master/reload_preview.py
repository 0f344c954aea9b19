"""Tells what a reload would change, for ``unpd reload --dry-run``: reads the
configuration as a reload does, and compares. Changes nothing.

The listeners that a reload would open are planned, as sockets that are bound nowhere:
so the pools can be compared by the recipes of :mod:`unpd.master.children.kinds`, as the
core compares them.

Called by :mod:`unpd.master.orders`. Errors: VerbError with the reason for which a
reload would refuse the configuration. A key that needs a restart is none: it is listed,
so that the rest of the difference can be seen too. Known gaps: whether an address is
free, and whether the new children become ready, only a reload can tell.
"""

from collections.abc import Iterator
from typing import Any

from unpd.board.columns import ColumnsExhaustedError
from unpd.config.differences import changed_keys
from unpd.config.plan import restart_needed
from unpd.config.schema import Config
from unpd.control.answer_fields import SCHEMA
from unpd.control.reload_fields import PREVIEW
from unpd.control.verb import VerbError
from unpd.core.model import Child, State, Wanted, pool_changes
from unpd.errors import UnpdError
from unpd.master.children.kinds import wanted_children
from unpd.master.listening.table import Listeners
from unpd.master.reload_report import ReloadReport, pool_fields
from unpd.master.runtime import Deployment, Runtime


def preview(runtime: Runtime, state: State, *, every_pool: bool) -> dict[str, Any]:
    """Return the fields of PREVIEW. VerbError."""
    try:
        loaded = runtime.load()
        wanted_listeners = runtime.deployment.listeners.sources.wanted_listeners(loaded.config)
        runtime.columns.check(loaded.config, wanted_listeners)
        listeners = runtime.deployment.listeners.plan(wanted_listeners)
    except (UnpdError, ColumnsExhaustedError) as error:
        raise VerbError(str(error)) from error
    try:
        wanted = wanted_children(Deployment(loaded.config, listeners))
        candidate = wanted.after(state.wanted, state.last_generation + 1, every_pool)
        told = {
            "schema": SCHEMA,
            "generation": state.generation,
            "warnings": list(loaded.warnings),
            **_configurations(runtime.deployment.config, loaded.config),
            **_listeners(runtime.deployment, Deployment(loaded.config, listeners)),
            "pools": [pool_fields(change) for change in pool_changes(state.wanted, candidate)],
            "replaced": list(_replaced(runtime, state, candidate)),
        }
        return {field.name: told[field.name] for field in PREVIEW}
    finally:
        for planned in runtime.deployment.listeners.added_by(listeners):
            planned.sock.close()


def _configurations(old: Config, new: Config) -> dict[str, Any]:
    changed = changed_keys(old, new)
    tables = {change.key.split(".")[1] for change in changed if change.key.startswith("services.")}
    return {
        "restart": list(restart_needed(old, new)),
        "keys": [
            {"key": change.key, "before": change.before, "after": change.after}
            for change in changed
        ],
        "services_changed": [name for name in new.services if name in tables],
    }


def _listeners(old: Deployment, new: Deployment) -> dict[str, Any]:
    """The services and listeners that come, go and change. A listener changes if its
    options do.
    """
    report = ReloadReport.between(
        (old.config, new.config), (old.listeners.opened, new.listeners.opened)
    )
    return {
        "services_added": list(report.services_added),
        "services_removed": list(report.services_removed),
        "listeners_opened": list(report.listeners_opened),
        "listeners_closed": list(report.listeners_closed),
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
