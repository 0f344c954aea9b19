"""Performing: one small function for each effect. Nothing is decided here; what went
wrong in the world goes back to the core as an event.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from unpd import logs
from unpd.board import memory as sb
from unpd.board.memory import ColumnsExhausted, Entry
from unpd.config.plan import restart_needed
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Child
from unpd.errors import UnpdError
from unpd.kernel import processes
from unpd.master.children.fork import Forked, ForkPlan, fork, parse_report
from unpd.master.children.kinds import KINDS
from unpd.master.listening.listener import OpenListener
from unpd.master.runtime import ChildProcess, Deployment, Runtime, wanted
from unpd.names import ChildKind, ReloadResult


def perform(runtime: Runtime, effect: fx.Effect) -> None:
    """Carry out one effect. ``Leave`` is the shell's own."""
    PERFORMERS[type(effect)](runtime, effect)


# --- children -------------------------------------------------------------------------


def _spawn(runtime: Runtime, effect: fx.Spawn) -> None:
    child = effect.child
    deployment = (
        runtime.candidate
        if runtime.candidate is not None and child.generation > runtime.generation
        else runtime.deployment
    )
    row = _free_row(runtime)
    if row is None:
        runtime.events.append(
            ev.ForkFailed(child.birth, f"all {sb.MAX_ROWS} rows of the scoreboard are taken")
        )
        return
    runtime.board.prepare(row)
    kind = KINDS[child.slot.kind]
    plan = ForkPlan(
        runtime.board,
        row,
        runtime.identity,
        runtime.log,
        kind.keeps(deployment, child),
        lambda birth: kind.live(runtime, deployment, birth),
    )
    try:
        fork(child, plan, lambda forked: _register(runtime, child, row, forked))
    except OSError as error:
        runtime.board.count(sb.FORK_FAILURES_AT)
        runtime.events.append(ev.ForkFailed(child.birth, error.strerror or str(error)))


def _free_row(runtime: Runtime) -> int | None:
    taken = {living.row for living in runtime.living.values()}
    return next((row for row in range(sb.MAX_ROWS) if row not in taken), None)


def _register(runtime: Runtime, child: Child, row: int, forked: Forked) -> None:
    runtime.living[child.birth] = ChildProcess(
        child, forked.pid, forked.pidfd, row, forked.ready_fd
    )
    runtime.births[forked.pid] = child.birth
    runtime.loop.watch(forked.ready_fd, select.EPOLLIN, lambda _: read_report(runtime, child.birth))
    pool = (
        runtime.columns.pools.column(child.slot.pool) if child.slot.kind is ChildKind.WORKER else 0
    )
    runtime.board.enter(
        Entry(row, child.birth, forked.pid, child.slot.kind, pool, child.phase, child.generation)
    )
    if child.slot.kind is ChildKind.WORKER:
        runtime.board.count(sb.SPAWNS_AT + pool)
    runtime.log.debug(
        "child.spawned",
        kind=str(child.slot.kind),
        slot=str(child.slot),
        birth=child.birth,
        generation=child.generation,
        pid=forked.pid,
    )


def read_report(runtime: Runtime, birth: int) -> None:
    """Take what a child said over its readiness pipe, once; a child that dies before it
    says anything leaves an end of file.
    """
    living = runtime.living.get(birth)
    if living is None or living.ready_fd is None:
        return
    try:
        said = os.read(living.ready_fd, 4096)
    except BlockingIOError:
        return
    runtime.loop.forget(living.ready_fd)
    os.close(living.ready_fd)
    living.ready_fd = None
    if said:
        failure = parse_report(said)
        runtime.events.append(
            ev.ChildFailed(birth, failure[1], failure[0]) if failure else ev.ChildReady(birth)
        )


def _tell(runtime: Runtime, effect: fx.Tell) -> None:
    living = runtime.living.get(effect.birth)
    if living is not None and living.pidfd is not None:
        processes.send_signal(living.pidfd, signal.Signals[effect.order.value])


def _show_phase(runtime: Runtime, effect: fx.ShowPhase) -> None:
    living = runtime.living.get(effect.child.birth)
    if living is not None:
        living.child = effect.child
        runtime.board.set_phase(living.row, effect.child.phase)


# --- configuration --------------------------------------------------------------------


def _load_config(runtime: Runtime, effect: fx.LoadConfig) -> None:
    del effect
    try:
        loaded = runtime.load()
        fixed = restart_needed(runtime.deployment.config, loaded.config)
        if fixed:
            raise UnpdError(f"{', '.join(fixed)} cannot be changed by a reload: restart unpd")
        wanted_listeners = runtime.deployment.listeners.supply.wanted_listeners(loaded.config)
        runtime.columns.check(loaded.config, wanted_listeners)
        listeners = runtime.deployment.listeners.prepare(loaded.config)
        runtime.candidate = Deployment(loaded.config, listeners)
        runtime.columns.take(loaded.config, wanted_listeners)
    except (UnpdError, ColumnsExhausted) as error:
        runtime.events.append(ev.ConfigRefused(str(error)))
        return
    for warning in loaded.warnings:
        runtime.log.warning("config.warning", text=warning)
    for listener in runtime.deployment.listeners.added_by(listeners):
        note_listener(runtime, listener)
    runtime.events.append(ev.ConfigLoaded(wanted(loaded.config)))


def note_listener(runtime: Runtime, listener: OpenListener) -> None:
    """Say which address is listened on; this is where a free port gets its number."""
    runtime.log.info("listener.opened", service=listener.wanted.service, address=listener.text)
    if listener.without_ipv6:
        runtime.log.warning(
            "listener.without_ipv6",
            service=listener.wanted.service,
            wanted=listener.wanted.address.text,
            address=listener.text,
        )


def _adopt_config(runtime: Runtime, effect: fx.AdoptConfig) -> None:
    if runtime.candidate is None:
        raise AssertionError("a configuration was adopted that was never loaded")
    before = set(runtime.deployment.listeners.opened)
    listeners = runtime.deployment.listeners
    listeners.adopt(runtime.candidate.listeners)
    for key in sorted(before - set(listeners.opened)):
        runtime.log.info("listener.closed", address=key)
    runtime.deployment = Deployment(runtime.candidate.config, listeners)
    runtime.candidate = None
    runtime.log.set_level(runtime.deployment.config.log.level)
    runtime.generation = runtime.board.words[sb.GENERATION_AT] = effect.generation


def _drop_config(runtime: Runtime, effect: fx.DropConfig) -> None:
    del effect
    if runtime.candidate is not None:
        runtime.deployment.listeners.drop(runtime.candidate.listeners)
        runtime.candidate = None


def _close_listeners(runtime: Runtime, effect: fx.CloseListeners) -> None:
    del effect
    runtime.deployment.listeners.close()
    for column in range(len(runtime.columns.listeners.names)):
        runtime.board.words[sb.LISTEN_QUEUE_AT + 2 * column] = 0


def _count_reload(runtime: Runtime, effect: fx.CountReload) -> None:
    words = runtime.board.words
    result = ReloadResult.SUCCESS if effect.succeeded else ReloadResult.REFUSED
    runtime.board.count(sb.RELOADS_AT + sb.RELOAD_RESULTS.index(result))
    words[sb.LAST_RELOAD_OK_AT] = int(effect.succeeded)
    if effect.succeeded:
        words[sb.LAST_RELOAD_WALL_NS_AT] = time.time_ns()


def _answer_reload(runtime: Runtime, effect: fx.AnswerReload) -> None:
    if runtime.control is None:
        return
    if effect.refused:
        runtime.control.answer(effect.request, ok=False, reason=effect.refused)
    else:
        runtime.control.answer(effect.request, ok=True, generation=runtime.generation)


# --- the rest -------------------------------------------------------------------------


def _announce_ready(runtime: Runtime, effect: fx.AnnounceReady) -> None:
    del effect
    runtime.on_ready()


def _reopen_log(runtime: Runtime, effect: fx.ReopenLog) -> None:
    del effect
    path = runtime.deployment.config.log.file
    if not path:
        runtime.log.info("log.kept", reason="there is no log file")
        return
    try:
        owner = (runtime.identity.uid, runtime.identity.gid) if runtime.identity else None
        runtime.log.sink.move_to(logs.open_file(path, owner))
    except OSError as error:
        runtime.log.error("log.not_reopened", file=path, error=error.strerror or str(error))
    else:
        runtime.log.info("log.reopened", file=path)


def _note(runtime: Runtime, effect: fx.Note) -> None:
    runtime.log.event(effect.level, effect.event, **dict(effect.fields))


PERFORMERS: Mapping[type[fx.Effect], Callable[[Runtime, Any], None]] = MappingProxyType(
    {
        fx.Spawn: _spawn,
        fx.Tell: _tell,
        fx.ShowPhase: _show_phase,
        fx.LoadConfig: _load_config,
        fx.AdoptConfig: _adopt_config,
        fx.DropConfig: _drop_config,
        fx.CloseListeners: _close_listeners,
        fx.CountReload: _count_reload,
        fx.AnswerReload: _answer_reload,
        fx.AnnounceReady: _announce_ready,
        fx.ReopenLog: _reopen_log,
        fx.Note: _note,
    }
)
