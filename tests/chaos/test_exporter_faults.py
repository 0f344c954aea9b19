"""The exporter and the workers die while a client scrapes. Counters never decrease
while the master lives, and every scrape that succeeds is correct.
"""

import contextlib
import http.client
import random
from collections.abc import Callable
from signal import SIGABRT, SIGKILL, SIGSTOP, SIGTERM

import pytest

from tests.support import clients, loads, procs
from tests.support.counts import service_counts
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import Samples
from tests.support.operating import ask
from tests.support.scale import many
from tests.support.waiting import until

CONFIG = """
[log]
level = "info"

[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

COUNTERS = ("_total", "_count", "_sum", "_bucket")


class Monotonic:
    """Compares each counter of each scrape with the scrape before."""

    def __init__(self, unpd: Unpd) -> None:
        self._unpd = unpd
        self._last: Samples = {}
        self.scrapes = 0
        self.failed = 0

    def scrape(self, *, failing: bool = False) -> None:
        """Scrape once. With ``failing`` the exporter's death may interrupt the scrape,
        but a result must still be correct.
        """
        try:
            samples = self._unpd.metrics()
        except (ConnectionError, http.client.HTTPException, TimeoutError):
            assert failing, "a scrape failed although the exporter was not killed"
            self.failed += 1
            return
        now = {key: value for key, value in samples.items() if key[0].endswith(COUNTERS)}
        gone = set(self._last) - set(now)
        assert not gone, f"series that disappeared: {gone}"
        down = {key: (before, now[key]) for key, before in self._last.items() if now[key] < before}
        assert not down, f"counters that went down: {down}"
        self._last = now
        self.scrapes += 1


def kill_some_workers(unpd: Unpd, rng: random.Random) -> None:
    """Send SIGKILL to one worker."""
    procs.kill(rng.sample(unpd.workers(), 1) if unpd.workers() else [])


@pytest.mark.slow
def test_counters_never_decrease(launch: Launch, rng: random.Random) -> None:
    """Workers are killed, receive TERM, and are replaced by reloads. Every scrape
    succeeds, and no counter is below the last scrape.
    """
    unpd = launch(CONFIG)
    watch = Monotonic(unpd)
    acts: list[Callable[[], object]] = [
        lambda: kill_some_workers(unpd, rng),
        lambda: ask(unpd.control, verb="reload", all=True),
        lambda: procs.kill(rng.sample(unpd.workers(), 1) if unpd.workers() else [], SIGTERM),
    ]
    with loads.running(unpd.address("echo"), rate=500, concurrency=256) as load:
        for number in range(many(200, at_least=9)):
            acts[number % len(acts)]()
            for _ in range(5):
                watch.scrape()
        said = load.stop()
    assert said.failed().keys() <= {"reset_before", "reset_after", "shed"}, (
        "a client was refused or left without an answer"
    )
    until(
        lambda: service_counts(unpd).active == 0 and service_counts(unpd).accepted >= said.ok,
        10.0,
        "all connections to be accounted for",
    )
    assert service_counts(unpd).ended.keys() <= {
        "client_fin",
        "client_rst",
        "shutdown",
        "worker_died",
    }
    watch.scrape()


@pytest.mark.slow
def test_a_killed_exporter_loses_no_count(launch: Launch) -> None:
    """The exporter is killed repeatedly under load. A scrape may be interrupted but is
    never wrong, and the services lose no connection.
    """
    unpd = launch(CONFIG)
    watch = Monotonic(unpd)
    with loads.running(unpd.address("echo"), rate=500, concurrency=256) as load:
        for number in (SIGKILL, SIGABRT, SIGTERM):
            watch.scrape()
            exporter = unpd.exporter()
            assert exporter is not None
            procs.kill([exporter], number)
            watch.scrape(failing=True)
            until(lambda old=exporter: unpd.exporter() not in (None, old), 15.0, "another exporter")  # type: ignore[misc]
            watch.scrape()
        load.more(50)
        load.stop().assert_clean(at_least=50)
    assert watch.scrapes >= 6
    assert unpd.total("unpd_children_reaped_total", kind="exporter") == 3
    assert unpd.total("unpd_children_reaped_total", kind="worker") == 0


@pytest.mark.slow
def test_a_hung_exporter_is_replaced(launch: Launch) -> None:
    """An exporter that stands still is detected by its heartbeat, killed and replaced.
    The services go on.
    """
    unpd = launch("[daemon]\nheartbeat_timeout_s = 2\n" + CONFIG)
    unpd.expect_errors("exporter.hung")
    exporter = unpd.exporter()
    assert exporter is not None
    procs.kill([exporter], SIGSTOP)
    with contextlib.suppress(TimeoutError):
        unpd.get("/healthz", timeout_s=0.2)
    assert clients.converse(unpd.address("echo"), b"served") == b"served"
    until(lambda: unpd.exporter() not in (None, exporter), 15.0, "another exporter")
    assert unpd.get("/healthz").status == 200
    assert unpd.log_events("exporter.hung")
