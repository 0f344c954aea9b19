"""Workers that crash, hang or never become ready: which clients are affected, and how
soon the daemon recovers.
"""

import contextlib
import json
import socket
import time
from pathlib import Path
from signal import SIGABRT, SIGCONT, SIGKILL, SIGSEGV, SIGSTOP, SIGTERM, Signals
from typing import Any

import pytest

from tests.support import clients, faults, loads, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.waiting import pause, until

CONCURRENCY = 64
CLIENTS = 20
"""The number of clients of one worker."""
LIVED_S = 1.1
"""A worker that was ready for a second has not died early."""

# --- crashes --------------------------------------------------------------------------

FIVE_WORKERS = """
[daemon]
grace_s = 2

[log]
level = "info"

[pools.default]
workers = 5
"""


def broken(sock: socket.socket) -> bool:
    """Whether the other side of a conversation is gone."""
    try:
        sock.send(b"x")
        return clients.read_exactly(sock, 1) != b"x"
    except OSError:
        return True


@pytest.mark.slow
@faults.requires_strace()
def test_a_crash_costs_its_own_connections_and_no_other(launch: Launch, tmp_path: Path) -> None:
    """However a worker ends, the log names how. Only its own clients are cut off, they
    are counted as worker_died, and the next worker starts at once.
    """
    unpd = launch(FIVE_WORKERS)
    unpd.metric_becomes(5, "unpd_workers", state="ready")
    unpd.expect_errors("worker.crashed")
    unpd.expect_traceback()
    with contextlib.ExitStack() as stack:
        served = {worker: clients_of(unpd, worker, stack) for worker in unpd.workers()}
        pause(LIVED_S)
        for victim, (number, ended) in zip(list(served), ENDS, strict=True):
            ready = len(unpd.log_events("worker.ready"))
            if number is None:
                # Not the first call: the worker would be gone before strace is seen to
                # have attached.
                with faults.straced(
                    victim,
                    tmp_path / "trace",
                    "/^epoll_p?wait$",
                    "/^epoll_p?wait$:error=EINVAL:when=2",
                ):
                    died = unpd.wait_event("child.reaped", pid=victim)
            else:
                procs.kill([victim], number)
                died = unpd.wait_event("child.reaped", pid=victim)
            assert str(died.fields["ended"]).startswith(ended)
            assert died.fields["connections_lost"] == (0 if number is SIGTERM else CLIENTS)
            assert all(broken(sock) for sock in served.pop(victim))
            assert not [sock for others in served.values() for sock in others if broken(sock)]
            assert (
                unpd.wait_event("worker.died", birth=died.fields["birth"]).fields["respawn_in_s"]
                == 0.0
            )
            unpd.wait_event("worker.ready", after=ready, timeout_s=1.0)
    unpd.metric_becomes(
        4 * CLIENTS, "unpd_connections_ended_total", service="echo", cause="worker_died"
    )
    unpd.metric_becomes(CLIENTS, "unpd_connections_ended_total", service="echo", cause="shutdown")
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    assert "Fatal Python error: Aborted" in unpd.stderr()
    assert "Fatal Python error: Segmentation fault" in unpd.stderr()


def clients_of(unpd: Unpd, worker: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Connect clients to ``worker``, while the other workers are stopped."""
    with procs.stopped([other for other in unpd.workers() if other != worker]):
        found = [stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(CLIENTS)]
        assert not [sock for sock in found if broken(sock)]
    return found


ENDS: tuple[tuple[Signals | None, str], ...] = (
    (SIGSEGV, "killed by SIGSEGV"),
    (SIGABRT, "killed by SIGABRT"),
    (SIGKILL, "killed by SIGKILL"),
    (None, "exit code 1"),  # the worker itself fails: its wait returns an error
    (SIGTERM, "exit code 0"),  # told by another process to leave: it drains its connections
)


def test_connections_queue_while_no_worker_lives(launch: Launch) -> None:
    """While every worker is dead and the master is stopped, connections wait in the
    accept queue. None is refused, and the next workers serve them.
    """
    unpd = launch()
    with procs.stopped([unpd.pid]):
        procs.kill(unpd.workers())
        until(lambda: not unpd.workers(), 5.0, "the workers to die")
        waiting = [clients.connect(unpd.address("echo")) for _ in range(50)]
        for sock in waiting:
            sock.send(b"hello")
    for sock in waiting:
        with sock:
            assert clients.read_exactly(sock, 5) == b"hello"


def test_all_workers_killed_under_load(launch: Launch) -> None:
    """Killing all workers repeatedly resets at most their open connections. No client
    is refused, and none waits for ever.
    """
    unpd = launch()
    rounds = 3  # the back-off grows with each round
    with loads.running(unpd.address("echo"), rate=500, concurrency=CONCURRENCY) as client:
        for _ in range(rounds):
            workers = unpd.workers()
            procs.kill(workers)
            unpd.wait_respawned(workers, timeout_s=20.0)
            client.more(50, timeout_s=20.0)
        client.stop().assert_clean(allow=loads.cut_off(CONCURRENCY * rounds))


# --- crash loops ----------------------------------------------------------------------


@pytest.mark.slow
@faults.requires_strace()
@pytest.mark.parametrize("fault", ["error=EPERM", "signal=SIGKILL"], ids=["fails", "is-killed"])
def test_a_crash_loop_slows_down(launch: Launch, tmp_path: Path, fault: str) -> None:
    """A worker that dies before it is ready is respawned after 0.1 s, then after
    doubled delays. Meanwhile the daemon serves, reports that it is degraded, and idles.
    Then it recovers.
    """
    unpd = launch()
    unpd.expect_errors("worker.failed")
    first, second = unpd.workers()
    with faults.straced(unpd.pid, tmp_path / "trace", "capset", f"capset:{fault}"):
        procs.kill([first])
        spent_s, began = procs.cpu_s(unpd.pid), time.monotonic()
        until(lambda: len(unpd.log_events("worker.died")) >= 4, 10.0, "four deaths")
        share = (procs.cpu_s(unpd.pid) - spent_s) / (time.monotonic() - began)
        degraded = status(unpd)["degraded"]
        assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
        assert unpd.get("/readyz").status == 200
        unpd.metric_becomes(1, "unpd_degraded", reason="crash_loop")
    delays_s = [event.fields["respawn_in_s"] for event in unpd.log_events("worker.died")][1:4]
    assert delays_s == [delays_s[0] * factor for factor in (1, 2, 4)]
    assert delays_s[0] in (
        0.1,
        0.2,
    )  # depends on whether the first worker, which served, had lived for a second
    text = "worker default/0 keeps dying early"
    assert degraded == [{"reason": "crash_loop", "text": text}]
    assert share < 0.2
    assert second in unpd.workers()
    unpd.metric_becomes(2, "unpd_workers", state="ready")
    assert status(unpd)["degraded"] == []
    unpd.metric_becomes(0, "unpd_degraded")
    samples = unpd.metrics()
    assert (
        total(samples, "unpd_worker_spawns_total")
        == total(samples, "unpd_children_reaped_total", kind="worker") + 2
    )


def status(unpd: Unpd) -> dict[str, Any]:
    """Return the answer of ``unpd status``."""
    found: dict[str, Any] = json.loads(
        unpd.run("status", "--json", "--config", str(unpd.config_path)).stdout
    )
    return found


IMPATIENT = """
[daemon]
start_timeout_s = 1
"""


@pytest.mark.slow
@faults.requires_strace()
def test_a_reload_whose_workers_never_become_ready(launch: Launch, tmp_path: Path) -> None:
    """Workers that hang before they are ready are killed after start_timeout_s. The
    reload fails and says so. The old workers serve all the time.
    """
    unpd = launch(IMPATIENT)
    unpd.expect_errors("worker.start_timed_out", "exporter.start_timed_out", "reload.refused")
    serving = unpd.workers()
    with loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client:
        with faults.straced(unpd.pid, tmp_path / "trace", "capset", "capset:delay_enter=20000000"):
            answer = unpd.run("reload", "--all", "--config", str(unpd.config_path))
        assert answer.returncode == 1
        assert b"was not ready in time" in answer.stderr
        until(lambda: unpd.workers() == serving, 5.0, "the new workers to end")
        unpd.metric_becomes(0, "unpd_config_last_reload_successful")
        assert unpd.metric("unpd_generation") == 1
        assert unpd.run("reload", "--all", "--config", str(unpd.config_path)).returncode == 0
        unpd.metric_becomes(1, "unpd_config_last_reload_successful")
        assert unpd.metric("unpd_generation") > 1
        client.more(100)
        client.stop().assert_clean(at_least=100)


# --- hangs ----------------------------------------------------------------------------

SHORT_HEARTBEAT = """
[daemon]
heartbeat_timeout_s = 2

[pools.default]
workers = 3
"""


@pytest.mark.slow
def test_hung_workers_are_replaced(launch: Launch) -> None:
    """A worker without a heartbeat gets SIGABRT and prints where it hangs. If it does
    not end, it gets SIGKILL 2 s later. Both are replaced, and the master answers all
    the time.
    """
    unpd = launch(SHORT_HEARTBEAT)
    unpd.metric_becomes(3, "unpd_workers", state="ready")
    unpd.expect_errors("worker.hung")
    deaf, slow, healthy = unpd.workers()
    with loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client:
        procs.kill([deaf, slow], SIGSTOP)
        until(lambda: len(unpd.log_events("worker.hung")) == 2, 10.0, "both to count as hung")
        procs.kill([slow], SIGCONT)
        assert unpd.wait_event("child.reaped", pid=slow).fields["reason"] == "sigabrt"
        assert status(unpd)["phase"] == "running"
        assert unpd.wait_event("child.reaped", pid=deaf).fields["reason"] == "sigkill"
        until(lambda: len(unpd.workers()) == 3, 5.0, "the third worker")
        client.more(100)
        client.stop().assert_clean(at_least=100, allow=loads.cut_off(2 * CONCURRENCY))
    assert healthy in unpd.workers()
    trace = unpd.stderr().partition("Fatal Python error: Aborted")[2]
    assert "engine.py" in trace
    assert len(unpd.log_events("worker.hung")) == 2
