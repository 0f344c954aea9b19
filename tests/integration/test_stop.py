"""The stop: graceful within ``grace_s``, quick, or graceful and then quick. The exit
code is always 0 and nothing is left.
"""

import contextlib
import socket
import time
from signal import SIGINT, SIGQUIT, SIGTERM, Signals

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload_behind_a_stop
from tests.support.waiting import until

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

AIR_S = 2.0
"""What a busy machine may add to a bound."""


def established(unpd: Unpd, count: int) -> None:
    """Wait until the workers have accepted ``count`` connections."""
    unpd.metric_becomes(count, "unpd_connections_accepted_total", service="echo")


def ended(unpd: Unpd) -> list[str]:
    """Return the causes of ended connections, by the log."""
    return [event.fields["cause"] for event in unpd.log_events("connection.ended")]


def hold_on(deaf: socket.socket) -> None:
    """Send to an echo without reading, until its worker holds unsent data and the
    kernel's queues are full.
    """
    limit = 64 << 20
    assert clients.send_until_blocked(deaf, limit, stall_s=0.3) < limit


def test_a_conversation_is_finished_at_a_graceful_stop(launch: Launch) -> None:
    """A graceful stop lets echo clients finish, in every state of a conversation. Each
    gets all its bytes and a FIN. The exit code is 0.
    """
    unpd = launch(ECHO)
    data = b"in the middle " * 4000
    with (
        clients.connect(unpd.address("echo")) as quiet,
        clients.connect(unpd.address("echo")) as busy,
        clients.connect(unpd.address("echo")) as half,
    ):
        quiet.sendall(b"hello")
        assert clients.read_exactly(quiet, 5) == b"hello"
        established(unpd, 3)
        busy.sendall(data)
        half.sendall(b"half")
        unpd.signal(SIGTERM)
        unpd.wait_event("master.stopping", quick=False)
        half.sendall(b"-closed")
        half.shutdown(1)
        assert clients.read_all(half) == b"half-closed"
        assert clients.read_all(busy) == data
        assert clients.read_all(quiet) == b""
    assert unpd.wait_exit() == 0
    assert sorted(ended(unpd)) == ["client_fin", "shutdown", "shutdown"]
    assert unpd.log_events("master.stopped", code=0)


def test_a_short_grace_is_long_enough(launch: Launch) -> None:
    """A short grace is enough for clients that hold on: idle, after the server's FIN,
    or in the middle of a scrape. No child is killed at its end.
    """
    grace_s = 1.0
    unpd = launch(
        f"[daemon]\ngrace_s = {grace_s}\n"
        + ECHO
        + '[services.daytime]\nlisten = ["tcp://127.0.0.1:0"]\n'
    )
    with contextlib.ExitStack() as stack:
        for service in ("echo", "daytime"):
            stack.enter_context(clients.connect(unpd.address(service)))
            unpd.metric_becomes(1, "unpd_connections_accepted_total", service=service)
        scraper = stack.enter_context(clients.connect(("127.0.0.1", unpd.port("metrics"))))
        scraper.sendall(b"GET /metrics HTTP/1.1\r\n")
        began = time.monotonic()
        unpd.signal(SIGTERM)
        assert unpd.wait_exit() == 0
        assert time.monotonic() - began < grace_s + AIR_S
    assert not unpd.log_events("worker.drain_timed_out")
    assert not unpd.log_events("exporter.drain_timed_out")
    assert sorted(ended(unpd)) == ["done", "shutdown"]


def test_a_graceful_stop_ends_within_its_grace(launch: Launch) -> None:
    """Clients that hold on (idle, never closing, never reading) do not extend a stop
    beyond ``grace_s``.
    """
    grace_s = 1.0
    unpd = launch(f"[daemon]\ngrace_s = {grace_s}\n" + ECHO)
    with (
        clients.idle(unpd.address("echo"), 20),
        clients.connect(unpd.address("echo"), receive_buffer=1) as deaf,
    ):
        established(unpd, 21)
        hold_on(deaf)
        began = time.monotonic()
        unpd.signal(SIGTERM)
        assert unpd.wait_exit() == 0
        assert time.monotonic() - began < grace_s + AIR_S
    assert ended(unpd) == ["shutdown"] * 21
    assert not unpd.log_events("worker.drain_timed_out")


def test_a_stopped_worker_is_killed_in_time(launch: Launch) -> None:
    """A worker that stands still is killed before ``grace_s`` is over, with a warning.
    The exit code is still 0.
    """
    grace_s = 1.0
    unpd = launch(f"[daemon]\ngrace_s = {grace_s}\n" + ECHO)
    with procs.stopped(unpd.workers()[:1]):
        began = time.monotonic()
        assert unpd.stop() == 0
        assert time.monotonic() - began < grace_s + AIR_S
    assert len(unpd.log_events("worker.drain_timed_out", level="warning")) == 1
    assert unpd.log_events("child.reaped", reason="sigkill")


@pytest.mark.parametrize("number", [SIGINT, SIGQUIT])
def test_a_quick_stop_does_not_wait(launch: Launch, number: Signals) -> None:
    """INT and QUIT end every connection at once, whatever ``grace_s`` is."""
    unpd = launch("[daemon]\ngrace_s = 60\n" + ECHO)
    with clients.idle(unpd.address("echo"), 10) as held:
        established(unpd, 10)
        assert unpd.stop(number, timeout_s=10.0) == 0
        assert [clients.read_all(sock) for sock in held] == [b""] * 10
    assert ended(unpd) == ["shutdown"] * 10
    assert unpd.log_events("master.stopping", quick=True, by=number.name)


def test_a_second_signal_makes_a_graceful_stop_quick(launch: Launch) -> None:
    """A second TERM does not change a graceful stop. INT ends it at once."""
    unpd = launch("[daemon]\ngrace_s = 60\n" + ECHO)
    with clients.connect(unpd.address("echo"), receive_buffer=1) as deaf:
        hold_on(deaf)
        unpd.signal(SIGTERM)
        until(
            lambda: all(" draining," in procs.title(pid) for pid in unpd.workers()),
            10.0,
            "all workers to drain",
        )
        unpd.signal(SIGTERM)
        until(lambda: len(unpd.workers()) == 1, 10.0, "the idle worker to leave")
        assert procs.alive(unpd.pid)
        assert unpd.stop(SIGINT, timeout_s=10.0) == 0
    assert [event.fields["quick"] for event in unpd.log_events("master.stopping")] == [False, True]


def test_no_client_is_accepted_during_a_stop(launch: Launch) -> None:
    """During a stop new connections are refused, while open ones are finished and the
    exporter still answers.
    """
    unpd = launch("[daemon]\ngrace_s = 60\n" + ECHO)
    with clients.connect(unpd.address("echo"), receive_buffer=1) as deaf:
        hold_on(deaf)
        unpd.signal(SIGTERM)
        until(lambda: len(unpd.workers()) == 1, 10.0, "the idle worker to leave")

        def refused() -> bool:
            try:
                clients.connect(unpd.address("echo")).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused, 10.0, "new connections to be refused")
        answer = unpd.get("/readyz")
        assert (answer.status, answer.body) == (503, b"stopping\n")
        assert unpd.get("/healthz").status == 200
        clients.reset(deaf)
        assert unpd.wait_exit() == 0


def test_a_reload_that_meets_a_stop_gets_its_answer(launch: Launch) -> None:
    """A reload request to a stopping daemon is answered with a refusal."""
    unpd = launch(ECHO)
    answer = reload_behind_a_stop(unpd)
    assert answer["ok"] is False
    assert "stopping" in answer["reason"]
    assert unpd.wait_exit() == 0


def test_the_stop_command_returns_when_the_daemon_is_gone(launch: Launch) -> None:
    """``unpd stop`` waits for the end of the process. A second one fails with a
    sentence, because no daemon runs.
    """
    unpd = launch(ECHO)
    stop = ("stop", "--control", str(unpd.control))
    done = unpd.run(*stop)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"stopped\n", b"")
    assert not procs.alive(unpd.pid)
    assert unpd.wait_exit() == 0
    again = unpd.run(*stop)
    assert again.returncode == 1
    assert again.stderr.decode() == (
        "unpd: unpd is not running, or its control socket is another one: no process listens on"
        f" {unpd.control}\n"
    )


def test_the_quick_stop_command_does_not_wait(launch: Launch) -> None:
    """``unpd stop --quick`` ends open connections at once, also during a graceful
    stop.
    """
    unpd = launch("[daemon]\ngrace_s = 60\n" + ECHO)
    with clients.connect(unpd.address("echo"), receive_buffer=1) as deaf:
        hold_on(deaf)
        unpd.signal(SIGTERM)
        unpd.wait_event("master.stopping", quick=False)
        assert (
            unpd.run(
                "stop", "--quick", "--config", str(unpd.config_path), timeout_s=10.0
            ).returncode
            == 0
        )
    assert unpd.wait_exit() == 0
