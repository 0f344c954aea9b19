"""max_connections_per_worker: a worker at its limit leaves further clients in the
accept queue without spinning, and accepts them as connections end.
"""

import contextlib
import os
import signal
import socket

import pytest

from tests.support import clients, procs
from tests.support.counts import service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.waiting import holds, until


def greeted(socks: list[socket.socket]) -> list[socket.socket]:
    """Return those of ``socks`` that have received the echo of their byte."""
    found = []
    for sock in socks:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            if sock.recv(1, socket.MSG_PEEK):
                found.append(sock)
    return found


def crowd(stack: contextlib.ExitStack, unpd: Unpd, count: int) -> list[socket.socket]:
    """Connect ``count`` clients that each send one byte."""
    socks = [stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(count)]
    for sock in socks:
        sock.sendall(b"x")
    return socks


@pytest.mark.slow
def test_beyond_its_limit_a_worker_leaves_clients_in_the_queue(launch: Launch) -> None:
    """Of five clients of a worker with a limit of three, two wait in the accept queue,
    as the metrics show. Each ended connection lets one of them in.
    """
    unpd = launch("[pools.default]\nworkers = 1\nmax_connections_per_worker = 3")
    with contextlib.ExitStack() as stack:
        socks = crowd(stack, unpd, 5)
        wait_active(unpd, 3)
        until(lambda: len(greeted(socks)) == 3, 10.0, "three clients to be served")
        unpd.metric_becomes(2, "unpd_listen_queue_length", service="echo")
        assert service_counts(unpd).accepted == 3
        for freed in (4, 5):
            served = greeted(socks)
            socks.remove(served[0])
            served[0].close()
            until(lambda: len(greeted(socks)) == 3, 10.0, "a waiting client to be accepted")
            until(
                lambda freed=freed: service_counts(unpd).accepted == freed,  # type: ignore[misc]
                10.0,
                f"{freed} accepted connections",
            )
            assert service_counts(unpd).active == 3
    assert wait_active(unpd, 0).accepted == 5


def test_a_full_worker_with_a_queue_does_not_spin(launch: Launch) -> None:
    """While clients wait in the accept queue of a worker at its limit, the worker uses
    almost no processor time.
    """
    unpd = launch("[pools.default]\nworkers = 1\nmax_connections_per_worker = 2")
    with contextlib.ExitStack() as stack:
        crowd(stack, unpd, 10)
        wait_active(unpd, 2)
        pid = unpd.workers()[0]
        before_s = procs.cpu_s(pid)
        holds(lambda: procs.alive(pid), 0.5, "the worker ended")
        assert procs.cpu_s(pid) - before_s < 0.1


def test_the_limit_is_reached_exactly_and_again_after_a_crash(launch: Launch) -> None:
    """Two workers with a limit of three serve six of ten clients. When one is killed,
    its successor accepts exactly three from the queue.
    """
    unpd = launch("[pools.default]\nworkers = 2\nmax_connections_per_worker = 3")
    with contextlib.ExitStack() as stack:
        socks = crowd(stack, unpd, 10)
        wait_active(unpd, 6)
        until(
            lambda: len(greeted(socks)) == 6, 10.0, "six clients to be answered"
        )  # an accepted client is not yet served
        before = unpd.workers()
        os.kill(before[0], signal.SIGKILL)
        until(
            lambda: service_counts(unpd).ended.get("worker_died") == 3,
            10.0,
            "the lost connections to be counted",
        )
        after = wait_active(unpd, 6)
        assert after.accepted == 9
        holds(lambda: service_counts(unpd).active == 6, 0.5, "a worker went beyond its limit")
        until(
            lambda: len(greeted(socks)) == 9,
            10.0,
            "the three accepted later to be answered too",
        )


def test_the_limit_belongs_to_the_pool_not_the_service(launch: Launch) -> None:
    """Two services of one worker share its limit."""
    unpd = launch(
        """
        [pools.default]
        workers = 1
        max_connections_per_worker = 2

        [services.echo]
        listen = ["tcp://127.0.0.1:0"]

        [services.second]
        type = "echo"
        listen = ["tcp://127.0.0.1:0"]
        """
    )
    with clients.idle(unpd.address("echo"), 2):
        wait_active(unpd, 2)
        with clients.idle(unpd.address("second"), 1):
            holds(
                lambda: service_counts(unpd, "second").active == 0,
                0.3,
                "a third client was accepted",
            )
    wait_ended(unpd, {"client_fin": 2})
    wait_ended(unpd, {"client_fin": 1}, service="second")


def test_the_queues_limit_is_the_backlog(launch: Launch) -> None:
    """unpd_listen_queue_limit is the configured backlog of each TCP listener, by its
    address. Two listeners on free ports are separate.
    """
    unpd = launch(
        '[services.echo]\nlisten = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]\nbacklog = 7'
    )
    for index in range(2):
        unpd.metric_becomes(
            7,
            "unpd_listen_queue_limit",
            service="echo",
            listener=f"tcp://127.0.0.1:{unpd.port('echo', index)}",
        )
