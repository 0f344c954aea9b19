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
from unpd import scoreboard as sb
from unpd.config.plan import restart_needed
from unpd.core import effects as fx
from unpd.core import events as ev
from unpd.core.model import Child
from unpd.errors import UnpdError
from unpd.kernel import processes
from unpd.master.birth import Born, Cradle, fork, parse_report
from unpd.master.holdings import Deployment, Holdings, Living, wanted
from unpd.master.kinds import KINDS
from unpd.master.listener import Open
from unpd.names import ChildKind, ReloadResult
from unpd.scoreboard import ColumnsExhausted, Entry


def perform(holdings: Holdings, effect: fx.Effect) -> None:
    """Carry out one effect. ``Leave`` is the shell's own."""
    PERFORMERS[type(effect)](holdings, effect)


# --- children -------------------------------------------------------------------------


def _spawn(holdings: Holdings, effect: fx.Spawn) -> None:
    child = effect.child
    deployment = (
        holdings.candidate
        if holdings.candidate is not None and child.generation > holdings.generation
        else holdings.deployment
    )
    row = _free_row(holdings)
    if row is None:
        holdings.events.append(
            ev.ForkFailed(child.birth, f"all {sb.MAX_ROWS} rows of the scoreboard are taken")
        )
        return
    holdings.board.prepare(row)
    kind = KINDS[child.slot.kind]
    cradle = Cradle(
        holdings.board,
        row,
        holdings.identity,
        holdings.log,
        kind.keeps(deployment, child),
        lambda birth: kind.live(holdings, deployment, birth),
    )
    try:
        fork(child, cradle, lambda born: _register(holdings, child, row, born))
    except OSError as error:
        holdings.board.count(sb.FORK_FAILURES_AT)
        holdings.events.append(ev.ForkFailed(child.birth, error.strerror or str(error)))


def _free_row(holdings: Holdings) -> int | None:
    taken = {living.row for living in holdings.living.values()}
    return next((row for row in range(sb.MAX_ROWS) if row not in taken), None)


def _register(holdings: Holdings, child: Child, row: int, born: Born) -> None:
    holdings.living[child.birth] = Living(child, born.pid, born.pidfd, row, born.ready_fd)
    holdings.births[born.pid] = child.birth
    holdings.wait.watch(born.ready_fd, select.EPOLLIN, lambda _: read_report(holdings, child.birth))
    pool = (
        holdings.columns.pools.column(child.slot.pool) if child.slot.kind is ChildKind.WORKER else 0
    )
    holdings.board.enter(
        Entry(row, child.birth, born.pid, child.slot.kind, pool, child.phase, child.generation)
    )
    if child.slot.kind is ChildKind.WORKER:
        holdings.board.count(sb.SPAWNS_AT + pool)
    holdings.log.debug(
        "child.spawned",
        kind=str(child.slot.kind),
        slot=str(child.slot),
        birth=child.birth,
        generation=child.generation,
        pid=born.pid,
    )


def read_report(holdings: Holdings, birth: int) -> None:
    """Take what a child said over its readiness pipe, once; a child that dies before it
    says anything leaves an end of file.
    """
    living = holdings.living.get(birth)
    if living is None or living.ready_fd is None:
        return
    try:
        said = os.read(living.ready_fd, 4096)
    except BlockingIOError:
        return
    holdings.wait.forget(living.ready_fd)
    os.close(living.ready_fd)
    living.ready_fd = None
    if said:
        failure = parse_report(said)
        holdings.events.append(
            ev.ChildFailed(birth, failure[1], failure[0]) if failure else ev.ChildReady(birth)
        )


def _tell(holdings: Holdings, effect: fx.Tell) -> None:
    living = holdings.living.get(effect.birth)
    if living is not None and living.pidfd is not None:
        processes.send(living.pidfd, signal.Signals[effect.order.value])


def _show_phase(holdings: Holdings, effect: fx.ShowPhase) -> None:
    living = holdings.living.get(effect.child.birth)
    if living is not None:
        living.child = effect.child
        holdings.board.set_phase(living.row, effect.child.phase)


# --- configuration --------------------------------------------------------------------


def _load_config(holdings: Holdings, effect: fx.LoadConfig) -> None:
    del effect
    try:
        loaded = holdings.load()
        fixed = restart_needed(holdings.deployment.config, loaded.config)
        if fixed:
            raise UnpdError(f"{', '.join(fixed)} cannot be changed by a reload: restart unpd")
        wishes = holdings.deployment.listeners.supply.wishes(loaded.config)
        holdings.columns.check(loaded.config, wishes)
        listeners = holdings.deployment.listeners.prepare(loaded.config)
        holdings.candidate = Deployment(loaded.config, listeners)
        holdings.columns.take(loaded.config, wishes)
    except (UnpdError, ColumnsExhausted) as error:
        holdings.events.append(ev.ConfigRefused(str(error)))
        return
    for warning in loaded.warnings:
        holdings.log.warning("config.warning", text=warning)
    for listener in holdings.deployment.listeners.added_by(listeners):
        note_listener(holdings, listener)
    holdings.events.append(ev.ConfigLoaded(wanted(loaded.config)))


def note_listener(holdings: Holdings, listener: Open) -> None:
    """Say which address is listened on; this is where a free port gets its number."""
    holdings.log.info("listener.opened", service=listener.wish.service, address=listener.text)
    if listener.without_ipv6:
        holdings.log.warning(
            "listener.without_ipv6",
            service=listener.wish.service,
            wanted=listener.wish.address.text,
            address=listener.text,
        )


def _adopt_config(holdings: Holdings, effect: fx.AdoptConfig) -> None:
    if holdings.candidate is None:
        raise AssertionError("a configuration was adopted that was never loaded")
    before = set(holdings.deployment.listeners.opened)
    listeners = holdings.deployment.listeners
    listeners.adopt(holdings.candidate.listeners)
    for key in sorted(before - set(listeners.opened)):
        holdings.log.info("listener.closed", address=key)
    holdings.deployment = Deployment(holdings.candidate.config, listeners)
    holdings.candidate = None
    holdings.log.set_level(holdings.deployment.config.log.level)
    holdings.generation = holdings.board.words[sb.GENERATION_AT] = effect.generation


def _drop_config(holdings: Holdings, effect: fx.DropConfig) -> None:
    del effect
    if holdings.candidate is not None:
        holdings.deployment.listeners.drop(holdings.candidate.listeners)
        holdings.candidate = None


def _close_listeners(holdings: Holdings, effect: fx.CloseListeners) -> None:
    del effect
    holdings.deployment.listeners.close()
    for column in range(len(holdings.columns.listeners.names)):
        holdings.board.words[sb.LISTEN_QUEUE_AT + 2 * column] = 0


def _count_reload(holdings: Holdings, effect: fx.CountReload) -> None:
    words = holdings.board.words
    result = ReloadResult.SUCCESS if effect.succeeded else ReloadResult.REFUSED
    holdings.board.count(sb.RELOADS_AT + sb.RELOAD_RESULTS.index(result))
    words[sb.LAST_RELOAD_OK_AT] = int(effect.succeeded)
    if effect.succeeded:
        words[sb.LAST_RELOAD_WALL_NS_AT] = time.time_ns()


def _answer_reload(holdings: Holdings, effect: fx.AnswerReload) -> None:
    if holdings.control is None:
        return
    if effect.refused:
        holdings.control.answer(effect.request, ok=False, reason=effect.refused)
    else:
        holdings.control.answer(effect.request, ok=True, generation=holdings.generation)


# --- the rest -------------------------------------------------------------------------


def _announce_ready(holdings: Holdings, effect: fx.AnnounceReady) -> None:
    del effect
    holdings.on_ready()


def _reopen_log(holdings: Holdings, effect: fx.ReopenLog) -> None:
    del effect
    path = holdings.deployment.config.log.file
    if not path:
        holdings.log.info("log.kept", reason="there is no log file")
        return
    try:
        owner = (holdings.identity.uid, holdings.identity.gid) if holdings.identity else None
        holdings.log.sink.move_to(logs.open_file(path, owner))
    except OSError as error:
        holdings.log.error("log.not_reopened", file=path, error=error.strerror or str(error))
    else:
        holdings.log.info("log.reopened", file=path)


def _note(holdings: Holdings, effect: fx.Note) -> None:
    holdings.log.event(effect.level, effect.event, **dict(effect.fields))


PERFORMERS: Mapping[type[fx.Effect], Callable[[Holdings, Any], None]] = MappingProxyType(
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
