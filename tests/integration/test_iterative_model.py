"""The model iterative: one client at a time, as UNP's first servers. The others wait in
the accept queue, also over a reload; deadlines hold; a stop does not wait for them.
"""

import contextlib
import re
import socket
import time
from signal import SIGTERM

import pytest

from tests.support import clients, loads, procs
from tests.support.access import RESUMED_S
from tests.support.counts import service_counts, wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.sessions import greet, served, works
from tests.support.waiting import holds, until
from unpd.names import ChildKind

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]
model = "iterative"
"""
IDLE_S = 0.5


def waiting(stack: contextlib.ExitStack, unpd: Unpd, listener: int = 0) -> socket.socket:
    """Connect a client of echo that waits for its byte."""
    sock = stack.enter_context(clients.connect(unpd.address("echo", listener)))
    sock.sendall(b"x")
    return sock


def answered(sock: socket.socket) -> bool:
    """Whether an answer has come."""
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(10.0)


def test_one_client_is_served_at_a_time(launch: Launch) -> None:
    """Whichever of the listeners it comes through, the next client is served soon after
    the one before has gone. The others wait in the queues, where the metrics show them;
    the worker rests meanwhile, and another service has a worker of its own.
    """
    unpd = launch(
        ECHO + '[services.other]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:0"]\n'
        'model = "iterative"\n'
    )
    assert len(unpd.children(ChildKind.ITERATIVE)) == 2
    assert not unpd.workers(), "no service of the pool has the model event"
    with contextlib.ExitStack() as stack:
        (first,) = served(stack, unpd.address("echo"))
        socks = [waiting(stack, unpd, number % 2) for number in range(4)]
        unpd.metric_becomes(4, "unpd_listen_queue_length", service="echo")
        served(stack, unpd.address("other"))
        used_s = sum(procs.cpu_s(pid) for pid in unpd.children(ChildKind.ITERATIVE))
        holds(lambda: not any(map(answered, socks)), 0.5, "two clients were served at once")
        assert sum(map(procs.cpu_s, unpd.children(ChildKind.ITERATIVE))) - used_s < 0.2
        greet(first)
        first.close()
        while socks:
            until(lambda: any(map(answered, socks)), RESUMED_S, "the next client to be served")
            (lucky,) = [sock for sock in socks if answered(sock)]
            assert service_counts(unpd).active <= 1
            clients.read_exactly(lucky, 1)
            lucky.close()
            socks.remove(lucky)
    assert wait_ended(unpd, {"client_fin": 5}).received == 6


@pytest.mark.slow
def test_a_service_that_nothing_serves_is_not_ready(launch: Launch) -> None:
    """While the worker of one service is gone, /readyz, the status and the log name
    that service, though the worker of another one in the pool is ready.
    """
    unpd = launch(
        ECHO + '[services.other]\ntype = "echo"\nlisten = ["tcp://127.0.0.1:0"]\n'
        'model = "iterative"\n'
    )

    def not_ready() -> tuple[bytes, ...]:
        children = unpd.children(ChildKind.ITERATIVE)
        procs.kill(pid for pid in children if " other " in procs.title(pid))
        shown = unpd.run("status", "--control", str(unpd.control)).stdout
        answer = unpd.get("/readyz")
        both = answer.status == 503 and b"no ready iterative worker" in shown
        return (answer.body, shown) if both else ()

    body, shown = until(not_ready, 20.0, "503, and a degraded status")
    assert body == b"no ready worker for service other\n"
    assert b"degraded: service other has no ready iterative worker\n" in shown
    assert re.search(rb"\niterative +echo +[0-9]+ +ready ", shown)
    assert {event.fields["service"] for event in unpd.log_events("iterative.died")} == {"other"}
    until(lambda: unpd.get("/readyz").status == 200, 20.0, "200 again")


@pytest.mark.slow
def test_a_silent_client_does_not_hold_the_others_up_for_ever(launch: Launch) -> None:
    """Its deadline ends it, and the next one is served."""
    unpd = launch(f"{ECHO}idle_timeout_s = {IDLE_S}\nsession_timeout_s = 1.5\n")
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        silent = stack.enter_context(clients.connect(unpd.address("echo")))
        wait_active(unpd, 1)
        late = waiting(stack, unpd)
        assert clients.read_all(silent) == b""
        assert time.monotonic() - began >= IDLE_S
        silent.close()
        assert clients.read_exactly(late, 1) == b"x"
        assert clients.send_slowly(late, bytes(1000), 0.05) < 1000
    wait_ended(unpd, {"idle": 1, "session_limit": 1})


def test_a_reload_hands_the_queue_to_the_next_generation(launch: Launch) -> None:
    """The old worker goes on with its client alone; those who waited are served by the
    new one, one at a time. Nobody is refused or reset.
    """
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        (first,) = served(stack, unpd.address("echo"))
        socks = [waiting(stack, unpd, number % 2) for number in range(4)]
        (old,) = unpd.children(ChildKind.ITERATIVE)
        reload(unpd, every_pool=True)
        until(lambda: " draining" in procs.title(old), 10.0, "the old worker to drain")
        until(lambda: any(map(answered, socks)), 10.0, "a client of the new generation")
        holds(lambda: sum(map(answered, socks)) == 1, 0.3, "two clients were served at once")
        greet(first)
        while socks:
            until(lambda: any(map(answered, socks)), 10.0, "the next client to be served")
            (lucky,) = [sock for sock in socks if answered(sock)]
            lucky.shutdown(socket.SHUT_WR)
            assert clients.read_all(lucky) == b"x"
            socks.remove(lucky)
            lucky.close()
        greet(first)
        assert procs.alive(old)
    until(lambda: not procs.alive(old), 10.0, "the old worker to leave")
    wait_ended(unpd, {"client_fin": 5})


@pytest.mark.slow
def test_reloads_under_load_refuse_and_reset_nobody(launch: Launch) -> None:
    """Though each client waits for the one before it."""
    unpd = launch(ECHO)
    with loads.running(unpd.address("echo"), rate=300, concurrency=128) as load:
        for _ in range(3):
            reload(unpd, every_pool=True)
            load.more(30)
        said = load.stop()
    said.assert_clean(at_least=90)
    wait_ended(unpd, {"client_fin": said.ok})


def test_a_stop_with_waiting_clients(launch: Launch) -> None:
    """The client that is served gets its end in peace. Those who wait were never
    accepted: the kernel ends them as it closes the listener, and the stop is quick.
    """
    unpd = launch(f"[daemon]\ngrace_s = 20\n{ECHO}")
    with contextlib.ExitStack() as stack:
        (first,) = served(stack, unpd.address("echo"))
        late = waiting(stack, unpd)
        began = time.monotonic()
        unpd.signal(SIGTERM)
        assert clients.read_all(first) == b""
        assert not works(late)
        first.close()
        assert unpd.wait_exit() == 0
        assert time.monotonic() - began < 15
    (ended,) = unpd.log_events("connection.ended")
    assert ended.fields["cause"] == "shutdown"
