"""The kernel refuses forks. The running workers go on serving, and the daemon is
complete again once forks succeed.
"""

from pathlib import Path

import pytest

from tests.support import faults, loads, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.waiting import until

CONCURRENCY = 64


def assert_recovered(unpd: Unpd, failures: int) -> None:
    """Assert that both workers exist again, the failures are counted, and every
    successful fork is accounted for.
    """
    unpd.metric_becomes(2, "unpd_workers", state="ready")
    assert unpd.total("unpd_fork_failures_total") == failures
    assert (
        unpd.total("unpd_worker_spawns_total")
        == unpd.total("unpd_children_reaped_total", kind="worker") + 2
    )


@pytest.mark.slow
@faults.requires_pids_cgroup()
def test_the_limit_of_processes(launch: Launch) -> None:
    """At the limit of its cgroup the daemon serves with the workers that it has,
    retries with growing delays, and refuses a reload that it cannot prove. It is
    complete again once the limit is raised.
    """
    unpd = launch()
    unpd.expect_errors("fork.failed", "reload.refused")
    everybody = [unpd.pid, *(child.pid for child in procs.children(unpd.pid))]
    victim, survivor = unpd.workers()
    with (
        faults.pids_limit(everybody) as limit,
        loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client,
    ):
        limit.set(1)
        procs.kill([victim])
        until(lambda: len(unpd.log_events("fork.failed")) >= 3, 10.0, "three failures")
        served = client.count("ok")
        reload = unpd.run("reload", "--all", "--config", str(unpd.config_path))
        assert reload.returncode == 1
        assert b"fork failed: Resource temporarily unavailable" in reload.stderr
        client.more(50)
        assert client.count("ok") > served
        assert unpd.workers() == [survivor]
        failures = len(unpd.log_events("fork.failed"))
        limit.set(None)
        unpd.metric_becomes(2, "unpd_workers", state="ready")
        client.more(50)
        client.stop().assert_clean(at_least=100, allow=loads.cut_off(CONCURRENCY))
        delays = [event.fields["respawn_in_s"] for event in unpd.log_events("fork.failed")]
        assert delays == [0.1 * 2**number for number in range(len(delays))] or delays == [
            0.2 * 2**number for number in range(len(delays))
        ]
        assert unpd.total("unpd_fork_failures_total") >= failures
        assert survivor in unpd.workers()


@pytest.mark.slow
@faults.requires_strace()
def test_a_fork_without_memory(launch: Launch, tmp_path: Path) -> None:
    """Three failed forks in a row cost three delays and nothing else."""
    unpd = launch()
    unpd.expect_errors("fork.failed")
    with loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client:
        with faults.straced(
            unpd.pid, tmp_path / "trace", "clone", "clone:error=ENOMEM:when=1..3", follow=False
        ):
            procs.kill(unpd.workers()[:1])
            until(lambda: len(unpd.log_events("fork.failed")) == 3, 10.0, "three failures")
            until(lambda: len(unpd.workers()) == 2, 10.0, "the second worker")
        client.more(50)
        client.stop().assert_clean(at_least=50, allow=loads.cut_off(CONCURRENCY))
    assert_recovered(unpd, failures=3)


@faults.requires_strace()
def test_a_child_without_a_pidfd(launch: Launch, tmp_path: Path) -> None:
    """A child without a pidfd could not be signalled safely later. It is killed, reaped
    and spawned again.
    """
    unpd = launch()
    with faults.straced(
        unpd.pid, tmp_path / "trace", "pidfd_open", "pidfd_open:error=EMFILE:when=1", follow=False
    ):
        procs.kill(unpd.workers()[:1])
        until(
            lambda: len(unpd.log_events("child.reaped", reason="sigkill")) == 2,
            10.0,
            "the second death",
        )
        until(lambda: len(unpd.workers()) == 2, 10.0, "the second worker")
    assert_recovered(unpd, failures=0)
