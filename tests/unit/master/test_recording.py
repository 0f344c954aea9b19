"""The samples that the master records: sums over rows and services."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.memory_sink import MemorySink
from tests.support.runtimes import running
from tests.support.waiting import until
from unpd.access.denials import Denial
from unpd.access.network import Network
from unpd.board import layout
from unpd.board.history import Series
from unpd.board.layout import NS, Row, Service
from unpd.board.memory import Entry
from unpd.control.answer_fields import mismatch
from unpd.control.status_fields import STATUS
from unpd.core.model import State
from unpd.log_events.row import Field
from unpd.logs import Log
from unpd.loop import now
from unpd.master.children.kinds import wanted_children
from unpd.master.recording import record
from unpd.master.runtime import Runtime
from unpd.master.status import status
from unpd.metrics import reading
from unpd.names import ChildKind, ChildPhase, MasterPhase

CONFIG = """
[metrics]
listen = false
[services.echo]
listen = ["tcp://127.0.0.1:0"]
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The runtime of a master of echo and daytime, with two rows in use."""
    with running(CONFIG, Log(MemorySink().sink, "info", "json")) as made:
        for row in range(2):
            made.board.enter(
                Entry(row, row + 1, os.getpid(), ChildKind.WORKER, 0, ChildPhase.READY, 1)
            )
        yield made


def put(runtime: Runtime, row: int, service: str, **counts: int) -> None:
    """Write counts of a service into a row."""
    cells = runtime.board.row(row)
    start = layout.service_cells(runtime.columns.services.column(service))
    for word, count in counts.items():
        cells[start + getattr(Service, word)] = count
    cells[Row.OPEN] = 1


def sampled(runtime: Runtime, service: str = "") -> dict[str, int]:
    """The figures of the last sample."""
    return {name: column[-1] for name, column in read(runtime, service).columns.items()}


def read(runtime: Runtime, service: str = "") -> Series:
    """The samples of the daemon or of a service."""
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    window = runtime.history.history.window(now_ns)
    if not service:
        return window.totals()
    return window.recent(runtime.columns.services.column(service))


def test_sums_over_rows_and_services(runtime: Runtime) -> None:
    """A sample has the sums over all rows, of each service and of all services."""
    put(runtime, 0, "echo", ACCEPTED=5, ENDED=2, RECEIVED=10, DATAGRAM_BYTES_SENT=4)
    put(runtime, 1, "echo", ACCEPTED=3, ENDED=3, SENT=7, DATAGRAMS_RECEIVED=6)
    put(runtime, 1, "daytime", ACCEPTED=1, REFUSED=8)
    record(runtime)
    echo = {"open": 3, "accepted": 8, "datagrams": 6, "received": 10, "sent": 11}
    assert sampled(runtime, "echo") == {**echo, "refused": 0, "queued": 0}
    totals = sampled(runtime)
    assert {name: totals[name] for name in echo} == {**echo, "open": 4, "accepted": 9}
    assert totals["refused"] == 8


def test_times_are_sums_and_counts(runtime: Runtime) -> None:
    """Of round-trip times and of the lags of loops; their quotients are means."""
    put(runtime, 0, "echo", RTT_BUCKETS=2, RTT_SUM_NS=300)
    put(runtime, 1, "daytime", RTT_BUCKETS=1, RTT_SUM_NS=50)
    for row in range(2):
        runtime.board.row(row)[Row.LAG_BUCKETS + 1] = 5
        runtime.board.row(row)[Row.LAG_SUM_NS] = 70
    record(runtime)
    totals = sampled(runtime)
    assert (totals["rtt_count"], totals["rtt_sum_ns"]) == (3, 350)
    assert (totals["lag_count"], totals["lag_sum_ns"]) == (10, 140)


def test_waiting_clients_are_of_their_service(runtime: Runtime) -> None:
    """The lengths of the accept queues, as the sweep has sampled them before."""
    for key, listener in runtime.deployment.listeners.opened.items():
        if listener.wanted.service == "echo":
            word = layout.Master.LISTEN_QUEUES + 2 * runtime.columns.listeners.column(key)
            runtime.board.words[word] = 9
    record(runtime)
    assert (sampled(runtime)["queued"], sampled(runtime, "echo")["queued"]) == (9, 9)
    assert sampled(runtime, "daytime")["queued"] == 0


def test_a_forged_count_is_none(runtime: Runtime) -> None:
    """A number that no honest counter reaches counts as 0."""
    put(runtime, 0, "echo", ACCEPTED=(1 << 64) - 1, SENT=1 << 63, RECEIVED=3)
    record(runtime)
    assert (sampled(runtime)["sent"], sampled(runtime)["received"]) == (0, 3)


def test_one_sample_a_second(runtime: Runtime) -> None:
    """A sweep that comes more often records nothing more."""
    for _ in range(3):
        record(runtime)
    assert 1 <= len(read(runtime).at_ns) <= 2


def test_the_status_has_the_same_figures(runtime: Runtime) -> None:
    """Its totals are those of this moment, its rates those of the history; bytes are
    those of connections and datagrams.
    """

    def sampled_twice() -> bool:
        record(runtime)
        return len(read(runtime).at_ns) == 2

    state = State(wanted_children(runtime.deployment))
    first = status(runtime, state, history=False)
    assert first["services"][0]["received_bytes_per_s"] is None
    assert (first["totals"], first["history"], first["events"]) == (None, None, None)
    put(runtime, 0, "echo", ACCEPTED=1)
    record(runtime)
    put(runtime, 0, "echo", ACCEPTED=5, ENDED=2, RECEIVED=10, DATAGRAM_BYTES_RECEIVED=20)
    put(runtime, 1, "echo", DATAGRAM_BYTES_SENT=4, REFUSED=2, WOULD_REFUSE=3, DATAGRAMS_SENT=1)
    until(sampled_twice, 30.0, "a second sample")
    found = status(runtime, state, history=True)
    assert not mismatch(found, STATUS)
    (echo, daytime) = found["services"]
    totals = {"accepted": 5, "active": 3, "received_bytes": 30, "sent_bytes": 4, "refused": 2}
    assert {name: echo[name] for name in totals} == totals
    assert (echo["would_refuse"], echo["datagrams_sent"]) == (3, 1)
    assert (echo["refused_by_reason"], daytime["refused_by_reason"]) == ({"paused": 2}, {})
    assert echo["accepted_per_s"] > 0
    assert echo["received_bytes_per_s"] == pytest.approx(30 / 4 * echo["accepted_per_s"], rel=0.1)
    assert (daytime["accepted"], daytime["accepted_per_s"]) == (0, 0.0)
    sums = {"active": 3, "active_max_10min": 3, "accepted": 5, "refused": 2}
    assert {name: found["totals"][name] for name in sums} == sums
    assert found["totals"]["accepted_per_s"] == pytest.approx(echo["accepted_per_s"], abs=0.1)
    history, series = found["history"], read(runtime)
    assert history["at_s"] == [round(each / NS, 2) for each in series.at_ns]
    assert history["active"] == series.columns["open"] == [1, 3]
    (gap, received), (_, sent) = history["received_bytes_per_s"], history["sent_bytes_per_s"]
    assert gap is None
    assert received == pytest.approx(30 / 4 * sent, rel=0.1)
    put(runtime, 0, "echo", ENDED=5)
    runtime.counts.take(runtime.columns.services)
    (echo, _) = status(runtime, state, history=False)["services"]
    assert (echo["active"], echo["active_max_10min"]) == (0, 3)


def test_the_search_for_zombies_ends_at_its_bound(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel has no list of children, each parent costs a list of all
    processes: there is no other list after the one that is too much.
    """
    for row in range(2, 5):
        runtime.board.enter(
            Entry(row, row + 1, 90 + row, ChildKind.DISPATCHER, 0, ChildPhase.READY, 1)
        )
    listed: list[int] = []

    def of_all(pid: int) -> list[int]:
        listed.append(pid)
        return [pid] * 10

    monkeypatch.setattr(reading, "possible_children", of_all)
    assert reading.zombies(runtime.board, 1, most=15) is None
    assert listed == [1, 92]
    assert reading.zombies(runtime.board, 1, most=40) == 0
    assert listed[2:] == [1, 92, 93, 94]


def test_the_status_has_the_facts_of_the_page(runtime: Runtime) -> None:
    """Before the first heartbeat there is no age. A zombie is one while nobody reaps
    it; among too many processes the master looks for none.
    """
    state = State(wanted_children(runtime.deployment))
    facts = ("heartbeat_age_s", "zombies", "denials", "log_lines_dropped")

    def told() -> list[Any]:
        found = status(runtime, state, history=False)
        assert not mismatch(found, STATUS)
        return [found[name] for name in facts]

    assert told() == [None, 0, 0, 0]
    end: dict[str, Field] = {
        "kind": "worker",
        "slot": "default/0",
        "pid": 7,
        "ended": "exit code 1",
    }
    runtime.recent_events.note(60.0, "warning", "child.reaped", end)  # since the last sweep
    missing = status(runtime, state, history=False)["missing"]
    place = {"kind": "worker", "pool": "default", "index": 0, "service": None}
    shown = {"ended": "exit code 1", "pid": 7, "at": "1970-01-01T00:01:00Z"}
    assert missing[0] == {**place, "last_end": shown}
    assert {slot["last_end"] for slot in missing[1:]} == {None}
    stopping = replace(state, phase=MasterPhase.STOPPING)
    assert status(runtime, stopping, history=False)["missing"] == []
    runtime.board.words[layout.Master.BEAT_NS] = int((now() - 40) * NS)
    runtime.deny_list.deny(
        Denial(network=Network.parse("192.0.2.0/24"), since=0.0, until=None, uid=0)
    )
    runtime.board.row(1)[Row.LOG_DROPPED] = 7
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        until(lambda: told()[1] == 1, 30.0, "the zombie")
        age_s, *others = told()
        assert 40 <= age_s < 70
        assert others == [1, 1, 7]
        assert reading.zombies(runtime.board, os.getpid(), most=0) is None
    until(lambda: told()[1] == 0, 30.0, "the reap")
