"""The rounds: every server of a row in turn, each started for its round, until all have theirs.

A round in which somebody else used our processors, or the hypervisor took them, is thrown away and repeated, as long as the patience for that lasts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.accounts import Quiet, Snapshot, pss_bytes
from tests.benchmarks.build import Programs
from tests.benchmarks.figures import Cell, Sample, Table
from tests.benchmarks.generator import Generator, Tally, generator
from tests.benchmarks.machine import Cpus
from tests.benchmarks.rows import IDLE, Row
from tests.benchmarks.servers import KINDS, Server, running

BASE_CONNECTIONS = 100
"""As in load.c: held before the memory of the others is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure, on what."""

    programs: Programs
    cpus: Cpus
    quiet: Quiet
    rounds: int
    seconds: float
    warm_up_s: float


class Faulty(Exception):
    """The generator counted errors: this server has no figure in this row."""


def run_row(plan: Plan, row: Row, servers: Sequence[str]) -> dict[str, Cell]:
    """All rounds of a row."""
    cells = {name: Cell() for name in servers}
    for number in range(plan.rounds):
        for name, cell in cells.items():
            if not cell.fault:
                _fill(plan, row, name, cell, number)
    return cells


def run_rows(plan: Plan, rows: Sequence[Row], only: Sequence[str]) -> Table:
    """All rows, with the servers among ``only`` (empty: all)."""
    table: Table = {}
    for row in rows:
        print(f"{row.title}", flush=True)
        table[row.name] = run_row(plan, row, [name for name in row.servers if not only or name in only])
        for name, cell in table[row.name].items():
            print(f"  {KINDS[name].title:<22}{_said(row, cell, plan)}", flush=True)
    return table


def _said(row: Row, cell: Cell, plan: Plan) -> str:
    if fault := cell.why_none(plan.rounds):
        return fault
    thrown_away = f", {cell.thrown_away} thrown away" if cell.thrown_away else ""
    if row is IDLE:
        return f"{cell.figure('memory_bytes').median:8.0f} bytes, p50 {cell.figure('p50_us').median:.1f} us, p99 {cell.figure('p99_us').median:.1f} us{thrown_away}"
    rate = cell.figure("rate")
    return f"{rate.median:12,.0f}/s (spread {rate.spread:4.0%})  {cell.figure('cpu_us').median:8.2f} us/{row.unit}{thrown_away}"


def _fill(plan: Plan, row: Row, name: str, cell: Cell, number: int) -> None:
    """One round of one server; a disturbed one again and again while there is patience."""
    while True:
        began = time.monotonic()
        try:
            sample, foreign = _measure(plan, row, name)
        except (Faulty, AssertionError, RuntimeError) as failure:
            cell.fault = str(failure)
            return
        if plan.quiet.was(foreign, time.monotonic() - began):
            cell.rounds[number] = sample
            return
        cell.thrown_away += 1
        if plan.quiet.patience_s <= 0:
            return


def _measure(plan: Plan, row: Row, name: str) -> tuple[Sample, float]:
    """One round: what was measured, and the part of it that others used."""
    with running(KINDS[name], plan.programs, plan.cpus.server) as server:
        return _idle(plan, server) if row is IDLE else _work(plan, row, server)


def _arguments(plan: Plan, row: Row, server: Server, connections: int) -> list[str]:
    port = server.place.daytime if row.mode == "daytime" else server.place.echo
    asked = {
        "port": port,
        "connections": connections,
        "size": row.size,
        "seconds": plan.seconds,
        "warm-up": plan.warm_up_s,
        "line": server.kind.line,
        "sources": server.kind.sources,
    }
    return [row.mode, *(word for key, value in asked.items() for word in (f"--{key}", str(value)))]


def _last_step(plan: Plan, server: Server, load: Generator) -> tuple[Tally, Snapshot, Snapshot, float]:
    """The measured step, with the machine before and after it, and the part that others used."""
    load.wait("ready")
    before = Snapshot(plan.cpus)
    load.go()
    tally = load.tally()
    after = Snapshot(plan.cpus)
    if tally.fault:
        raise Faulty(tally.fault)
    return tally, before, after, after.foreign_share(before, (server.pid, load.pid))


def _work(plan: Plan, row: Row, server: Server) -> tuple[Sample, float]:
    with generator(plan.programs.load, plan.cpus.load, _arguments(plan, row, server, row.connections)) as load:
        tally, before, after, foreign = _last_step(plan, server, load)
    used = after.used_by(server.pid).since(before.used_by(server.pid))
    each_us = 1e6 / tally.operations
    sample = {
        "rate": tally.operations / tally.seconds,
        "cpu_us": used.total_s * each_us,
        "user_us": used.user_s * each_us,
        "system_us": used.system_s * each_us,
        "busy": used.total_s / tally.seconds,
        "load_busy": tally.cpu_s / tally.seconds,
        "operations": tally.operations,
        "seconds": tally.seconds,
        "foreign": foreign,
    }
    return sample, foreign


def _idle(plan: Plan, server: Server) -> tuple[Sample, float]:
    """The latency with nobody else there, then 10,000 that are, their memory, and the latency beside them."""
    alone, _, foreign_alone = _idle_step(plan, server, 0)
    beside, bytes_each, foreign = _idle_step(plan, server, IDLE.connections)
    sample = {
        "memory_bytes": bytes_each,
        "p50_us": beside.p50_us,
        "p99_us": beside.p99_us,
        "p50_alone_us": alone.p50_us,
        "p99_alone_us": alone.p99_us,
        "p99_over_alone": beside.p99_us / alone.p99_us,
    }
    return sample, max(foreign_alone, foreign)


def _idle_step(plan: Plan, server: Server, connections: int) -> tuple[Tally, float, float]:
    with generator(plan.programs.load, plan.cpus.load, _arguments(plan, IDLE, server, connections)) as load:
        load.wait("base")
        base_bytes = sum(map(pss_bytes, server.pids()))
        load.go()
        load.wait("held")
        held_bytes = sum(map(pss_bytes, server.pids()))
        load.go()
        tally, _, _, foreign = _last_step(plan, server, load)
    return tally, (held_bytes - base_bytes) / max(1, connections - BASE_CONNECTIONS), foreign
