"""Reloads under load refuse and reset no client, and leave nothing behind."""

import re

import pytest

from tests.support import clients, loads, procs
from tests.support.counts import service_counts
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import descriptors, refused_reload, reload
from tests.support.scale import many
from tests.support.waiting import until
from unpd.core.converge import MAX_RETIRED_GENERATIONS

CONFIG = """
[log]
level = "info"

[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

CHANGED = (
    CONFIG.replace(
        "[services.echo]", "[pools.default]\nworkers = 3\n\n[services.echo]\nbacklog = 2000"
    )
    + """
[services.daytime]
listen = ["tcp://127.0.0.1:0"]
"""
)
"""Another backlog, another number of workers, one more service."""

RATE = 2000.0


def generations(unpd: Unpd) -> set[int]:
    """Return the generations of the living workers, by their titles."""
    titles = [
        child.title for child in procs.children(unpd.pid) if child.title.startswith("unpd: worker")
    ]
    return {int(found[1]) for title in titles if (found := re.search(r"generation (\d+)$", title))}


def quiet(unpd: Unpd, workers: int) -> None:
    """Wait until one generation with this number of workers is left."""
    until(
        lambda: len(generations(unpd)) == 1 and len(procs.children(unpd.pid)) == workers + 1,
        15.0,
        "one generation",
    )


@pytest.mark.slow
def test_a_hundred_reloads_lose_no_connection(launch: Launch) -> None:
    """Under 2,000 connections per second each reload succeeds, with the same or a
    changed configuration. No connection is refused, reset or late, and the counts
    balance.
    """
    unpd = launch(CONFIG)
    reload(unpd, every_pool=True)
    quiet(unpd, 2)
    open_before, resident = descriptors(unpd, births=6), procs.rss_bytes(unpd.pid)
    count = many(100, at_least=6)
    with loads.running(unpd.address("echo"), rate=RATE, concurrency=512) as load:
        for number in range(count):
            reload(unpd, (CHANGED, CONFIG)[number % 2])
            assert len(generations(unpd)) <= MAX_RETIRED_GENERATIONS + 2
            load.more(100)
        said = load.stop()
    print(
        f"{count} reloads, {said.attempts} connections at {said.rate:.0f} a second,"
        f" {dict(said.outcomes)}, latency {dict(said.latency_s)}"
    )
    said.assert_clean(at_least=100 * count)
    reload(unpd, CONFIG)
    quiet(unpd, 2)
    found = service_counts(unpd)
    assert found.active == 0
    assert found.accepted == said.attempts == said.ok
    assert found.ended == {"client_fin": said.ok}
    until(
        lambda: len(procs.fds(unpd.pid)) == open_before,
        10.0,
        "the master's descriptors to be as many as before",
    )
    assert procs.rss_bytes(unpd.pid) < resident + (8 << 20)
    samples = unpd.metrics()
    assert total(samples, "unpd_config_reloads_total", result="success") == count + 2
    unpd.metric_becomes(0, "unpd_zombies")
    assert (
        total(samples, "unpd_worker_spawns_total")
        == total(samples, "unpd_children_reaped_total", kind="worker") + 2
    )


def test_bad_reloads_under_load_lose_no_connection(launch: Launch) -> None:
    """Invalid and valid files take turns. The invalid ones change nothing, the valid
    ones work, and no client notices.
    """
    unpd = launch(CONFIG)
    taken = (
        f'\n[services.other]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:{unpd.port("metrics")}"]\n'
    )
    with loads.running(unpd.address("echo"), rate=500, concurrency=512) as load:
        for _ in range(many(20, at_least=2)):
            refused_reload(unpd, b"[services\n")
            refused_reload(unpd, CONFIG + taken)
            reload(unpd, CONFIG, every_pool=True)
            load.more(50)
        load.stop().assert_clean(at_least=100)
    assert unpd.metric("unpd_config_last_reload_successful") == 1


def test_long_sessions_and_new_ones_through_reloads(launch: Launch) -> None:
    """A hundred echo sessions keep every byte through a reload under load, while the
    new generation serves new clients.
    """
    unpd = launch(CONFIG)
    with (
        clients.idle(unpd.address("echo"), 100) as sessions,
        loads.running(unpd.address("echo"), rate=500, concurrency=512) as load,
    ):
        for session in sessions:
            session.sendall(b"before ")
        reload(unpd, every_pool=True)
        load.more(200)
        for session in sessions:
            session.sendall(b"after")
            session.shutdown(1)
        assert [clients.read_all(session) for session in sessions] == [b"before after"] * 100
        load.stop().assert_clean(at_least=200)
