"""The metrics endpoint of a whole daemon: its figures, its readiness, and that it
disturbs no service.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support import clients, faults, loads, procs
from tests.support.daemon import Unpd
from tests.support.exporter import parse_text
from tests.support.fork_server import ForkServer
from tests.support.golden_metrics import METRICS
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import reload
from tests.support.scale import first
from tests.support.waiting import pause, until
from unpd.board import memory
from unpd.metrics.catalog import programs
from unpd.names import ChildKind, EndCause, ReapReason, ReloadResult

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
max_connections = 1000
"""
STRANGERS = (1_000, 100_000)
"""How many addresses there are that no series may be made for."""


def exposition(unpd: Unpd) -> str:
    """One scrape as text."""
    return unpd.get("/metrics").body.decode()


def listening_inodes(pid: int) -> set[str]:
    """The inodes of the TCP listeners that ``pid`` holds (proc(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {row[9] for row in rows if row[3] == "0A"}
    held = {
        match[1]
        for target in procs.fds(pid).values()
        if (match := re.fullmatch(r"socket:\[(\d+)\]", target))
    }
    return held & listening


@pytest.fixture(scope="module")
def unpd(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Iterator[Unpd]:
    """One daemon for the tests that only look."""
    launcher = Launch(tmp_path_factory.mktemp("metrics"), fork_server)
    yield launcher(ECHO)
    assert launcher.finish() == []


# what is shown


def test_every_metric_is_there_with_its_help(unpd: Unpd) -> None:
    """The first scrape shows each metric of the public interface with HELP, TYPE and
    its labels, every cause and reason as 0, and no other metric. Those of programs have
    no sample without such a service, and those about targets none without a redirect.
    """
    text = exposition(unpd)
    others = {name: row for name, row in METRICS.items() if not name.startswith("unpd_program")}
    for name, (kind, labels) in others.items():
        assert re.search(rf"^# HELP {name} \S.*\.$", text, re.MULTILINE), name
        assert f"\n# TYPE {name} {kind}\n" in f"\n{text}", name
        samples = [
            sample
            for family in parse_text(text)
            for sample in family.samples
            if re.fullmatch(rf"{name}(_bucket|_sum|_count)?", sample.name)
        ]
        assert {frozenset(set(sample.labels) - {"le"}) for sample in samples} == (
            set() if "target" in labels else {frozenset(labels)}
        ), name
    of_programs = re.findall(r"^# TYPE unpd_programs?_", text, re.MULTILINE)
    assert len(of_programs) == len(programs.ROWS)
    assert not re.search("^unpd_program", text, re.MULTILINE)
    assert len(re.findall(r"^# TYPE ", text, re.MULTILINE)) == len(METRICS)
    assert len(re.findall(r"^unpd_connections_ended_total\{", text, re.MULTILINE)) == len(EndCause)
    reaped = re.findall(r"^unpd_children_reaped_total\{", text, re.MULTILINE)
    assert len(reaped) == len(ChildKind) * (len(ReapReason) - 1)
    assert len(re.findall(r"^unpd_config_reloads_total\{", text, re.MULTILINE)) == len(ReloadResult)


@faults.requires_tool("promtool")
def test_promtool_finds_nothing(launch: Launch) -> None:
    """``promtool check metrics`` is silent, also after traffic, deaths and a reload."""
    unpd = launch(
        ECHO + '\n[services.daytime]\nlisten = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]\n'
    )
    clients.converse(unpd.address("echo"), b"x")
    workers = unpd.workers()
    procs.kill(workers)
    unpd.wait_respawned(workers)
    reload(unpd, every_pool=True)
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition(unpd),
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_more_workers_than_an_exporter_reads_at_first(launch: Launch) -> None:
    """The exporter reads the rows of 128 children when it begins, and more when the
    master gives out more.
    """
    count = memory.ROWS_STEP + 2
    unpd = launch(f"[pools.default]\nworkers = {count}\n" + ECHO)
    unpd.metric_becomes(count, "unpd_workers", kind="worker", pool="default", state="ready")


def test_the_numbers_are_those_of_the_clients(launch: Launch) -> None:
    """Connections, bytes, causes and durations are counted once each; the connections
    of a dead worker are booked as worker_died and are in no histogram.
    """
    unpd = launch("[pools.default]\nworkers = 1\n" + ECHO)
    for _ in range(20):
        assert clients.converse(unpd.address("echo"), b"0123456789") == b"0123456789"
    with clients.idle(unpd.address("echo"), 5):
        unpd.metric_becomes(5, "unpd_connections_active", service="echo")
        workers = unpd.workers()
        procs.kill(workers)
        unpd.wait_respawned(workers)
    unpd.metric_becomes(25, "unpd_connections_ended_total")
    samples = unpd.metrics()
    assert total(samples, "unpd_connections_accepted_total", service="echo") == 25
    assert total(samples, "unpd_connections_ended_total", service="echo", cause="client_fin") == 20
    assert total(samples, "unpd_connections_ended_total", service="echo", cause="worker_died") == 5
    assert total(samples, "unpd_connections_ended_total") == 25
    assert total(samples, "unpd_connections_active") == 0
    assert total(samples, "unpd_received_bytes_total", service="echo") == 200
    assert total(samples, "unpd_sent_bytes_total", service="echo") == 200
    assert total(samples, "unpd_connection_duration_seconds_count", service="echo") == 20
    assert (
        total(samples, "unpd_connection_duration_seconds_bucket", service="echo", le="+Inf") == 20
    )
    assert 0 < total(samples, "unpd_connection_duration_seconds_sum", service="echo") < 20
    assert total(samples, "unpd_worker_spawns_total", pool="default") == 2
    assert total(samples, "unpd_children_reaped_total", kind="worker", reason="sigkill") == 1
    assert total(samples, "unpd_reap_delay_seconds_count") == 0, "a killed child leaves no stamp"


def test_the_peak_of_a_service_stays_for_a_minute(launch: Launch) -> None:
    """The most connections that all workers together had open at a sample are still
    shown when the connections are gone, and after a reload.
    """
    unpd = launch("[pools.default]\nworkers = 2\n" + ECHO)
    assert unpd.metric("unpd_connections_peak", service="echo") == 0
    with clients.idle(unpd.address("echo"), 9):
        unpd.metric_becomes(9, "unpd_connections_peak", service="echo")
    unpd.metric_becomes(0, "unpd_connections_active", service="echo")
    reload(unpd, every_pool=True)
    assert unpd.metric("unpd_connections_peak", service="echo") == 9


@pytest.mark.slow
def test_a_busy_worker_is_seen(launch: Launch) -> None:
    """The worker's share of busy time goes up under load and down behind it, a turn
    that the worker was long in is in the histogram, and the oldest connection grows
    older until it ends.
    """
    unpd = launch("[pools.default]\nworkers = 1\n" + ECHO)
    age, busy = "unpd_oldest_connection_seconds", "unpd_worker_busy_ratio"

    def long_turns() -> float:
        found, lag = unpd.metrics(), "unpd_loop_lag_seconds"
        return total(found, f"{lag}_count", kind="worker") - total(
            found, f"{lag}_bucket", kind="worker", le="0.1"
        )

    def is_long_in_a_turn() -> bool:
        with procs.stopped(unpd.workers()):
            pause(0.3)
        return long_turns() > before

    assert unpd.metric(age, service="echo") == 0
    until(lambda: unpd.metric(busy, pool="default") < 0.1, 20.0, "an idle worker")
    with clients.idle(unpd.address("echo"), 1):
        until(lambda: unpd.metric(age, service="echo") > 1.0, 20.0, "an age")
        until(lambda: unpd.metric(age, service="echo") > 3.0, 20.0, "a greater age")
        with loads.running(unpd.address("echo"), concurrency=8) as load:
            until(lambda: unpd.metric(busy, pool="default") > 0.3, 30.0, "a busy worker")
            before = long_turns()
            until(is_long_in_a_turn, 30.0, "a long turn")
            load.stop()
        assert unpd.metric(age, service="echo") > 3.0
    unpd.metric_becomes(0, age, service="echo")
    until(lambda: unpd.metric(busy, pool="default") < 0.1, 30.0, "a worker that is idle again")


def test_reaping_is_measured(launch: Launch) -> None:
    """Children that are not killed fill the histogram of the delay between last act and
    reaping, and no zombie stays.
    """
    unpd = launch(ECHO)
    reload(unpd, every_pool=True)
    unpd.metric_becomes(3, "unpd_reap_delay_seconds_count")
    samples = unpd.metrics()
    assert total(samples, "unpd_children_reaped_total", reason="clean") == 3
    assert 0 < total(samples, "unpd_reap_delay_seconds_sum") < 3 * 5
    unpd.metric_becomes(0, "unpd_zombies")
    until(lambda: unpd.metric("unpd_sigchld_total") >= 1, 10.0, "the handler's runs to be sampled")


def test_the_masters_own_figures_are_those_of_proc(launch: Launch) -> None:
    """The usual process metrics (descriptors, memory, limits) are the master's, not the
    exporter's.
    """
    unpd = launch(ECHO)
    until(
        lambda: unpd.metric("process_open_fds") == len(procs.fds(unpd.pid)),
        10.0,
        "the master's descriptors",
    )
    assert abs(unpd.metric("process_resident_memory_bytes") - procs.rss_bytes(unpd.pid)) < 8 << 20
    limit = Path(f"/proc/{unpd.pid}/limits").read_text()
    assert f"{int(unpd.metric('process_max_fds'))} " in next(
        line for line in limit.splitlines() if line.startswith("Max open files")
    )
    assert unpd.metric("process_start_time_seconds") == unpd.metric("unpd_start_time_seconds")


def test_a_scrape_on_a_unix_socket(launch: Launch, tmp_path: Path) -> None:
    """The metrics can be served on a UNIX socket."""
    path = tmp_path / "metrics.sock"
    unpd = launch(f'[metrics]\nlisten = "unix://{path}"\n' + ECHO)
    assert unpd.address("metrics") == str(path)
    assert unpd.metric("unpd_generation") == 1


# ready or not


def test_ready_is_told_with_its_reason(launch: Launch) -> None:
    """/readyz is 200 while each service has a ready worker, else 503 with the reason,
    and 200 again when a worker is back; /healthz is always 200.
    """
    unpd = launch(
        "[pools.slow]\nworkers = 1\n"
        + ECHO
        + 'pool = "slow"\n\n[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n'
    )
    ready = unpd.get("/readyz")
    assert (ready.status, ready.body) == (200, b"ready\n")

    def not_ready() -> bytes:
        procs.kill(child.pid for child in procs.children(unpd.pid) if " slow/0 " in child.title)
        answer = unpd.get("/readyz")
        return answer.body if answer.status == 503 else b""

    assert until(not_ready, 20.0, "503") == b"no ready worker for service echo\n"
    assert unpd.get("/healthz").status == 200
    assert clients.ask(unpd.address("daytime"))
    until(lambda: unpd.get("/readyz").status == 200, 20.0, "200 again")


# who asks


def test_a_name_in_the_host_header_is_refused(unpd: Unpd) -> None:
    """On a loopback address the exporter answers to a number and to localhost; another
    name means DNS rebinding, and gets 421 and no figure.
    """
    for host, status in (
        ("127.0.0.1", 200),
        ("localhost:9867", 200),
        ("[::1]:1", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:9867", 421),
    ):
        answer = unpd.get("/metrics", headers={"Host": host})
        assert answer.status == status, host
        assert (b"unpd_generation" in answer.body) == (status == 200)


def test_rude_scrapers_get_errors_and_no_other_client_notices(unpd: Unpd) -> None:
    """Big headers, wrong methods, bodies, old and broken HTTP are refused, each with
    its code; the next scrape and the services work as before.
    """
    requests = {
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n": b"431",
        b"GET /metrics HTTP/1.1\r\n" + b"X-Y: z\r\n" * 2000 + b"\r\n": b"431",
        b"BREW /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n": b"405",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n": b"413",
        b"GET /metrics\r\n\r\n": b"400",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n": b"400",
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n": b"404",
    }
    for request, code in requests.items():
        with clients.connect(unpd.address("metrics")) as sock:
            sock.sendall(request)
            assert sock.recv(4096).split()[1] == code, request[:60]
    with clients.idle(unpd.address("metrics"), 30):
        assert unpd.get("/healthz").status == 200
    assert clients.converse(unpd.address("echo"), b"as ever") == b"as ever"
    assert unpd.exporter() == unpd.log_events("child.spawned", kind="exporter")[0].fields["pid"]


def test_many_scrapes_cost_little(unpd: Unpd) -> None:
    """Scrapes that come faster than ten a second share renderings: they cost about as
    much as an empty page.
    """
    exporter = unpd.exporter()
    assert exporter is not None

    def cost_s(path: str) -> float:
        before = procs.cpu_s(exporter)
        assert {unpd.get(path).status for _ in range(300)} == {200}
        return procs.cpu_s(exporter) - before

    page_s = cost_s("/healthz")
    assert cost_s("/metrics") < 2.5 * page_s + 0.05


@pytest.mark.parametrize("strangers", first(1, STRANGERS))
def test_strangers_make_no_series(launch: Launch, strangers: int) -> None:
    """No client changes the number of series, whatever its address, its method or its
    path.
    """
    unpd = launch('[log]\nlevel = "info"\n' + ECHO)

    def series() -> int:
        return len(unpd.metrics())

    before = series()
    address, lowest = unpd.address("echo"), int(ip_address("127.0.3.0"))
    for number in range(strangers):
        with clients.connect(address, source=str(ip_address(lowest + number))) as sock:
            sock.sendall(b"x")
            if number % 2:
                clients.reset(sock)
    for method in (f"M{number}" for number in range(20)):
        with clients.connect(unpd.address("metrics")) as sock:
            sock.sendall(f"{method} /{method} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            clients.read_all(sock)
    unpd.metric_becomes(strangers, "unpd_connections_ended_total", service="echo")
    assert series() == before


# the exporter's place


def test_a_killed_exporter_comes_back_and_no_service_notices(launch: Launch) -> None:
    """The exporter's death ends no session and no worker; its successor shows the same
    counts on the same address.
    """
    unpd = launch(ECHO)
    workers, exporter = unpd.workers(), unpd.exporter()
    assert exporter is not None
    with clients.connect(unpd.address("echo")) as session:
        session.sendall(b"before")
        assert clients.read_exactly(session, 6) == b"before"
        procs.kill([exporter])
        until(lambda: unpd.exporter() not in (None, exporter), 10.0, "another exporter")
        session.sendall(b"after")
        assert clients.read_exactly(session, 5) == b"after"
        assert unpd.metric("unpd_connections_active", service="echo") == 1
    assert unpd.workers() == workers
    assert unpd.metric("unpd_children_reaped_total", kind="exporter", reason="sigkill") == 1


def test_the_exporter_holds_no_service_listener(launch: Launch) -> None:
    """The exporter holds its own listener and no other: a service's listener that its
    owner has closed would go on completing handshakes.
    """
    unpd = launch(ECHO + '\n[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n')
    exporter = unpd.exporter()
    assert exporter is not None
    assert len(listening_inodes(unpd.pid)) == 3
    assert len(listening_inodes(exporter)) == 1
    services = [listening_inodes(pid) for pid in unpd.workers()]
    assert services[0] == services[1]
    assert len(services[0]) == 2
    assert not services[0] & listening_inodes(exporter)


def test_no_process_that_forks_has_a_thread(launch: Launch) -> None:
    """Master and workers have one thread each, also after traffic, scrapes and a
    reload.
    """
    unpd = launch(ECHO)
    clients.converse(unpd.address("echo"), b"x")
    reload(unpd, every_pool=True)
    assert unpd.get("/metrics").status == 200
    assert {procs.status(pid)["Threads"] for pid in (unpd.pid, *unpd.workers())} == {"1"}


def test_the_metrics_are_on_loopback_unless_told_otherwise(unpd: Unpd) -> None:
    """No other host can connect where ``metrics.listen`` names a loopback address: the
    socket is bound to it alone.
    """
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", unpd.port("metrics")), timeout=5)


@pytest.mark.slow
def test_a_stopped_master_shows_in_the_metrics(launch: Launch) -> None:
    """The master's heartbeat is no older than a sweep and a bit. It ages while the
    master is stopped, when the exporter still answers, and is young again afterwards.
    """
    unpd = launch(ECHO)
    name = "unpd_master_heartbeat_age_seconds"
    until(lambda: unpd.metric(name) < 2.0, 10.0, "a young heartbeat")
    with procs.stopped([unpd.pid]):
        until(lambda: unpd.metric(name) > 3.0, 10.0, "an old heartbeat")
    until(lambda: unpd.metric(name) < 2.0, 10.0, "a young heartbeat")
