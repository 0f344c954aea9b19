"""Many programs (type exec), of which every third fails: the counters add up exactly,
and neither a zombie nor a descriptor is left, in the launcher or in the master.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.programs import launcher, service, shell
from tests.support.waiting import until

FAILS_BY_PORT = shell("test $((REMOTE_PORT % 3)) -ne 0")
"""Fails for every third port of a client."""
AT_A_TIME = 8


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [300, 10_000])
def test_the_counters_of_many_programs_add_up(launch: Launch, sessions: int) -> None:
    """Accepted connections, forked and reaped processes, results and times."""
    unpd = launch('[log]\nlevel = "info"\n' + service("third", *FAILS_BY_PORT))
    for event in ("launcher.ready", "exporter.ready"):  # until then the master has pipes
        unpd.wait_event(event)
    before = descriptors(unpd)

    def ask(_: int) -> bool:
        with clients.connect(unpd.address("third"), timeout_s=60.0) as sock:
            port: int = sock.getsockname()[1]
            assert clients.read_all(sock) == b""
        return port % 3 == 0

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        failed = sum(pool.map(ask, range(sessions)))
    unpd.metric_becomes(sessions, "unpd_programs_ended_total", service="third", timeout_s=30.0)
    results = {
        result: unpd.total("unpd_programs_ended_total", service="third", result=result)
        for result in ("ok", "failed", "signal", "timeout", "not_started")
    }
    assert results == {
        "ok": sessions - failed,
        "failed": failed,
        "signal": 0,
        "timeout": 0,
        "not_started": 0,
    }
    for name in (
        "unpd_connections_accepted_total",
        "unpd_session_processes_spawned_total",
        "unpd_session_processes_reaped_total",
        "unpd_connections_ended_total",
        "unpd_program_seconds_count",
    ):
        assert unpd.total(name, service="third") == sessions, name
    assert unpd.total("unpd_connections_active", service="third") == 0
    unpd.metric_becomes(0, "unpd_zombies")
    until(lambda: descriptors(unpd) == before, 10.0, lambda: f"{before}, not {descriptors(unpd)}")
    assert procs.children(launcher(unpd)) == []


def descriptors(unpd: Unpd) -> tuple[int, int]:
    """How many descriptors the launcher and the master have."""
    return len(procs.fds(launcher(unpd))), len(procs.fds(unpd.pid))
