"""Runs the rounds. In each, the servers of a row are started side by side and take
short turns, so that changes of the machine affect all of them.

A *lap* is one turn of each server. A turn in which other programs used our processors,
or the hypervisor took them, is repeated at once, so that it stays beside its
neighbours. When patience has ended such a turn counts, and its round is a disturbed
one.
"""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.accounts import TICKS_PER_S, Cpu, snapshot
from tests.benchmarks.build import Programs
from tests.benchmarks.figures import FAILURES, OWN, Cell, Faulty, Sample, Table
from tests.benchmarks.generator import Generator, Tally, generator
from tests.benchmarks.machine import Cpus
from tests.benchmarks.memory import pss_bytes
from tests.benchmarks.orders import turns
from tests.benchmarks.quiet import Quiet
from tests.benchmarks.rows import EVERY, IDLE, Row
from tests.benchmarks.servers import KINDS, Server, running

BASE_CONNECTIONS = 100
"""As in load.c: the connections held before the memory of the others is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure, and on which processors: rounds of ``laps`` laps, in which each
    server has a turn of ``turn_s`` seconds.
    """

    programs: Programs
    cpus: Cpus
    quiet: Quiet
    rounds: int
    laps: int
    turn_s: float
    warm_up_s: float

    @property
    def seconds(self) -> float:
        """The time of one server in one round."""
        return self.laps * self.turn_s


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one server in one or several turns. ``operations`` are the
    generator's, ``lost`` its datagrams without an answer. ``load_s`` is its own time
    and that of the kernel's thread of its processor. ``foreign_s`` is what others used
    of our two processors; ``disturbed`` says whether that was too much.
    """

    operations: int = 0
    seconds: float = 0.0
    used: Cpu = field(default_factory=Cpu)
    load_s: float = 0.0
    foreign_s: float = 0.0
    disturbed: bool = False
    lost: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.operations + other.operations,
            self.seconds + other.seconds,
            self.used + other.used,
            self.load_s + other.load_s,
            self.foreign_s + other.foreign_s,
            self.disturbed or other.disturbed,
            self.lost + other.lost,
        )

    @property
    def foreign_share(self) -> float:
        """The share of our two processors' time that others used."""
        return self.foreign_s / (2 * self.seconds) if self.seconds else 0.0

    def sample(self, operations_in_one: int) -> Sample:
        """Return the figures of this work. ``operations_in_one`` is the number of the
        generator's operations in one of the table's.
        """
        operations = self.operations / operations_in_one
        each_us = 1e6 / operations
        return {
            "rate": operations / self.seconds,
            "cpu_us": self.used.total_s * each_us,
            "user_us": self.used.user_s * each_us,
            "system_us": self.used.system_s * each_us,
            "busy": self.used.total_s / self.seconds,
            "load_busy": self.load_s / self.seconds,
            "operations": operations,
            "seconds": self.seconds,
            "foreign": self.foreign_share,
            "lost": self.lost / (self.operations + self.lost),
        }


def run_row(plan: Plan, row: Row, servers: Sequence[str]) -> dict[str, Cell]:
    """Run all rounds of a row."""
    cells = {name: Cell() for name in servers}
    for number in range(plan.rounds):
        if row is IDLE:
            for name, cell in cells.items():
                if not cell.fault:
                    _idle_round(plan, name, cell, number)
        else:
            _round(plan, row, cells, number)
    return cells


def run_rows(plan: Plan, rows: Sequence[Row], only: Collection[str]) -> Table:
    """Run all rows, with the servers among ``only``."""
    table: Table = {}
    for number, row in enumerate(rows):
        print(f"{row.title}", flush=True)
        plan.quiet.share(len(rows) - number + len(OWN))  # those are rows too
        table[row.name] = run_row(plan, row, [name for name in row.servers if name in only])
        for name, cell in table[row.name].items():
            print(f"  {KINDS[name].title_in(row.service):<22}{_said(row, cell)}", flush=True)
    return table


def _said(row: Row, cell: Cell) -> str:
    if cell.why_none:
        return cell.why_none
    repeated = f", {cell.thrown_away} repeated" if cell.thrown_away else ""
    marks = f"{repeated}, disturbed" if cell.is_disturbed() else repeated
    if row is not IDLE and (lost := cell.figure("lost").high):
        marks += f", {lost:.2%} lost"
    if row is IDLE:
        return (
            f"{cell.figure('memory_bytes').median:8.0f} bytes, p50"
            f" {cell.figure('p50_us').median:.1f} us, p99 {cell.figure('p99_us').median:.1f}"
            f" us{marks}"
        )
    rate = cell.figure("rate")
    return (
        f"{rate.median:12,.0f}/s (spread {rate.spread:4.0%})  {cell.figure('cpu_us').median:8.2f}"
        f" us/{row.unit}{marks}"
    )


def _round(plan: Plan, row: Row, cells: Mapping[str, Cell], number: int) -> None:
    """Run one round of all servers without a fault."""
    for name, work in _laps(plan, row, cells, number).items():
        if not cells[name].fault:
            cells[name].add(number, work.sample(row.operations_in_one), disturbed=work.disturbed)


@dataclass(frozen=True, slots=True)
class Pair:
    """A server and its generator. ``stack`` ends both."""

    server: Server
    load: Generator
    stack: contextlib.ExitStack

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that work for this measurement, with those below them."""
        return (self.server.pid, *filter(None, (self.server.target_pid,)), self.load.pid)


def _laps(plan: Plan, row: Row, cells: Mapping[str, Cell], number: int) -> dict[str, Work]:
    """Return the work of all servers in the laps of a round."""
    with contextlib.ExitStack() as all_stacks:
        pairs: dict[str, Pair] = {}
        for name, cell in cells.items():
            stack = contextlib.ExitStack()
            all_stacks.callback(_close, cell, stack)
            if not cell.fault:
                with _blaming(cell, stack):
                    pairs[name] = _start(plan, row, name, stack)
        done = dict.fromkeys(pairs, Work())
        for lap in range(plan.laps):
            order = turns(list(pairs), lap=number * plan.laps + lap, shift=EVERY.index(row))
            for name in order:
                if cells[name].fault:
                    continue
                with _blaming(cells[name], pairs[name].stack):
                    done[name] += _quiet_turn(plan, cells[name], pairs[name])
        return done


def _close(cell: Cell, stack: contextlib.ExitStack) -> None:
    with _blaming(cell, stack):
        stack.close()


def _start(plan: Plan, row: Row, name: str, stack: contextlib.ExitStack) -> Pair:
    server = stack.enter_context(running(KINDS[name], plan.programs, plan.cpus, row.service))
    load = stack.enter_context(
        generator(
            plan.programs.load,
            plan.cpus.load,
            _arguments(plan, row, server, row.connections, plan.turn_s),
        )
    )
    load.wait("ready")
    return Pair(server, load, stack)


@contextlib.contextmanager
def _blaming(cell: Cell, stack: contextlib.ExitStack) -> Iterator[None]:
    """Blame a failure in the block on the server. It has no figure, and is ended at
    once so that it disturbs no other.
    """
    try:
        yield
    except FAILURES as failure:
        cell.blame(failure)
        with contextlib.suppress(*FAILURES):
            stack.__exit__(type(failure), failure, failure.__traceback__)


def _quiet_turn(plan: Plan, cell: Cell, pair: Pair) -> Work:
    """Run a turn of a server, undisturbed while patience lasts."""

    def measure() -> tuple[Work, float]:
        work = _turn(plan, pair)
        return work, work.foreign_share

    taken = plan.quiet.take(measure)
    cell.thrown_away += taken.thrown_away
    return dataclasses.replace(taken.value, disturbed=taken.disturbed)


def _turn(plan: Plan, pair: Pair) -> Work:
    before = snapshot(plan.cpus, pair.server.pid)
    tally = _step(pair.load)
    after = snapshot(plan.cpus, pair.server.pid)
    pair.load.wait("ready")
    load_s = tally.cpu_s + after.load_softirq_s - before.load_softirq_s
    return Work(
        tally.operations,
        tally.seconds,
        after.used - before.used,
        load_s,
        after.foreign_s(before, pair.pids),
        lost=tally.lost,
    )


def _step(load: Generator) -> Tally:
    load.go()
    tally = load.tally()
    if tally.fault:
        raise Faulty(tally.fault)
    return tally


def _arguments(plan: Plan, row: Row, server: Server, connections: int, seconds: float) -> list[str]:
    lines = server.place.directory / "lines"
    lines.write_bytes(server.kind.lines)
    asked = {
        "port": server.place.port,
        "connections": connections,
        "size": row.size,
        "seconds": seconds,
        "warm-up": plan.warm_up_s,
        "line": server.kind.line_in(row.service),
        "lines": lines,
        "sources": server.kind.sources,
    }
    return [row.mode, *(word for key, value in asked.items() for word in (f"--{key}", str(value)))]


def _idle_round(plan: Plan, name: str, cell: Cell, number: int) -> None:
    """Run one round of one server alone, undisturbed while patience lasts. Ten thousand
    connections leave no room for others.
    """

    def measure() -> tuple[Sample, float]:
        with running(KINDS[name], plan.programs, plan.cpus) as server:
            alone, beside = _idle_step(plan, server, 0), _idle_step(plan, server, IDLE.connections)
        figures = {
            "memory_bytes": beside.bytes_each,
            "p50_us": beside.tally.p50_us,
            "p99_us": beside.tally.p99_us,
            "p50_alone_us": alone.tally.p50_us,
            "p99_alone_us": alone.tally.p99_us,
            "p99_over_alone": beside.tally.p99_us / alone.tally.p99_us,
        }
        return figures, max(alone.foreign_s, beside.foreign_s) / (2 * plan.seconds)

    try:
        taken = plan.quiet.take(measure, allowed=_allowed_beside_idle(plan))
        cell.add(number, taken.value, disturbed=taken.disturbed, thrown_away=taken.thrown_away)
    except FAILURES as failure:
        cell.blame(failure)


def _allowed_beside_idle(plan: Plan) -> float:
    """Return what others may use in an idle round. A 99th percentile depends on the
    slowest hundredth, so it is a quarter of the usual share, but at least one kernel
    tick.
    """
    return max(plan.quiet.disturbed / 4, 1.01 / TICKS_PER_S / (2 * plan.seconds))


@dataclass(frozen=True, slots=True)
class IdleStep:
    """The state beside idle connections: the latency, their memory, and what others
    used of our two processors meanwhile.
    """

    tally: Tally
    bytes_each: float
    foreign_s: float


def _idle_step(plan: Plan, server: Server, connections: int) -> IdleStep:
    with generator(
        plan.programs.load,
        plan.cpus.load,
        _arguments(plan, IDLE, server, connections, plan.seconds),
    ) as load:
        load.wait("base")
        base_bytes = sum(map(pss_bytes, server.pids()))
        load.go()
        load.wait("held")
        held_bytes = sum(map(pss_bytes, server.pids()))
        load.go()
        load.wait("ready")
        before = snapshot(plan.cpus)
        tally = _step(load)
        foreign_s = snapshot(plan.cpus).foreign_s(before, (server.pid, load.pid))
        return IdleStep(
            tally, (held_bytes - base_bytes) / max(1, connections - BASE_CONNECTIONS), foreign_s
        )
