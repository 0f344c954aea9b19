"""Every child that dies is reaped at once, however its death becomes known. Nothing
else is taken for a death.
"""

import re
import signal
from signal import SIGCHLD, SIGSEGV

import pytest

from tests.support import drop_signal, faults, loads, procs, scale
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.waiting import until

CONCURRENCY = 100


def all_ready(unpd: Unpd, count: int) -> None:
    """Wait until ``count`` workers are ready."""
    unpd.metric_becomes(count, "unpd_workers", state="ready", timeout_s=30.0)


def assert_reaped_is_spawned_less_live(unpd: Unpd) -> None:
    """Assert by the metrics that every spawned worker lives or was reaped, and that no
    other process was reaped.
    """
    found: dict[str, float] = {}

    def balanced() -> bool:
        samples = unpd.metrics()
        found.update(
            spawned=total(samples, "unpd_worker_spawns_total"),
            live=total(samples, "unpd_workers"),
            reaped=total(samples, "unpd_children_reaped_total", kind="worker"),
            unknown=total(samples, "unpd_unknown_children_reaped_total"),
        )
        return found["reaped"] == found["spawned"] - found["live"] and found["unknown"] == 0

    until(balanced, 2.0, lambda: f"balanced accounts: {found}")


MANY_WORKERS = f"""
[log]
level = "info"

[pools.default]
workers = {scale.many(200, at_least=40)}
"""


@pytest.mark.slow
def test_all_workers_killed_at_once(launch: Launch) -> None:
    """Many workers die at one moment, also while the master is stopped. Within a second
    no zombie is left. Every worker comes back, and no client is refused.
    """
    count = scale.many(200, at_least=40)
    rounds = scale.many(5, at_least=2)
    unpd = launch(MANY_WORKERS)
    all_ready(unpd, count)
    with loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client:
        for number in range(rounds):
            client.more(50)
            workers = unpd.workers()
            assert len(workers) == count
            if number % 2 == 0:
                with procs.stopped([unpd.pid]):
                    procs.kill(workers)
                    unpd.metric_becomes(count, "unpd_zombies")
            else:
                procs.kill(workers)
            until(
                lambda dead=set(workers): not dead & procs.child_pids(unpd.pid),  # type: ignore[misc]
                1.0,
                "the dead to be reaped",
            )
            unpd.metric_becomes(0, "unpd_zombies", timeout_s=1.0)
            unpd.wait_respawned(workers, timeout_s=60.0)
            all_ready(unpd, count)
        client.more(50)
        result = client.stop()
    result.assert_clean(at_least=50 * rounds, allow=loads.cut_off(CONCURRENCY * rounds))
    unpd.metric_becomes(
        count * rounds, "unpd_children_reaped_total", kind="worker", reason="sigkill"
    )
    assert_reaped_is_spawned_less_live(unpd)


@pytest.mark.slow
@faults.requires_strace()
def test_every_fork_is_reaped_by_an_independent_witness(launch: Launch) -> None:
    """From the first fork to the exit, the pids that clone(2) gave the master are the
    pids that wait4(2) returned to it.
    """
    unpd = launch(ready=True)
    trace = unpd.directory / "trace"
    born_before = procs.child_pids(unpd.pid)
    with faults.straced(unpd.pid, trace, "clone,clone3,wait4", follow=False) as seen:
        for _ in range(3):
            workers = unpd.workers()
            procs.kill(workers)
            unpd.wait_respawned(workers)
        unpd.stop()
        until(lambda: not procs.alive(unpd.pid), 5.0, "the master to end")
    forked = {int(line.rpartition("= ")[2]) for line in seen.lines() if line.startswith("clone")}
    reaped = [
        int(line.rpartition("= ")[2]) for line in seen.lines() if line.startswith("wait4(-1, [{")
    ]
    assert len(forked) == 6
    assert sorted(reaped) == sorted(born_before | forked)


@faults.requires_root
@faults.requires_strace()
def test_lost_sigchld(launch: Launch) -> None:
    """A lost SIGCHLD costs a second: the sweep finds the dead workers, and they come
    back.
    """
    unpd = launch("[pools.default]\nworkers = 4\n")
    with (
        drop_signal.signal_dropped(unpd.pid, SIGCHLD),
        loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client,
    ):
        workers = unpd.workers()
        procs.kill(workers)
        until(lambda: not set(workers) & procs.child_pids(unpd.pid), 3.0, "the dead to be reaped")
        unpd.wait_respawned(workers)
        client.more(50)
        client.stop().assert_clean(allow=loads.cut_off(CONCURRENCY))
    unpd.metric_becomes(4, "unpd_children_reaped_total", kind="worker", reason="sigkill")
    assert unpd.total("unpd_sigchld_total") == 0
    assert_reaped_is_spawned_less_live(unpd)


def ignore_sigchld() -> None:
    """Ignore SIGCHLD, as a careless launcher does."""
    signal.signal(SIGCHLD, signal.SIG_IGN)


@pytest.mark.parametrize("detached", [False, True], ids=["run", "start"])
def test_sigchld_inherited_ignored(launch: Launch, detached: bool) -> None:
    """The daemon starts and learns how its children end, although it inherits SIGCHLD
    as ignored. The kernel would otherwise reap the children itself.
    """
    unpd = launch(preexec=ignore_sigchld, detached=detached)
    victim = unpd.workers()[0]
    procs.kill([victim], SIGSEGV)
    ended = unpd.wait_event("child.reaped", pid=victim)
    assert str(ended.fields["ended"]).startswith("killed by SIGSEGV")
    assert ended.fields["reason"] == "sigsegv"


def sampled(unpd: Unpd) -> None:
    """Wait for the master's next sample of its own figures, which it takes each
    second.
    """
    before = unpd.total("process_cpu_seconds_total")
    until(
        lambda: unpd.total("process_cpu_seconds_total") != before, 5.0, "the master's next sample"
    )


def test_a_stopped_worker_is_no_dead_worker(launch: Launch) -> None:
    """SIGSTOP and SIGCONT of a worker are no exit. They cause no SIGCHLD, nothing is
    reaped or respawned, and the clients only wait.
    """
    unpd = launch()
    workers = unpd.workers()
    with loads.running(unpd.address("echo"), rate=300, concurrency=CONCURRENCY) as client:
        for _ in range(5):
            with procs.stopped(workers):
                pass
            client.more(20)
        client.stop().assert_clean()
    sampled(unpd)
    assert unpd.workers() == workers
    assert unpd.total("unpd_sigchld_total") == 0
    assert not unpd.log_events("child.reaped")


# --- what a child holds ---------------------------------------------------------------

TWO_POOLS = """
[pools.default]
workers = 1

[pools.other]
workers = 1

[services.echo]
listen = ["tcp://127.0.0.1:0", "unix://{directory}/echo.sock"]

[services.daytime]
listen = ["tcp://127.0.0.1:0"]
pool = "other"
"""


def held(pid: int) -> list[str]:
    """Return the targets of a child's descriptors, without standard input, output,
    error and the log.
    """
    log = procs.fds(pid)[2]
    return sorted(target for fd, target in procs.fds(pid).items() if fd > 2 and target != log)


def listeners_of(unpd: Unpd, pid: int, listeners: int, others: list[str]) -> set[str]:
    """Return the listeners that a child holds. Assert their number, that it holds only
    its end of the channel and ``others`` beside them, and that it shares no pipe with
    its master.
    """
    of_master = set(procs.fds(unpd.pid).values())
    targets = held(pid)
    sockets = {target for target in targets if target.startswith("socket:")}
    pipes = [target for target in targets if target.startswith("pipe:")]
    assert not set(pipes) & of_master, "a pipe of the master"
    assert all(pipes.count(pipe) >= 2 for pipe in pipes), "one end of another process's pipe"
    assert len(sockets & of_master) == listeners
    assert len(sockets - of_master) == 1, "not one channel, but another number of sockets"
    assert [
        re.sub(r":\[\d+\]$", "", target) for target in targets if target not in sockets
    ] == others, targets
    return sockets & of_master


def test_a_child_holds_no_descriptor_of_the_master_but_what_it_needs(
    launch: Launch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A worker holds the listeners of its own pool, the exporter only its own, and both
    the counts of sources. In every generation neither holds a pipe, epoll, control
    socket or scoreboard descriptor of the master.
    """
    unpd = launch(TWO_POOLS.format(directory=tmp_path_factory.mktemp("sockets")))

    def look() -> None:
        serves_echo, serves_daytime = sorted(
            unpd.workers(), key=lambda pid: "other" in procs.title(pid)
        )
        exporter = unpd.exporter()
        assert exporter is not None
        others = ["/memfd:unpd-sources (deleted)", "anon_inode:[eventpoll]", *2 * ["pipe"]]
        echo = listeners_of(unpd, serves_echo, 2, others)
        daytime = listeners_of(unpd, serves_daytime, 1, others)
        metrics = listeners_of(unpd, exporter, 1, others)
        assert not echo & daytime
        assert not metrics & (echo | daytime)

    look()
    workers = unpd.workers()
    procs.kill(workers)
    unpd.wait_respawned(workers)
    until(
        lambda: all("ready" in procs.title(pid) for pid in unpd.workers()),
        5.0,
        "the new workers to be ready",
    )
    look()
    assert unpd.run("reload", "--all", "--config", str(unpd.config_path)).returncode == 0
    until(lambda: len(unpd.workers()) == 2, 5.0, "the old generation to end")
    look()
