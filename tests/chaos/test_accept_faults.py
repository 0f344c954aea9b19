"""accept(2) that fails, a full accept queue, and many workers. Every client is served
in the end, no worker spins, and every failure is counted.
"""

import contextlib
import errno
import os
import re
import resource
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import clients, loads, procs
from tests.support.counts import wait_active, wait_ended
from tests.support.faults import Trace, namespace, requires_namespaces, requires_strace, straced
from tests.support.launch import Launch
from tests.support.scale import long
from tests.support.waiting import holds, until

ONE_WORKER = "[pools.default]\nworkers = 1\n"
MOST_ACCEPTS_A_SECOND = 50


def accepts(trace: Trace) -> list[str]:
    """Return the calls of accept4 that failed for another reason than an empty
    queue.
    """
    return [
        line
        for line in trace.lines()
        if "accept4(" in line and " = -1 E" in line and "EAGAIN" not in line
    ]


@requires_strace()
def test_an_error_of_one_connection_is_counted_and_skipped(launch: Launch, tmp_path: Path) -> None:
    """Every third accept fails with an error that a single connection can have. All
    clients are served, and each failure is counted by its errno.
    """
    unpd = launch(ONE_WORKER)
    failures = 0
    labels = {
        name: name for name in ("ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "EHOSTUNREACH")
    } | {"ETIMEDOUT": "other"}
    for name, label in labels.items():
        with straced(
            unpd.workers()[0], tmp_path / name, "accept4", f"accept4:error={name}:when=1+3"
        ) as trace:
            for _ in range(20):
                assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
        count = len(accepts(trace))
        assert count >= 7
        unpd.metric_becomes(count, "unpd_accept_errors_total", service="echo", errno=label)
        assert {event.level for event in unpd.log_events("accept.failed", errno=name)} == {"debug"}
        failures += count
    unpd.metric_becomes(failures, "unpd_accept_errors_total", service="echo")
    assert wait_ended(unpd, {"client_fin": 20 * len(labels)}).accepted == 20 * len(labels)


@pytest.mark.slow
@requires_strace()
def test_an_error_of_resources_pauses_the_listener(launch: Launch, tmp_path: Path) -> None:
    """While every accept fails for lack of resources, the worker retries now and then
    and serves its open connections. It serves the waiting clients once accept works
    again.
    """
    unpd = launch(ONE_WORKER)
    names = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")
    with clients.connect(unpd.address("echo")) as known:
        wait_active(unpd, 1)
        for name in names:
            with contextlib.ExitStack() as stack:
                with straced(
                    unpd.workers()[0], tmp_path / name, "accept4", f"accept4:error={name}"
                ) as trace:
                    waiting = [
                        stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(5)
                    ]
                    until(
                        lambda trace=trace: len(accepts(trace)) >= 3,  # type: ignore[misc]
                        10.0,
                        "three attempts to accept",
                    )
                    known.sendall(b"still here")
                    assert clients.read_exactly(known, 10) == b"still here"
                for sock in waiting:
                    sock.sendall(b"at last")
                    assert clients.read_exactly(sock, 7) == b"at last"
            unpd.metric_becomes(
                len(accepts(trace)), "unpd_accept_errors_total", service="echo", errno=name
            )
            told = unpd.log_events("accept.failed", errno=name)
            assert {(event.level, event.fields["paused"]) for event in told} == {("warning", True)}
    assert wait_ended(unpd, {"client_fin": 1 + 5 * len(names)}).accepted == 1 + 5 * len(names)


FEW = 40
"""Descriptors of one process. The master needs about twenty."""


def few_descriptors() -> None:
    """Limit the daemon that starts now to FEW descriptors per process. The daemon
    raises its limit only to the hard one.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))


@requires_strace()
def test_a_worker_without_descriptors_rests_and_recovers(launch: Launch, tmp_path: Path) -> None:
    """A worker without a free descriptor does not spin on accept. It serves its open
    connections, and the waiting clients once descriptors are free.
    """
    unpd = launch(ONE_WORKER, preexec=few_descriptors)
    (pid,) = unpd.workers()
    served = FEW - len(procs.fds(pid))
    with clients.idle(unpd.address("echo"), 2 * served) as held:
        wait_active(unpd, served)
        unpd.wait_event("accept.failed", errno="EMFILE")
        duration_s = long(10.0, at_least=0.6)
        with straced(pid, tmp_path / "trace", "accept4") as trace:
            before_s = procs.cpu_s(pid)
            holds(lambda: procs.alive(pid), duration_s, "the worker ended")
            assert procs.cpu_s(pid) - before_s < duration_s / 4
            assert trace.count("accept4") < MOST_ACCEPTS_A_SECOND * duration_s
        for sock in held[:served]:
            sock.sendall(b"x")
            assert clients.read_exactly(sock, 1) == b"x"
        for sock in held[:served]:
            sock.close()
        for sock in held[served:]:
            sock.sendall(b"y")
            assert clients.read_exactly(sock, 1) == b"y"
    wait_ended(unpd, {"client_fin": 2 * served})
    assert clients.ask(unpd.address("daytime")).endswith(b"\r\n")
    assert unpd.total("unpd_accept_errors_total", service="echo", errno="EMFILE") >= 1


@requires_strace()
@pytest.mark.parametrize("name", ["EINVAL", "EBADF"])
def test_a_broken_listener_ends_the_worker_and_not_the_service(
    launch: Launch, tmp_path: Path, name: str
) -> None:
    """A worker whose accept fails with EINVAL or EBADF leaves with a reason in the log
    instead of spinning. Its successor serves.
    """
    unpd = launch(ONE_WORKER)
    unpd.expect_errors("worker.crashed")
    unpd.expect_traceback()
    before = unpd.workers()
    with (
        straced(before[0], tmp_path / "trace", "accept4", f"accept4:error={name}:when=1"),
        clients.connect(unpd.address("echo")) as sock,
    ):
        unpd.wait_respawned(before)
        sock.sendall(b"hello")
        assert clients.read_exactly(sock, 5) == b"hello"
    assert os.strerror(getattr(errno, name)) in unpd.log_events("worker.crashed")[0].fields["error"]
    assert unpd.log_events("child.reaped", kind="worker")[0].fields["reason"] == "failed"
    wait_ended(unpd, {"client_fin": 1})


@requires_strace()
def test_a_connection_wakes_hardly_more_than_one_of_many_workers(
    launch: Launch, tmp_path: Path
) -> None:
    """With eight workers and single connections, the workers together wake at most
    twice per accept.
    """
    unpd = launch("[pools.default]\nworkers = 8")
    count = 40
    with contextlib.ExitStack() as stack:
        traces = [
            stack.enter_context(
                straced(
                    pid,
                    tmp_path / f"trace-{pid}",
                    "accept4,getsockopt,epoll_wait,epoll_pwait",
                    follow=False,
                )
            )
            for pid in unpd.workers()
        ]
        for _ in range(count):
            until(lambda: all_asleep(unpd.workers()), 10.0, "all workers to wait")
            assert clients.ask(unpd.address("daytime")).endswith(b"\r\n")
        wait_ended(unpd, {"done": count}, service="daytime")
    accepted = sum(
        re.search(r"accept4\(.*\) = \d+$", line) is not None
        for trace in traces
        for line in trace.lines()
    )
    assert accepted == count
    assert count <= wakeups(traces) <= 2 * count


def all_asleep(pids: list[int]) -> bool:
    """Whether all processes sleep in a system call (proc(5)). Only then does the kernel
    choose freely which one it wakes.
    """
    return all((process := procs.stat(pid)) is not None and process.state == "S" for pid in pids)


def wakeups(traces: list[Trace]) -> int:
    """Count how often a worker woke up for a listener: epoll told its descriptor, and
    the worker read the queue (getsockopt of TCP_INFO) or accepted. Each worker also
    looks once a second, whatever woke it up.
    """
    pairs = [pair for trace in traces for pair in pairwise(trace.lines())]
    used = [(told, re.match(r"(?:getsockopt|accept4)\((\d+), ", line)) for told, line in pairs]
    return sum(
        told.startswith("epoll") and f"data={{u32={listener[1]}," in told
        for told, listener in used
        if listener
    )


def overflows() -> int:
    """Return ListenOverflows of this process's network namespace."""
    names, values = (
        line.split()[1:]
        for line in Path("/proc/self/net/netstat").read_text().splitlines()
        if line.startswith("TcpExt:")
    )
    return int(values[names.index("ListenOverflows")])


@pytest.mark.slow
@requires_namespaces()
def test_a_queue_that_overflows_loses_no_client(launch: Launch) -> None:
    """While the workers stand still and the queue is full, the kernel drops handshakes
    and clients retry. Once the workers go on, every client is served.

    SYN cookies are off. With them the kernel keeps no state of an unfinished handshake,
    and answers the FIN of a short request with a reset.
    """
    with namespace() as net:
        net.sysctl("net.ipv4.tcp_syncookies", "0")
        unpd = launch(
            '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nbacklog = 16', prefix=net.prefix
        )
        with net.entered():
            with contextlib.ExitStack() as stack:
                with procs.stopped(unpd.workers()):
                    client = loads.start(unpd.address("echo"), concurrency=60, timeout_s=30.0)
                    stack.callback(client.abandon)
                    client.wait(lambda: client.attempts() >= 60, 10.0, "60 attempts")
                    unpd.metric_becomes(17, "unpd_listen_queue_length", service="echo")
                    assert overflows() > 0
                result = client.stop()
            result.assert_clean(at_least=60)
            assert wait_ended(unpd, {"client_fin": result.ok}).accepted == result.ok
            unpd.metric_becomes(0, "unpd_listen_queue_length", service="echo")
