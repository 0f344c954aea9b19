"""Performs effects: one small function for each, in the table :data:`PERFORMERS`.

Nothing is decided here. A refusal by the system goes back to the core as an event.
Called by the shell; works on :class:`unpd.master.runtime.Runtime`; calls
:mod:`unpd.master.children` and :mod:`unpd.master.listening`.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from unpd.board import layout
from unpd.board.active import accepted_in_row
from unpd.board.columns import ColumnsExhaustedError
from unpd.board.ended import EndedRing
from unpd.board.memory import Entry, rows_bound
from unpd.config.plan import restart_needed, why_restart
from unpd.config.schema import Config
from unpd.config.service_types import service_type
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Child
from unpd.core.policy import policy_of
from unpd.errors import UnpdError
from unpd.kernel import processes
from unpd.logs import Log
from unpd.loop import now
from unpd.master import halting, rotation, scaling
from unpd.master.children import reports
from unpd.master.children.fork import Forked, ForkPlan, fork
from unpd.master.children.kinds import KINDS, wanted_children
from unpd.master.children.serving import own_addresses
from unpd.master.listening.closed import StillHeldError
from unpd.master.listening.listener import OpenListener
from unpd.master.mending import look_at_readers, mend_listeners
from unpd.master.parents import make_state_directory
from unpd.master.reload_report import ReloadReport, listed
from unpd.master.runtime import ChildProcess, Deployment, LastReload, Question, Runtime
from unpd.names import ChildKind, PoolOutcome, ReloadResult


def perform(runtime: Runtime, effect: fx.Effect) -> None:
    """Perform one effect. The shell itself performs ``Leave``."""
    PERFORMERS[type(effect)](runtime, effect)


# --- children -------------------------------------------------------------------------


def _spawn(runtime: Runtime, effect: fx.Spawn) -> None:
    child = effect.child
    deployment = deployment_of(runtime, child)
    kind = KINDS[child.slot.kind]
    left = runtime.lanes.left_for(child)
    row = left.row if left else _free_row(runtime)
    if row is None:
        reason = f"all {layout.MAX_ROWS} rows of the scoreboard are taken"
        runtime.events.append(ev.ForkFailed(child.birth, reason))
        return
    runtime.board.prepare(row)
    try:
        ended = EndedRing() if policy_of(child).serves else None
        runtime.sources.reach(rows_bound(row))
        plan = ForkPlan(
            board=runtime.board,
            row=row,
            identity=partial(kind.identity, runtime, deployment, child),
            keeps_root=kind.keeps_root(runtime, deployment, child),
            log=runtime.log,
            kept_fds=(
                runtime.sources.fd,
                *kind.keeps(deployment, child),
                *_give_lane(runtime, deployment, child, row),
            ),
            live=lambda newborn: kind.live(runtime, deployment, newborn),
            ended=ended,
        )
        fork(child, plan, lambda forked: _register(runtime, child, plan, forked))
    except OSError as error:
        if lane := runtime.lanes.held_by(child.birth):
            runtime.lanes.take_back(lane)
        runtime.board.count(layout.Master.FORK_FAILURES)
        runtime.events.append(ev.ForkFailed(child.birth, error.strerror or str(error)))


def _give_lane(runtime: Runtime, deployment: Deployment, child: Child, row: int) -> tuple[int, ...]:
    """Give a child that has sessions its lane; return the descriptors of it. OSError if
    the kernel refuses the memory or the descriptors.
    """
    kind = KINDS[child.slot.kind]
    sessions = kind.sessions(deployment, child)
    if not sessions:
        return ()
    heirlooms = partial(kind.heirlooms, runtime, deployment, child)
    return runtime.lanes.give(child, row, sessions, heirlooms).fds


def deployment_of(runtime: Runtime, child: Child) -> Deployment:
    """The configuration and listeners with which the child is born.

    A child of a pool that the candidate leaves alone is of an earlier generation, and
    gets the current ones: what it reads of both is the same.
    """
    if runtime.candidate is not None and child.generation > runtime.generation:
        return runtime.candidate
    return runtime.deployment


def _free_row(runtime: Runtime) -> int | None:
    taken = {process.row for process in runtime.processes.values()} | runtime.lanes.rows
    return next((row for row in range(layout.MAX_ROWS) if row not in taken), None)


def _register(runtime: Runtime, child: Child, plan: ForkPlan, forked: Forked) -> None:
    slot = child.slot
    runtime.processes[child.birth] = ChildProcess(
        child=child,
        pid=forked.pid,
        pidfd=forked.pidfd,
        row=plan.row,
        channel=forked.channel,
        accepted_before=accepted_in_row(runtime.board, plan.row),
        ended=plan.ended,
    )
    if plan.ended is not None:
        plan.ended.keep_from_children()
    runtime.birth_by_pid[forked.pid] = child.birth
    reports.watch(runtime, child.birth)
    pool = 0
    if policy_of(child).serves:
        pool = runtime.columns.pools.column(slot.pool)
    if slot.kind is ChildKind.WORKER:
        runtime.board.count(layout.Master.SPAWNS + pool)
    entry = Entry(
        row=plan.row,
        birth=child.birth,
        pid=forked.pid,
        kind=slot.kind,
        pool=pool,
        phase=child.phase,
        generation=child.generation,
        index=slot.index,
        born_ns=int(child.born_at * layout.NS),
        accepted_before=runtime.processes[child.birth].accepted_before,
    )
    rows_before = runtime.board.rows_given
    runtime.board.enter(entry)
    if rows_bound(runtime.board.rows_given) > rows_bound(rows_before):
        _raise_bounds(runtime)
    runtime.log.event(
        "child.spawned",
        kind=str(slot.kind),
        slot=str(slot),
        birth=child.birth,
        generation=child.generation,
        pid=forked.pid,
    )


def _raise_bounds(runtime: Runtime) -> None:
    """Have each child read more rows of the board. It must not take the number from the
    board, where a faulty child could forge it. There are 16 steps at most, so that the
    questions find room.
    """
    message = {"question": "rows", "bound": rows_bound(runtime.board.rows_given)}
    for birth in list(runtime.processes):
        reports.ask(runtime, birth, Question(message, on_answer=lambda _: None))


def _send_addresses(runtime: Runtime) -> None:
    """Have the workers answer no datagram of the addresses on which unpd listens now. A
    worker whose channel is broken goes on with those of its start.
    """
    message = {"question": "own", **own_addresses(runtime.deployment).as_message()}
    for birth, process in list(runtime.processes.items()):
        if process.child.slot.kind is ChildKind.WORKER:
            reports.ask(runtime, birth, Question(message, on_answer=lambda _: None))


def _tell(runtime: Runtime, effect: fx.Tell) -> None:
    process = runtime.processes.get(effect.birth)
    if process is not None and process.pidfd is not None:
        process.ordered = True
        processes.send_signal(process.pidfd, signal.Signals[effect.order.value])


def _show_phase(runtime: Runtime, effect: fx.ShowPhase) -> None:
    process = runtime.processes.get(effect.child.birth)
    if process is not None:
        process.child = effect.child
        runtime.board.set_phase(process.row, effect.child.phase)


# --- configuration --------------------------------------------------------------------


def _load_config(runtime: Runtime, effect: fx.LoadConfig) -> None:
    del effect
    if runtime.postponed is None:
        runtime.reload_log.begin(runtime.log)
    try:
        loaded = runtime.load()
        if fixed := restart_needed(runtime.deployment.config, loaded.config):
            raise UnpdError(why_restart(fixed))
        make_state_directory(loaded.config)
        wanted_listeners = runtime.deployment.listeners.sources.wanted_listeners(loaded.config)
        runtime.columns.give_back(runtime.processes.keys() | runtime.lanes.births)
        runtime.columns.check(loaded.config, wanted_listeners)
        listeners = runtime.deployment.listeners.prepare(wanted_listeners)
        runtime.candidate = Deployment(loaded.config, listeners)
        runtime.columns.try_out(loaded.config, wanted_listeners)
    except (UnpdError, ColumnsExhaustedError) as error:
        if not (isinstance(error, StillHeldError) and runtime.postpone(now())):
            runtime.events.append(ev.ConfigRefused(str(error)))
        return
    for warning in loaded.warnings:
        runtime.log.event("config.warning", text=warning)
    for listener in runtime.deployment.listeners.added_by(listeners):
        log_listener(runtime, listener)
    runtime.events.append(ev.ConfigLoaded(wanted_children(runtime.candidate)))


def _reuse_config(runtime: Runtime, effect: fx.ReuseConfig) -> None:
    del effect
    config, listeners = runtime.deployment.config, runtime.deployment.listeners
    try:
        wanted_listeners = listeners.sources.wanted_listeners(config)
        runtime.candidate = Deployment(config, listeners.prepare(wanted_listeners))
    except UnpdError as error:
        runtime.events.append(ev.ConfigRefused(str(error), renewal=True))
        return
    runtime.events.append(ev.ConfigLoaded(wanted_children(runtime.candidate), renewal=True))


def log_listener(runtime: Runtime, listener: OpenListener) -> None:
    """Log the address of a new listener, with the port that the kernel chose for 0."""
    runtime.log.event("listener.opened", service=listener.wanted.service, address=listener.text)
    if listener.without_ipv6:
        runtime.log.event(
            "listener.without_ipv6",
            service=listener.wanted.service,
            wanted=listener.wanted.address.text,
            address=listener.text,
        )


def log_notes(log: Log, config: Config, before: Config | None = None) -> None:
    """Log the limits of the protocols that are served, of services that are not of the
    same type in the configuration ``before``.
    """
    types_before = {name: one.type for name, one in before.services.items()} if before else {}
    for name, service in config.services.items():
        note = service_type(service.type).note
        if note and types_before.get(name) != service.type:
            log.event("service.note", service=name, text=note)


def _adopt_config(runtime: Runtime, effect: fx.AdoptConfig) -> None:
    if runtime.candidate is None:
        raise AssertionError("the core adopts a configuration that was never loaded")
    before = set(runtime.deployment.listeners.opened)
    addresses_before = own_addresses(runtime.deployment)
    old, new = runtime.deployment, runtime.candidate
    runtime.report = ReloadReport.between(
        (old.config, new.config), (old.listeners.opened, new.listeners.opened)
    )
    listeners = runtime.deployment.listeners
    listeners.adopt(runtime.candidate.listeners)
    for key in sorted(before - set(listeners.opened)):
        runtime.log.event("listener.closed", address=key)
    log_notes(runtime.log, runtime.candidate.config, runtime.deployment.config)
    runtime.deployment = Deployment(runtime.candidate.config, listeners)
    runtime.candidate = None
    runtime.columns.take(runtime.deployment.config, listeners.wanted())
    halting.adopted(runtime)
    if own_addresses(runtime.deployment) != addresses_before:
        _send_addresses(runtime)
    mend_listeners(runtime)
    wanted = runtime.deployment.config.log
    runtime.log.set_level(wanted.level, connections=wanted.connections)
    runtime.deny_list.use_file(runtime.deployment.config.access.state_file, now())
    if runtime.control is not None and old.config.control != new.config.control:
        runtime.control.let_look(new.config.control.read_group)
        look_at_readers(runtime, changed=True)
    runtime.generation = runtime.board.words[layout.Master.GENERATION] = effect.generation


def _drop_config(runtime: Runtime, effect: fx.DropConfig) -> None:
    del effect
    if runtime.candidate is not None:
        listeners, dropped = runtime.deployment.listeners, runtime.candidate.listeners
        for listener in listeners.added_by(dropped):
            runtime.log.event("listener.closed", address=listener.wanted.key)
        listeners.drop(dropped)
        births = [
            birth
            for birth, process in runtime.processes.items()
            if process.child.generation > runtime.generation
        ]
        runtime.columns.refuse(runtime.candidate.config, dropped.wanted(), births)
        runtime.candidate = None


def _close_listeners(runtime: Runtime, effect: fx.CloseListeners) -> None:
    del effect
    runtime.lanes.end_unkept()
    runtime.deployment.listeners.close()
    for column in runtime.columns.listeners.by_name.values():
        runtime.board.words[layout.Master.LISTEN_QUEUES + 2 * column] = 0


def _count_reload(runtime: Runtime, effect: fx.CountReload) -> None:
    runtime.reload_log.end(runtime.log)
    words = runtime.board.words
    result = ReloadResult.REFUSED if effect.refused else ReloadResult.SUCCESS
    runtime.board.count(layout.Master.RELOADS + layout.RELOAD_RESULTS.index(result))
    words[layout.Master.LAST_RELOAD_OK] = int(not effect.refused)
    ended_at = time.time()
    if not effect.refused:
        words[layout.Master.LAST_RELOAD_WALL_NS] = int(ended_at * layout.NS)
    runtime.last_reload = LastReload(effect.refused, ended_at, runtime.generation)


def _report_reload(runtime: Runtime, effect: fx.ReportReload) -> None:
    report = runtime.report = replace(runtime.report, pools=effect.pools)
    runtime.log.event(
        "reload.succeeded",
        generation=runtime.generation,
        replaced=report.pools_with(PoolOutcome.RESPAWNED, PoolOutcome.ADDED),
        resized=report.pools_with(PoolOutcome.RESIZED),
        removed=report.pools_with(PoolOutcome.REMOVED),
        services_added=listed(report.services_added),
        services_removed=listed(report.services_removed),
        opened=listed(report.listeners_opened),
        closed=listed(report.listeners_closed),
    )


def _answer_reload(runtime: Runtime, effect: fx.AnswerReload) -> None:
    if runtime.control is None:
        return
    log = runtime.reload_log.fields() if effect.began else {}
    if effect.refused:
        runtime.control.answer(effect.request, ok=False, reason=effect.refused, **log)
        return
    fields = runtime.report.fields(runtime.generation)
    runtime.control.answer(effect.request, ok=True, **fields, **log)


def _answer_scale(runtime: Runtime, effect: fx.AnswerScale) -> None:
    scaling.answer(runtime, effect)


# --- the rest -------------------------------------------------------------------------


def _announce_ready(runtime: Runtime, effect: fx.AnnounceReady) -> None:
    del effect
    runtime.on_ready()


def _reopen_log(runtime: Runtime, effect: fx.ReopenLog) -> None:
    del effect
    rotation.reopen(runtime)


def _note(runtime: Runtime, effect: fx.Note) -> None:
    runtime.log.event(effect.event, **dict(effect.fields))


PERFORMERS: Mapping[type[fx.Effect], Callable[[Runtime, Any], None]] = MappingProxyType(
    {
        fx.Spawn: _spawn,
        fx.Tell: _tell,
        fx.ShowPhase: _show_phase,
        fx.LoadConfig: _load_config,
        fx.ReuseConfig: _reuse_config,
        fx.AdoptConfig: _adopt_config,
        fx.DropConfig: _drop_config,
        fx.CloseListeners: _close_listeners,
        fx.CountReload: _count_reload,
        fx.ReportReload: _report_reload,
        fx.AnswerReload: _answer_reload,
        fx.AnswerScale: _answer_scale,
        fx.AnnounceReady: _announce_ready,
        fx.ReopenLog: _reopen_log,
        fx.Note: _note,
    }
)
"""The function of each effect, but for ``Leave``."""
