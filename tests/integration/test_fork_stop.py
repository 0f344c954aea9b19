"""The stop of a daemon that forks sessions, and the death of its master: what becomes
of the sessions, of their clients, and of the counts.
"""

import contextlib
import socket
import time
from signal import SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, Signals

import pytest

from tests.support import clients, procs
from tests.support.counts import service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.fake_systemd import FakeSystemd
from tests.support.launch import Launch
from tests.support.ports import free_port
from tests.support.sessions import FORK, dispatcher, greet, served
from tests.support.waiting import until
from unpd.worker.accepting import BATCH

AIR_S = 5.0
"""What a busy machine may add to a bound."""


def causes(unpd: Unpd) -> list[str]:
    """The causes of the ended connections, by the log."""
    return sorted(str(event.fields["cause"]) for event in unpd.log_events("connection.ended"))


def test_conversations_are_finished_at_a_graceful_stop(launch: Launch) -> None:
    """Each session goes on until its client falls quiet. Clients that wait in the queue
    are accepted as far as there is room. Every client gets all its bytes and a FIN.
    """
    unpd = launch(FORK)
    data = b"in the middle " * 4000
    with contextlib.ExitStack() as stack:
        quiet, half, busy = served(stack, unpd.address("echo"), 3)
        with procs.stopped([dispatcher(unpd)]):
            late = [  # more than it accepts before it reads the order
                stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(BATCH + 2)
            ]
            for sock in late:
                sock.sendall(b"late")
                sock.shutdown(socket.SHUT_WR)
            unpd.signal(SIGTERM)
            unpd.wait_event("master.stopping", quick=False)
        busy.sendall(data)
        half.sendall(b"half-closed")
        half.shutdown(socket.SHUT_WR)
        assert clients.read_all(half) == b"half-closed"
        assert [clients.read_all(sock) for sock in late] == [b"late"] * len(late)
        assert clients.read_all(busy) == data
        assert clients.read_all(quiet) == b""
    assert unpd.wait_exit() == 0
    assert causes(unpd) == ["client_fin"] * (len(late) + 1) + ["shutdown"] * 2


@pytest.mark.slow
def test_clients_that_hold_on_do_not_extend_a_stop(launch: Launch) -> None:
    """A client that never closes and one that never reads are cut within grace_s, and
    no child has to be killed.
    """
    unpd = launch(f"[daemon]\ngrace_s = 2\n{FORK}")
    with contextlib.ExitStack() as stack:
        served(stack, unpd.address("echo"), 2)
        deaf = stack.enter_context(clients.connect(unpd.address("echo"), receive_buffer=1))
        assert clients.send_until_blocked(deaf, 64 << 20, stall_s=0.3) < 64 << 20
        wait_active(unpd, 3)
        began = time.monotonic()
        assert unpd.stop() == 0
        assert time.monotonic() - began < 2 + AIR_S
    assert causes(unpd) == ["shutdown"] * 3
    assert not unpd.log_events("dispatcher.drain_timed_out")


def test_a_quick_stop_ends_every_session_at_once(launch: Launch) -> None:
    """Whatever grace_s is, and whoever would go on."""
    unpd = launch(f"[daemon]\ngrace_s = 60\n{FORK}")
    with contextlib.ExitStack() as stack:
        socks = served(stack, unpd.address("echo"), 3)
        assert unpd.stop(SIGQUIT, timeout_s=10.0) == 0
        assert [clients.read_all(sock) for sock in socks] == [b""] * 3
    assert causes(unpd) == ["shutdown"] * 3


def test_sessions_outlive_a_killed_master(launch: Launch) -> None:
    """Their clients are served to the end. No session has a listener, so the ports are
    free: the same configuration starts at once, with counts of its own.
    """
    text = FORK.replace("127.0.0.1:0", f"127.0.0.1:{free_port()}")
    first = launch(text)
    first.expect_exit(-SIGKILL)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, first.address("echo"))
        (session,) = first.sessions()
        assert first.stop(SIGKILL) == -SIGKILL
        until(
            lambda: [each.pid for each in first.family() if not each.zombie] == [session],
            10.0,
            "the other processes to end",
        )
        second = launch(text)
        greet(sock)
        served(stack, second.address("echo"))
        assert service_counts(second).accepted == 1
        greet(sock).shutdown(socket.SHUT_WR)
        assert clients.read_all(sock) == b""
        until(lambda: procs.reap(session) == 0, 10.0, "the session to end in peace")
    wait_ended(second, {"client_fin": 1})


@pytest.mark.slow
def test_counters_go_on_after_a_crash(launch: Launch, systemd: FakeSystemd) -> None:
    """The sessions of the killed master count as worker_died in the scoreboard that
    was stored, though they may have gone on: the next daemon does not know them.
    """
    first = systemd.start(launch, FORK)
    with contextlib.ExitStack() as stack:
        served(stack, first.address("echo"))
        clients.converse(first.address("echo"), b"hello")
        until(lambda: service_counts(first).ended == {"client_fin": 1}, 10.0, "one end")
        first.metric_becomes(6, "unpd_received_bytes_total", service="echo")
        first.metric_becomes(2, "unpd_session_processes_spawned_total")
        first.metric_becomes(1, "unpd_session_processes_reaped_total")
        systemd.kill(first)
        second = systemd.start(launch, FORK)
        served(stack, second.address("echo"))
        found = wait_active(second, 1)
        assert found.ended == {"client_fin": 1, "worker_died": 1}
        second.metric_becomes(3, "unpd_session_processes_spawned_total")
        assert second.total("unpd_session_processes_reaped_total") == 1
    wait_ended(second, {"client_fin": 2, "worker_died": 1})
    assert second.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "grace_s"), [(SIGTERM, 2), (SIGINT, 60)])
def test_a_session_that_stands_still_is_killed_in_time(
    launch: Launch, number: Signals, grace_s: int
) -> None:
    """The dispatcher that waits for it is killed first; then the master has the
    session, and leaves no process behind.
    """
    unpd = launch(f"[daemon]\ngrace_s = {grace_s}\n{FORK}")
    with contextlib.ExitStack() as stack:
        served(stack, unpd.address("echo"))
        (session,) = unpd.sessions()
        procs.kill([session], SIGSTOP)
        began = time.monotonic()
        assert unpd.stop(number) == 0
        assert time.monotonic() - began < 2 + AIR_S
        assert not procs.stat(session), "the master reaped it"
