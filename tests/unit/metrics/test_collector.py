"""The collector over a real scoreboard whose cells the test writes."""

import math
import os
import re
import time
from array import array
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.exposition import choose_encoder

from tests.support.exporter import make_labels, make_registry, parse_openmetrics, parse_text
from unpd.board import layout, memory
from unpd.board.active import COPIES, count_active
from unpd.board.layout import SERVING_KINDS
from unpd.board.memory import Entry, Scoreboard
from unpd.metrics.catalog.row import Counter, Histogram
from unpd.metrics.catalog.table import METRICS
from unpd.metrics.reading import Reading, count_service
from unpd.metrics.rendering import Renderer
from unpd.names import (
    ACCEPT_ERRNOS,
    ChildKind,
    ChildPhase,
    EndCause,
    HeaderResult,
    ReapReason,
    RefusalReason,
    ReloadResult,
)
from unpd.worker.path_quality import LONG_S, SHARE

"""The public names, each with its labels."""

ECHO = 1
DAYTIME = 0


class Metrics:
    """A board and the registry that shows it."""

    def __init__(self, board: Scoreboard, master_pid: int) -> None:
        self.board = board
        self.labels = make_labels(master_pid)
        self.registry = make_registry(board, self.labels)

    def value(self, name: str, **labels: str) -> float:
        """The one sample of that name and labels; AssertionError if it is not there."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no sample {name} {labels}"
        return value

    def text(self) -> str:
        """The exposition in the text format."""
        return self.rendered("text/plain")

    def openmetrics(self) -> str:
        """The exposition in OpenMetrics."""
        return self.rendered("application/openmetrics-text")

    def rendered(self, accept: str) -> str:
        """A page as the exporter renders it."""
        encode, _ = choose_encoder(accept)
        return Renderer(encode).render(self.reading()).decode()

    def reading(self) -> Reading:
        """A reading of the board."""
        return Reading.take(self.board, self.labels, 0)

    def service(self, row: int, column: int) -> memoryview:
        """The cells of one service in one row."""
        self.board.words[layout.Master.ROWS_USED] = max(
            self.board.words[layout.Master.ROWS_USED], row + 1
        )
        start = layout.service_cells(column)
        return self.board.row(row)[start : start + layout.Service.size]


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """An empty board and its metrics."""
    fd = memory.create()
    yield Metrics(Scoreboard(fd), os.getpid())
    os.close(fd)


def worker(row: int, pool: int, phase: ChildPhase, kind: ChildKind = ChildKind.WORKER) -> Entry:
    """A living child's entry in the directory."""
    return Entry(
        row=row, birth=row + 1, pid=1000 + row, kind=kind, pool=pool, phase=phase, generation=1
    )


def test_counters_end_in_total_and_nothing_else_does() -> None:
    """Only counters have the suffix _total."""
    assert {row.name for row in METRICS if isinstance(row, Counter)} == {
        row.name for row in METRICS if row.name.endswith("_total")
    }


def test_the_help_says_what_a_round_trip_time_is(metrics: Metrics) -> None:
    """Of connections that end at once, it is that of the handshake alone. Not every
    connection is asked, but a long one is, and one in SHARE at least.
    """
    (line,) = re.findall("^# HELP unpd_connection_rtt_seconds (.*)$", metrics.text(), re.MULTILINE)
    assert "a connection that unpd closes at once" in line
    assert "knows only that of the handshake" in line
    assert "A connection that lasted a second is always asked" in line
    assert "of shorter ones at least every eighth" in line
    assert (LONG_S, SHARE) == (1.0, 8), "the words are true"


def test_openmetrics_parses(metrics: Metrics) -> None:
    """The strict parser accepts the OpenMetrics exposition, which ends in EOF and has
    no _created series.
    """
    text = metrics.openmetrics()
    families = parse_openmetrics(text)
    assert len(families) == len(METRICS)
    assert "_created" not in text
    assert text.endswith("# EOF\n")


def test_text_parses_with_the_same_values_as_were_written(metrics: Metrics) -> None:
    """The text format shows what the cells hold."""
    metrics.service(0, ECHO)[layout.Service.RECEIVED] = 2**53 - 1
    families = parse_text(metrics.text())
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert values["unpd_received_bytes_total", "echo"] == 2**53 - 1


def test_all_label_values_are_there_before_the_first_event(metrics: Metrics) -> None:
    """rate() works from the first event: each cause, errno, kind with reason, state and
    result is shown as 0 before it.
    """
    for service in ("daytime", "echo"):
        assert [
            metrics.value("unpd_connections_ended_total", service=service, cause=cause)
            for cause in EndCause
        ] == [0] * len(EndCause)
        assert [
            metrics.value("unpd_accept_errors_total", service=service, errno=errno)
            for errno in ACCEPT_ERRNOS
        ] == [0] * len(ACCEPT_ERRNOS)
        for name in ("unpd_refused_total", "unpd_would_refuse_total"):
            assert [
                metrics.value(name, service=service, reason=reason) for reason in RefusalReason
            ] == [0] * len(RefusalReason)
        assert metrics.value("unpd_connection_duration_seconds_count", service=service) == 0
    assert metrics.value("unpd_refused_total", service="metrics", reason="allow") == 0
    for pool in ("default", "slow"):
        for served in SERVING_KINDS:
            assert [
                metrics.value("unpd_workers", kind=served, pool=pool, state=phase)
                for phase in ChildPhase
            ] == [0] * len(ChildPhase)
            assert metrics.value("unpd_workers_wanted", kind=served, pool=pool) == 0
        assert metrics.value("unpd_worker_spawns_total", pool=pool) == 0
    # The master knows how each of its own children ended.
    reasons = [reason for reason in ReapReason if reason is not ReapReason.UNKNOWN]
    assert not re.search("^unpd_children_reaped_total.*unknown", metrics.text(), re.MULTILINE)
    for kind in ChildKind:
        assert [
            metrics.value("unpd_children_reaped_total", kind=kind, reason=reason)
            for reason in reasons
        ] == [0] * len(reasons)
    assert [
        metrics.value("unpd_config_reloads_total", result=result) for result in ReloadResult
    ] == [0] * len(ReloadResult)


def test_counts_are_summed_over_all_rows_that_were_ever_used(metrics: Metrics) -> None:
    """A scrape sums the rows of living and dead children, for each service alone."""
    for row in range(5):
        cells = metrics.service(row, ECHO)
        cells[layout.Service.ACCEPTED] = 10
        cells[layout.Service.ENDED + layout.END_CAUSES.index(EndCause.IDLE)] = row
        cells[layout.Service.ACCEPT_ERRORS + ACCEPT_ERRNOS.index("EMFILE")] = 2
        cells[layout.Service.SENT] = 1000
    metrics.service(3, DAYTIME)[layout.Service.ACCEPTED] = 7
    assert metrics.value("unpd_connections_accepted_total", service="echo") == 50
    assert metrics.value("unpd_connections_ended_total", service="echo", cause="idle") == 10
    assert metrics.value("unpd_connections_active", service="echo") == 40
    assert metrics.value("unpd_accept_errors_total", service="echo", errno="EMFILE") == 10
    assert metrics.value("unpd_sent_bytes_total", service="echo") == 5000
    assert metrics.value("unpd_connections_accepted_total", service="daytime") == 7
    assert metrics.value("unpd_connections_active", service="daytime") == 7


@pytest.mark.parametrize("reason", RefusalReason)
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("unpd_refused_total", layout.Service.REFUSED),
        ("unpd_would_refuse_total", layout.Service.WOULD_REFUSE),
    ],
)
def test_refusals_are_counted_by_service_and_reason(
    metrics: Metrics, name: str, word: int, reason: RefusalReason
) -> None:
    """A scrape sums the rows. What was refused, and what only would have been, are two
    metrics.
    """
    for row in range(3):
        metrics.service(row, ECHO)[word + layout.REFUSAL_REASONS.index(reason)] = 2
    shown = {
        (sample.name, sample.labels["service"], sample.labels["reason"]): sample.value
        for family in parse_text(metrics.text())
        for sample in family.samples
        if sample.name in ("unpd_refused_total", "unpd_would_refuse_total") and sample.value
    }
    assert shown == {(name, "echo", reason): 6}


def test_refusals_of_the_exporter_are_one_sum(metrics: Metrics) -> None:
    """Over all exporters that there ever were, without what no honest one has
    counted.
    """
    metrics.service(2, ECHO)
    for row, count in enumerate((3, layout.SANE_COUNT, 4)):
        metrics.board.row(row)[layout.Row.READERS_REFUSED] = count
    assert metrics.value("unpd_refused_total", service="metrics", reason="allow") == 7


@pytest.mark.parametrize("result", HeaderResult)
def test_headers_are_counted_by_service_and_result(metrics: Metrics, result: HeaderResult) -> None:
    """A scrape sums the rows, and shows each result from the beginning."""
    word = layout.Service.PROXY_HEADERS + layout.HEADER_RESULTS.index(result)
    for row in range(3):
        metrics.service(row, ECHO)[word] = 2
    shown = {
        (sample.labels["service"], sample.labels["result"]): sample.value
        for family in parse_text(metrics.text())
        for sample in family.samples
        if sample.name == "unpd_proxy_headers_total"
    }
    assert {key: value for key, value in shown.items() if value} == {("echo", result): 6}
    assert {key[1] for key in shown} == set(HeaderResult)


def test_active_is_never_negative(metrics: Metrics) -> None:
    """A row with more ends than accepts counts as 0 open, and takes nothing from the
    other rows.
    """
    metrics.service(0, ECHO)[layout.Service.ENDED] = 5
    metrics.service(1, ECHO)[layout.Service.ACCEPTED] = 3
    assert metrics.value("unpd_connections_active", service="echo") == 3


class InterruptedReads:
    """The words of a board. The first ``times`` reads of a service's cells, or of the
    accepts alone, are interrupted after the ends were read: meanwhile 191 connections
    come and go.
    """

    def __init__(self, words: memoryview, times: int) -> None:
        self._words = words
        self._times = times

    def __getitem__(self, at: slice | int) -> memoryview | int:
        if isinstance(at, int):
            if self._times:
                self._times -= 1
                self._words[at - layout.Service.ACCEPTED + layout.Service.ENDED] += 191
                self._words[at] += 191
            return self._words[at]
        cells = self._words[at]
        if self._times and len(cells) == layout.Service.size:
            self._times -= 1
            ended = cells[: len(layout.END_CAUSES)].tolist()
            cells[layout.Service.ENDED] += 191
            cells[layout.Service.ACCEPTED] += 191
            return memoryview(array("Q", [*ended, *cells[len(layout.END_CAUSES) :]]))
        return cells


@pytest.mark.parametrize("times", [1, COPIES - 1])
def test_an_interrupted_reader_counts_no_connection_that_is_over(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Ends and accepts are from one moment, however much happens while they are
    copied.
    """
    metrics.service(0, ECHO)[layout.Service.ACCEPTED] = 3
    counts: tuple[Callable[[], int], ...] = (
        lambda: count_active(metrics.board, ECHO, (0,)),
        lambda: count_service(metrics.board, "echo", ECHO, (0,)).active,
    )
    for count in counts:
        with monkeypatch.context() as patch:
            patch.setattr(metrics.board, "words", InterruptedReads(metrics.board.words, times))
            assert count() == 3


def test_a_scribbled_cell_counts_as_nothing(metrics: Metrics) -> None:
    """The sum leaves out a value that no honest counter reaches, in a child's row and
    in the master area.
    """
    cells = metrics.service(0, ECHO)
    cells[layout.Service.ACCEPTED] = 2**64 - 1
    cells[layout.Service.RECEIVED] = layout.SANE_COUNT
    metrics.service(1, ECHO)[layout.Service.RECEIVED] = 11
    metrics.board.row(1)[layout.Row.LOG_DROPPED] = 2**63
    metrics.board.words[layout.Master.SIGCHLD] = 2**64 - 1
    assert metrics.value("unpd_connections_accepted_total", service="echo") == 0
    assert metrics.value("unpd_connections_active", service="echo") == 0
    assert metrics.value("unpd_received_bytes_total", service="echo") == 11
    assert metrics.value("unpd_log_lines_dropped_total") == 0
    assert metrics.value("unpd_sigchld_total") == 0


def test_a_board_full_of_noise_is_still_shown(metrics: Metrics) -> None:
    """A child may scribble over the whole board: a scrape is valid and no value is
    negative.
    """
    step = layout.MAX_ROWS * layout.Row.size
    words = metrics.board.words
    for row in range(3):
        start = layout.Board.ROWS + row * layout.Row.size
        for at in range(start, start + layout.Row.size):
            words[at] = at * 0x9E3779B97F4A7C15 % 2**64
    for at in range(layout.Master.PHASE, layout.Board.DIRECTORY + 3 * layout.Directory.size):
        words[at] = (at + step) * 0x9E3779B97F4A7C15 % 2**64
    words[layout.Master.ROWS_USED] = 3
    text = metrics.openmetrics()
    families = parse_openmetrics(text)
    assert all(sample.value >= 0 for family in families for sample in family.samples)


class CountedWords:
    """The words of a board. ``rows``: the rows that were read."""

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self.rows: set[int] = set()

    def __getitem__(self, at: int | slice) -> object:
        first = at.start or 0 if isinstance(at, slice) else at
        if first >= layout.Board.ROWS:
            self.rows.add((first - layout.Board.ROWS) // layout.Row.size)
        return self._words[at]


def test_a_forged_number_of_rows_makes_no_scrape_read_them_all(metrics: Metrics) -> None:
    """A scrape reads no more rows than the master has told the exporter of, whatever
    number a faulty child writes on the board.
    """
    metrics.board.rows_bound = memory.rows_bound(3)
    metrics.board.words[layout.Master.ROWS_USED] = 2**64 - 1
    counted = CountedWords(metrics.board.words)
    metrics.board.words = counted  # type: ignore[assignment]
    metrics.text()
    assert counted.rows == set(range(memory.ROWS_STEP))


def test_children_that_serve_are_counted_by_kind_pool_and_state(metrics: Metrics) -> None:
    """Only living ones that serve count: no exporter, and no row whose child has left.
    The numbers that are wanted stand beside them.
    """
    metrics.board.enter(worker(0, 0, ChildPhase.READY))
    metrics.board.enter(worker(1, 0, ChildPhase.READY))
    metrics.board.enter(worker(2, 1, ChildPhase.DRAINING))
    metrics.board.enter(worker(3, 0, ChildPhase.READY, ChildKind.EXPORTER))
    metrics.board.enter(worker(4, 0, ChildPhase.STARTING))
    metrics.board.leave(4)
    metrics.board.enter(worker(5, 0, ChildPhase.READY, ChildKind.ITERATIVE))
    metrics.board.enter(worker(6, 1, ChildPhase.KILLED, ChildKind.DISPATCHER))
    for number, kind in enumerate(SERVING_KINDS, 1):
        metrics.board.words[layout.wanted_words(1) + SERVING_KINDS.index(kind)] = number
        assert metrics.value("unpd_workers_wanted", kind=kind, pool="slow") == number
        assert metrics.value("unpd_workers_wanted", kind=kind, pool="default") == 0
    found = {
        (kind, pool, phase): count
        for kind in SERVING_KINDS
        for pool in ("default", "slow")
        for phase in ChildPhase
        if (count := metrics.value("unpd_workers", kind=kind, pool=pool, state=phase))
    }
    assert found == {
        (ChildKind.WORKER, "default", ChildPhase.READY): 2,
        (ChildKind.WORKER, "slow", ChildPhase.DRAINING): 1,
        (ChildKind.ITERATIVE, "default", ChildPhase.READY): 1,
        (ChildKind.DISPATCHER, "slow", ChildPhase.KILLED): 1,
    }


def test_spawns_and_reaps_are_the_masters_words(metrics: Metrics) -> None:
    """Each pool, and each kind with its reason, has a word of its own in the master
    area.
    """
    words = metrics.board.words
    words[layout.Master.SPAWNS + 1] = 9
    words[
        layout.Master.REAPED
        + layout.KINDS.index(ChildKind.EXPORTER) * len(layout.REAP_REASONS)
        + layout.REAP_REASONS.index(ReapReason.SIGKILL)
    ] = 4
    assert metrics.value("unpd_worker_spawns_total", pool="slow") == 9
    assert metrics.value("unpd_worker_spawns_total", pool="default") == 0
    assert metrics.value("unpd_children_reaped_total", kind="exporter", reason="sigkill") == 4
    assert metrics.value("unpd_children_reaped_total", kind="worker", reason="sigkill") == 0


def test_histograms_are_cumulative_with_their_sum_in_seconds(metrics: Metrics) -> None:
    """Buckets add up from the smallest bound, +Inf is the count, the sum is in
    seconds.
    """
    for row in range(2):
        cells = metrics.service(row, ECHO)
        cells[layout.Service.DURATION_BUCKETS] = 1
        cells[layout.Service.DURATION_BUCKETS + 3] = 2
        cells[layout.Service.DURATION_BUCKETS + len(layout.DURATION_BOUNDS_S)] = 4
        cells[layout.Service.DURATION_SUM_NS] = layout.NS // 4
    value = metrics.value
    assert value("unpd_connection_duration_seconds_bucket", service="echo", le="0.001") == 2
    assert value("unpd_connection_duration_seconds_bucket", service="echo", le="0.01") == 2
    assert value("unpd_connection_duration_seconds_bucket", service="echo", le="3600.0") == 6
    assert value("unpd_connection_duration_seconds_bucket", service="echo", le="+Inf") == 14
    assert value("unpd_connection_duration_seconds_count", service="echo") == 14
    assert value("unpd_connection_duration_seconds_sum", service="echo") == 0.5


def test_histogram_bounds_are_those_of_the_board(metrics: Metrics) -> None:
    """Each histogram shows the bounds that the board's layout fixes, and infinity. Only
    a service that has had programs has that of programs.
    """
    metrics.service(0, ECHO)[layout.Service.PROGRAMS_ENDED] = 1
    shown: dict[str, list[float]] = {}
    for family in parse_text(metrics.text()):
        for sample in family.samples:
            if sample.name.endswith("_bucket") and sample.labels.get("service", "echo") == "echo":
                shown.setdefault(family.name, []).append(float(sample.labels["le"]))
    assert set(shown) == {row.name for row in METRICS if isinstance(row, Histogram)}
    assert shown["unpd_connection_duration_seconds"] == [*layout.DURATION_BOUNDS_S, math.inf]
    assert shown["unpd_program_seconds"] == [*layout.DURATION_BOUNDS_S, math.inf]
    assert shown["unpd_reap_delay_seconds"] == [*layout.REAP_BOUNDS_S, math.inf]
    assert shown["unpd_connection_rtt_seconds"] == [*layout.RTT_BOUNDS_S, math.inf]
    assert shown["unpd_loop_lag_seconds"] == 2 * [*layout.LAG_BOUNDS_S, math.inf]


def test_reap_delay_is_read_from_the_master_area(metrics: Metrics) -> None:
    """Buckets and sum of the reap delay come from the master area."""
    metrics.board.words[layout.Master.REAP_BUCKETS + 1] = 3
    metrics.board.words[layout.Master.REAP_SUM_NS] = layout.NS
    assert metrics.value("unpd_reap_delay_seconds_bucket", le="0.0001") == 0
    assert metrics.value("unpd_reap_delay_seconds_bucket", le="0.0005") == 3
    assert metrics.value("unpd_reap_delay_seconds_count") == 3
    assert metrics.value("unpd_reap_delay_seconds_sum") == 1.0


def test_queues_are_shown_for_tcp_listeners_alone(metrics: Metrics) -> None:
    """A UNIX listener has no TCP_INFO, so it has no queue series."""
    words = metrics.board.words
    words[layout.Master.LISTEN_QUEUES + 2] = 17
    words[layout.Master.LISTEN_QUEUES + 3] = 4096
    assert metrics.value("unpd_listen_queue_length", service="echo", listener="tcp://[::]:7") == 17
    assert metrics.value("unpd_listen_queue_limit", service="echo", listener="tcp://[::]:7") == 4096
    assert (
        metrics.registry.get_sample_value(
            "unpd_listen_queue_length",
            {"service": "echo", "listener": "unix:///run/unpd/echo.sock"},
        )
        is None
    )


def test_the_peak_of_a_service_is_a_word_of_the_masters(metrics: Metrics) -> None:
    """Each service has its own, by its column."""
    metrics.board.words[layout.Master.CONNECTION_PEAKS + ECHO] = 17
    assert metrics.value("unpd_connections_peak", service="echo") == 17
    assert metrics.value("unpd_connections_peak", service="daytime") == 0


def test_a_service_without_a_limit_has_no_sample_of_it(metrics: Metrics) -> None:
    """A ratio to a limit of 0 would be infinite."""
    metrics.board.words[layout.Master.LIMITS + ECHO] = 1000
    assert metrics.value("unpd_connections_limit", service="echo") == 1000
    limit = metrics.registry.get_sample_value("unpd_connections_limit", {"service": "daytime"})
    assert limit is None


def test_log_drops_of_master_and_children_are_one_sum(metrics: Metrics) -> None:
    """One counter holds the lines that master and children dropped."""
    metrics.service(2, ECHO)
    metrics.board.words[layout.Master.LOG_DROPPED] = 5
    metrics.board.row(0)[layout.Row.LOG_DROPPED] = 1
    metrics.board.row(2)[layout.Row.LOG_DROPPED] = 10
    assert metrics.value("unpd_log_lines_dropped_total") == 16


def test_the_sources_are_those_that_are_counted_now(metrics: Metrics) -> None:
    """At each scrape."""
    tracked = [7, 5]
    registry = make_registry(metrics.board, make_labels(os.getpid()), tracked.pop)
    assert [registry.get_sample_value("unpd_sources_tracked") for _ in range(2)] == [5, 7]


@pytest.mark.parametrize(
    ("name", "at", "word", "value"),
    [
        ("unpd_unknown_children_reaped_total", layout.Master.UNKNOWN_REAPED, 3, 3),
        ("unpd_sigchld_total", layout.Master.SIGCHLD, 4, 4),
        ("unpd_fork_failures_total", layout.Master.FORK_FAILURES, 5, 5),
        ("unpd_config_last_reload_successful", layout.Master.LAST_RELOAD_OK, 1, 1),
        (
            "unpd_config_last_reload_success_timestamp_seconds",
            layout.Master.LAST_RELOAD_WALL_NS,
            3 * layout.NS // 2,
            1.5,
        ),
        ("unpd_generation", layout.Master.GENERATION, 6, 6),
        ("unpd_kernel_listen_overflows_total", layout.Master.LISTEN_OVERFLOWS, 8, 8),
        ("unpd_kernel_listen_drops_total", layout.Master.LISTEN_DROPS, 9, 9),
        ("unpd_denied_addresses", layout.Master.DENIALS, 7, 7),
        ("unpd_sensor_reports_lost_total", layout.Master.REPORTS_LOST, 5, 5),
        (
            "unpd_start_time_seconds",
            layout.Master.START_WALL_NS,
            1_800_000_000 * layout.NS,
            1_800_000_000,
        ),
        (
            "process_start_time_seconds",
            layout.Master.START_WALL_NS,
            1_800_000_000 * layout.NS,
            1_800_000_000,
        ),
        ("process_cpu_seconds_total", layout.Master.CPU_NS, layout.NS // 10, 0.1),
        ("process_resident_memory_bytes", layout.Master.RESIDENT_BYTES, 4096, 4096),
        ("process_virtual_memory_bytes", layout.Master.VIRTUAL_BYTES, 8192, 8192),
        ("process_open_fds", layout.Master.OPEN_FDS, 12, 12),
        ("process_max_fds", layout.Master.MAX_FDS, 1024, 1024),
    ],
)
def test_a_word_of_the_master_is_shown_under_its_name(
    metrics: Metrics, name: str, at: int, word: int, value: float
) -> None:
    """Each of the master's own figures is shown in its base unit."""
    metrics.board.words[at] = word
    assert metrics.value(name) == value


def test_build_info_names_both_versions(metrics: Metrics) -> None:
    """The build info is one series of value 1."""
    text = metrics.text()
    line = next(line for line in text.splitlines() if line.startswith("unpd_build_info{"))
    assert 'version="1.2.3"' in line
    assert 'python="3.' in line
    assert line.endswith(" 1.0")


def test_zombies_are_left_out_where_the_master_cannot_be_seen(metrics: Metrics) -> None:
    """There is no sample where nobody can count, rather than a 0; the exposition stays
    valid.
    """
    blind = Metrics(metrics.board, master_pid=2**30)
    assert blind.registry.get_sample_value("unpd_zombies") is None
    assert "# HELP unpd_zombies " in blind.text()
    assert parse_openmetrics(blind.openmetrics())


def test_the_heartbeat_of_the_master_is_shown_by_its_age(metrics: Metrics) -> None:
    """No sample before the first heartbeat, then its age. A forged one from the future
    is no negative age.
    """
    name = "unpd_master_heartbeat_age_seconds"
    assert metrics.registry.get_sample_value(name) is None
    metrics.board.words[layout.Master.BEAT_NS] = time.monotonic_ns() - 7 * layout.NS
    assert 7.0 <= metrics.value(name) < 60.0
    metrics.board.words[layout.Master.BEAT_NS] = (1 << 64) - 1
    assert metrics.value(name) == 0.0


def test_the_ways_to_clients_are_summed_over_rows(metrics: Metrics) -> None:
    """Round-trip times and segments that were sent again."""
    for row in (0, 3):
        cells = metrics.service(row, ECHO)
        cells[layout.Service.RTT_BUCKETS + 1] = 2
        cells[layout.Service.RTT_SUM_NS] = layout.NS
        cells[layout.Service.RETRANSMITTED] = 5
    value = metrics.value
    assert value("unpd_connection_rtt_seconds_bucket", service="echo", le="0.0001") == 0
    assert value("unpd_connection_rtt_seconds_bucket", service="echo", le="0.001") == 4
    assert value("unpd_connection_rtt_seconds_sum", service="echo") == 2
    assert value("unpd_retransmitted_segments_total", service="echo") == 10


def test_the_oldest_connection_is_that_of_all_rows(metrics: Metrics) -> None:
    """A row without any has no say, and neither has a row whose connections ended."""
    now_ns = time.monotonic_ns()
    for row, opened_ns in enumerate((now_ns - 5 * layout.NS, now_ns - 50 * layout.NS, 0)):
        cells = metrics.service(row, ECHO)
        cells[layout.Service.ACCEPTED] = 1
        cells[layout.Service.OLDEST_NS] = opened_ns
    assert 50 <= metrics.value("unpd_oldest_connection_seconds", service="echo") < 80
    assert metrics.value("unpd_oldest_connection_seconds", service="daytime") == 0
    for row in range(3):
        metrics.service(row, ECHO)[layout.Service.ENDED] = 1
    assert metrics.value("unpd_oldest_connection_seconds", service="echo") == 0


def test_the_lag_is_that_of_the_master_and_of_all_workers(metrics: Metrics) -> None:
    """Workers that were and those that are count together."""
    words = metrics.board.words
    words[layout.Master.LAG_BUCKETS + 1] = 7
    words[layout.Master.LAG_SUM_NS] = 2 * layout.NS
    for row in (0, 5):
        metrics.service(row, ECHO)
        metrics.board.row(row)[layout.Row.LAG_BUCKETS] = 3
        metrics.board.row(row)[layout.Row.LAG_SUM_NS] = layout.NS
    value = metrics.value
    assert value("unpd_loop_lag_seconds_count", kind="master") == 7
    assert value("unpd_loop_lag_seconds_sum", kind="master") == 2
    assert value("unpd_loop_lag_seconds_bucket", kind="worker", le="0.0001") == 6
    assert value("unpd_loop_lag_seconds_sum", kind="worker") == 2


def test_a_pool_without_workers_has_no_busy_ratio(metrics: Metrics) -> None:
    """Nor has one whose workers are not ready yet."""
    (pool, column), *_ = make_labels(os.getpid()).pools
    metrics.board.words[layout.Master.BUSY + column] = 2500
    metrics.board.enter(worker(0, column, ChildPhase.STARTING))
    assert metrics.registry.get_sample_value("unpd_worker_busy_ratio", {"pool": pool}) is None
    metrics.board.set_phase(0, ChildPhase.READY)
    assert metrics.value("unpd_worker_busy_ratio", pool=pool) == 0.25
