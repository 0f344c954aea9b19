"""Dispatchers and their sessions die, hang, or may not fork. A session belongs to its
client: it goes on, and stays counted, whatever happens to the others.
"""

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM, Signals

import pytest

from tests.support import clients, faults, procs
from tests.support.counts import service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import total
from tests.support.operating import reload
from tests.support.sessions import (
    FORK,
    dispatcher,
    greet,
    kill_dispatcher,
    served,
    session_of,
    works,
)
from tests.support.waiting import holds, until

THREE = FORK + "max_connections = 3\n"


def reaped(unpd: Unpd) -> dict[str, int]:
    """The reaped session processes, by reason."""
    return {
        dict(labels)["reason"]: int(value)
        for (name, labels), value in unpd.metrics().items()
        if name == "unpd_session_processes_reaped_total" and value
    }


def waiting_client(stack: contextlib.ExitStack, unpd: Unpd) -> socket.socket:
    """Connect a client that waits for its echo."""
    sock = stack.enter_context(clients.connect(unpd.address("echo")))
    sock.sendall(b"x")
    return sock


# --- deaths ---------------------------------------------------------------------------


@pytest.mark.slow
def test_sessions_outlive_their_dispatcher(launch: Launch) -> None:
    """However often it is killed, its sessions go on as children of the master and stay
    counted; the limit holds for its successor, which brings them to their end at a
    stop.
    """
    unpd = launch(THREE)
    with contextlib.ExitStack() as stack:
        socks = served(stack, unpd.address("echo"), 3)
        before = set(unpd.sessions())
        late = waiting_client(stack, unpd)
        successor = kill_dispatcher(unpd, dispatcher(unpd))
        assert set(unpd.sessions()) == before == procs.child_pids(unpd.pid) & before
        successor = kill_dispatcher(unpd, kill_dispatcher(unpd, successor))
        found = wait_active(unpd, 3)
        assert (found.accepted, found.ended) == (3, {})
        holds(lambda: set(unpd.sessions()) == before, 0.3, "the limit did not hold")
        assert all(greet(sock) for sock in socks)
        socks.pop().close()
        assert clients.read_exactly(late, 1) == b"x"
        (new,) = set(unpd.sessions()) - before
        assert procs.child_pids(successor) == {new}
        found = wait_active(unpd, 3)
        assert (found.accepted, found.ended) == (4, {"client_fin": 1})
        unpd.metric_becomes(1, "unpd_session_processes_reaped_total", reason="clean")
        unpd.metric_becomes(4, "unpd_session_processes_spawned_total")
        unpd.signal(SIGTERM)
        assert [clients.read_all(sock) for sock in (*socks, late)] == [b""] * 3
        assert unpd.wait_exit() == 0
    causes = [event.fields["cause"] for event in unpd.log_events("connection.ended")]
    assert causes == ["client_fin", "shutdown", "shutdown", "shutdown"]


def test_a_killed_session_costs_its_own_client_and_no_other(launch: Launch) -> None:
    """Also one whose dispatcher was killed before. It counts as killed by SIGKILL, its
    connection as worker_died, and the log names the client.
    """
    unpd = launch(FORK)
    with contextlib.ExitStack() as stack:
        socks = served(stack, unpd.address("echo"), 3)
        for number, sock in enumerate(socks[:2], 1):
            pid, peer = session_of(unpd, sock), f"127.0.0.1:{sock.getsockname()[1]}"
            procs.kill([pid])
            assert clients.read_all(sock) == b""
            died = unpd.wait_event("session.died", session_pid=pid)
            assert died.fields["ended"] == "killed by SIGKILL"
            assert (died.fields["peer"], died.fields["service"]) == (peer, "echo")
            until(lambda n=number: reaped(unpd) == {"sigkill": n}, 10.0, "the death to be counted")  # type: ignore[misc]
            assert service_counts(unpd).ended == {"worker_died": number}
            greet(socks[2])
            kill_dispatcher(unpd, dispatcher(unpd))
    wait_ended(unpd, {"worker_died": 2, "client_fin": 1})
    unpd.metric_becomes(0, "unpd_zombies")


def test_a_killed_worker_costs_no_session(launch: Launch) -> None:
    """The workers of the pool serve other services."""
    unpd = launch(FORK + '[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n')
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        before = unpd.workers()
        procs.kill(before)
        unpd.wait_respawned(before)
        greet(sock)
        assert clients.ask(unpd.address("daytime")).endswith(b"\r\n")
        served(stack, unpd.address("echo"))
    wait_ended(unpd, {"client_fin": 2})


@pytest.mark.slow
def test_ends_that_nobody_could_book_are_booked_later(launch: Launch) -> None:
    """Sessions end while their dispatcher is stopped, while it is dead, and while the
    master cannot run either. Each is reaped and counted once.
    """
    unpd = launch(FORK)
    with contextlib.ExitStack() as stack:
        killed, closed, alone, lasting = served(stack, unpd.address("echo"), 4)
        parent = dispatcher(unpd)
        pids = [session_of(unpd, sock) for sock in (killed, closed, alone)]
        # A dispatcher that dies in the middle of a booking loses these bytes.
        unpd.metric_becomes(4, "unpd_sent_bytes_total", service="echo")
        with procs.stopped([parent]):
            procs.kill(pids[:1])
            closed.close()
            until(lambda: all(is_zombie(pid) for pid in pids[:2]), 10.0, "two zombies")
            unpd.metric_becomes(2, "unpd_zombies")
            with procs.stopped([unpd.pid]):
                procs.kill([parent])
                alone.close()
                until(lambda: is_zombie(pids[2]), 10.0, "a zombie of the master")
        unpd.wait_event("dispatcher.ready", after=1)
        found = wait_active(unpd, 1)
        assert found.ended == {"worker_died": 1, "client_fin": 2}
        until(
            lambda: reaped(unpd) == {"sigkill": 1, "clean": 2},
            10.0,
            "each session to be counted once",
        )
        greet(lasting)
    found = wait_ended(unpd, {"worker_died": 1, "client_fin": 3})
    assert (found.received, found.sent) == (5, 5)
    unpd.metric_becomes(0, "unpd_zombies")


def is_zombie(pid: int) -> bool:
    """Whether a process is dead and not reaped."""
    found = procs.stat(pid)
    return found is not None and found.zombie


@pytest.mark.slow
@faults.requires_strace()
def test_a_dispatcher_that_dies_as_it_forks(launch: Launch, tmp_path: Path) -> None:
    """The session exists, and its dispatcher died before it could note that: client and
    counts agree all the same, and the next session is none the worse.
    """
    unpd = launch(FORK)
    parent = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        with faults.straced(
            parent, tmp_path / "trace", "clone", "clone:delay_exit=2000000", follow=False
        ):
            sock = stack.enter_context(clients.connect(unpd.address("echo")))
            until(unpd.sessions, 10.0, "the session")
            kill_dispatcher(unpd, parent)
        greet(sock)
        served(stack, unpd.address("echo"))
        assert len(unpd.sessions()) == wait_active(unpd, 2).accepted == 2
        greet(sock)
    wait_ended(unpd, {"client_fin": 2})
    assert reaped(unpd) == {"clean": 2}
    assert unpd.total("unpd_session_processes_spawned_total") == 2


# --- a retired dispatcher, a stop -----------------------------------------------------


def test_a_killed_retired_dispatcher_leaves_its_sessions_to_the_master(launch: Launch) -> None:
    """They go on and stay counted, and a stop of the daemon ends them."""
    unpd = launch(THREE)
    old = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        socks = served(stack, unpd.address("echo"), 3)
        reload(unpd, every_pool=True)
        until(lambda: " draining" in procs.title(old), 10.0, "the old dispatcher to drain")
        procs.kill([old])
        unpd.wait_event("child.reaped", pid=old)
        assert wait_active(unpd, 3).ended == {}
        assert all(greet(sock) for sock in socks)
        assert procs.child_pids(unpd.pid) >= set(unpd.sessions())
        socks.pop().close()
        assert wait_active(unpd, 2).ended == {"client_fin": 1}
        procs.kill([session_of(unpd, socks[0])])
        assert wait_active(unpd, 1).ended == {"client_fin": 1, "worker_died": 1}
        assert reaped(unpd) == {"clean": 1, "sigkill": 1}
        unpd.signal(SIGTERM)
        assert clients.read_all(socks[1]) == b""
    assert unpd.wait_exit() == 0


@pytest.mark.slow
def test_sessions_of_a_drain_that_ended_in_a_kill_end(launch: Launch) -> None:
    """Their dispatcher took no order to finish, so they got none from it: the master
    gives it to them.
    """
    unpd = launch(f"[daemon]\nreload_grace_s = 1\n{FORK}")
    old = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        procs.kill([old], SIGSTOP)
        reload(unpd, every_pool=True)
        unpd.wait_event("dispatcher.drain_timed_out")
        unpd.wait_event("child.reaped", pid=old, reason="sigkill")
        assert clients.read_all(sock) == b""
    assert wait_ended(unpd, {"shutdown": 1}).active == 0


@pytest.mark.slow
def test_sessions_of_a_drain_that_hung_keep_their_time(launch: Launch) -> None:
    """Only their dispatcher hung, which is aborted, and killed two seconds later."""
    unpd = launch(f"[daemon]\nreload_grace_s = 600\nheartbeat_timeout_s = 3\n{FORK}")
    unpd.expect_errors("dispatcher.hung")
    old = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        reload(unpd, every_pool=True)
        until(lambda: " draining" in procs.title(old), 10.0, "the old dispatcher to drain")
        procs.kill([old], SIGSTOP)
        unpd.wait_event("child.reaped", pid=old, reason="sigkill")
        holds(lambda: works(sock), 4.0, "the session was ended with its dispatcher")
        assert unpd.sessions()


@pytest.mark.parametrize("told", [True, False])
def test_a_dispatcher_killed_during_a_stop(launch: Launch, told: bool) -> None:
    """Whether or not it could tell its sessions to finish: the master does, and waits
    until each client has got its FIN and is gone.
    """
    unpd = launch(f"[daemon]\ngrace_s = 20\n{FORK}")
    parent = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        with contextlib.nullcontext() if told else procs.stopped([parent]):
            unpd.signal(SIGTERM)
            unpd.wait_event("master.stopping")
            if told:
                until(lambda: " draining" in procs.title(parent), 10.0, "the order to arrive")
            procs.kill([parent])
        unpd.wait_event("child.reaped", pid=parent)
        assert clients.read_all(sock) == b""
        assert unpd.process.poll() is None, "the client has not closed"
    assert unpd.wait_exit() == 0
    assert [e.fields["cause"] for e in unpd.log_events("connection.ended")] == ["shutdown"]


@pytest.mark.slow
def test_a_hung_dispatcher_is_replaced(launch: Launch) -> None:
    """It writes no heartbeat: it is killed, its sessions go on, and the clients that
    waited are served by the next one.
    """
    unpd = launch(f"[daemon]\nheartbeat_timeout_s = 2\n{FORK}")
    unpd.expect_errors("dispatcher.hung")
    parent = dispatcher(unpd)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        procs.kill([parent], SIGSTOP)
        late = waiting_client(stack, unpd)
        greet(sock)
        unpd.wait_event("dispatcher.hung")
        assert clients.read_exactly(late, 1) == b"x"
        greet(sock)
        assert not procs.alive(parent)
    wait_ended(unpd, {"client_fin": 2})


# --- forks that fail ------------------------------------------------------------------


@pytest.mark.slow
@faults.requires_strace()
def test_a_fork_that_fails_loses_nobody(launch: Launch, tmp_path: Path) -> None:
    """The connection is kept and tried again after growing pauses; the others wait in
    the queue. Each failure is logged and counted.
    """
    unpd = launch(FORK)
    unpd.expect_errors("session.fork_failed")
    with contextlib.ExitStack() as stack:
        with faults.straced(
            dispatcher(unpd),
            tmp_path / "trace",
            "clone",
            "clone:error=EAGAIN:when=1..3",
            follow=False,
        ):
            socks = [waiting_client(stack, unpd) for _ in range(3)]
            assert [clients.read_exactly(sock, 1) for sock in socks] == [b"x"] * 3
        failures = unpd.log_events("session.fork_failed", service="echo")
        pauses = [event.fields["retry_in_s"] for event in failures]
        assert pauses == [pauses[0], 2 * pauses[0], 4 * pauses[0]]
        assert {e.fields["reason"] for e in failures} == {"Resource temporarily unavailable"}
        unpd.metric_becomes(3, "unpd_session_fork_failures_total", service="echo")
        unpd.metric_becomes(3, "unpd_session_processes_spawned_total")
    wait_ended(unpd, {"client_fin": 3})


@faults.requires_strace()
@pytest.mark.parametrize(("number", "cause"), [(SIGKILL, "worker_died"), (SIGTERM, "shutdown")])
def test_a_connection_without_a_process_ends_with_its_dispatcher(
    launch: Launch, tmp_path: Path, number: Signals, cause: str
) -> None:
    """A client that the kernel gave no process loses its connection when the dispatcher
    is killed or has to leave; the next dispatcher serves the others. One that leaves
    logs the connection.
    """
    unpd = launch(FORK)
    unpd.expect_errors("session.fork_failed")
    parent = dispatcher(unpd)
    fault = "clone:error=EAGAIN"
    with contextlib.ExitStack() as stack:
        with faults.straced(parent, tmp_path / "trace", "clone", fault, follow=False):
            lost = waiting_client(stack, unpd)
            unpd.wait_event("session.fork_failed")
            late = waiting_client(stack, unpd)
            procs.kill([parent], number)
            unpd.wait_event("child.reaped", pid=parent)
        assert not works(lost)
        assert clients.read_exactly(late, 1) == b"x"
        peer = "{}:{}".format(*lost.getsockname())
    wait_ended(unpd, {cause: 1, "client_fin": 1})
    lines = [event.name for event in unpd.log_events(role="dispatcher", peer=peer)]
    assert lines == (["connection.started", "connection.ended"] if number is SIGTERM else [])


def no_more_by_user(unpd: Unpd) -> Iterator[None]:
    """Let the user of the dispatcher have no process more (RLIMIT_NPROC)."""
    parent = dispatcher(unpd)
    owner = procs.credentials(parent)  # root may lack the right, and the owner has it
    before = re.search(r"^Max processes +(\w+)", procs.limits(parent), re.MULTILINE)
    assert before
    for soft in ("0", before[1]):
        command = ["prlimit", "--pid", str(parent), f"--nproc={soft}:"]
        subprocess.run(command, check=True, user=owner.uids[0], group=owner.gids[0])
        if soft == "0":
            yield


def no_more_in_cgroup(unpd: Unpd) -> Iterator[None]:
    """Let the cgroup of the daemon have no process more."""
    with faults.pids_limit([found.pid for found in unpd.family()]) as limit:
        limit.set(limit.current())
        yield
        limit.set(None)


LIMITS = [
    pytest.param(no_more_by_user, id="user", marks=faults.requires_root),
    pytest.param(no_more_in_cgroup, id="cgroup", marks=faults.requires_pids_cgroup()),
]


@pytest.mark.slow
@pytest.mark.parametrize("limited", LIMITS)
def test_at_a_limit_clients_wait(launch: Launch, limited: Callable[[Unpd], Iterator[None]]) -> None:
    """The running sessions go on; one connection is kept and the others stay in the
    queue. All are served when there is room again. A stop meanwhile would end the one
    that is kept, and a session that ends makes room in the cgroup.
    """
    unpd = launch(FORK)
    unpd.expect_errors("session.fork_failed")
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd.address("echo"))
        with contextlib.contextmanager(limited)(unpd):
            late = [waiting_client(stack, unpd) for _ in range(3)]
            unpd.wait_event("session.fork_failed")
            unpd.metric_becomes(2, "unpd_listen_queue_length", service="echo")
            found = service_counts(unpd)
            assert (found.accepted, found.active) == (2, 2)
            greet(sock)
            assert len(unpd.sessions()) == 1
        assert [clients.read_exactly(each, 1) for each in late] == [b"x"] * 3
    wait_ended(unpd, {"client_fin": 4})
    samples = unpd.metrics()
    failures = len(unpd.log_events("session.fork_failed"))
    assert total(samples, "unpd_session_fork_failures_total") == failures
    assert total(samples, "unpd_session_processes_spawned_total") == 4
