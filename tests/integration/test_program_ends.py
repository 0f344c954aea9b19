"""Programs (type exec): how they end, and what is known of it. By themselves, after
their time, at a stop, when their client is denied, and when they outlive it.
"""

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM
from typing import Any

import pytest

from tests.support import clients, procs
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.programs import (
    PATIENCE_S,
    TELL_PID,
    begun,
    ended,
    executable,
    gone,
    kill_launcher,
    launcher,
    read_line,
    service,
    shell,
)
from tests.support.waiting import holds, until

STUBBORN = shell('trap "" TERM; echo $$; while :; do sleep 1; done')
"""Ignores SIGTERM."""
POLITE = shell(
    'exec 2>/dev/null; trap "echo bye; exit 7" TERM; echo $$; while :; do sleep 0.05; done'
)
"""Says goodbye at SIGTERM."""
PAIR = shell(
    """exec 2>/dev/null
    (trap "echo child bye; exit" TERM; echo child waits; while :; do sleep 0.05; done) &
    trap "wait; wait; echo parent bye; exit" TERM; echo parent waits; wait"""
)
"""Two processes that say goodbye at SIGTERM, the first one first."""


# --- by themselves --------------------------------------------------------------------


def test_a_failure_is_logged_with_its_last_words(launch: Launch) -> None:
    """The exit report, the peer, the duration and the last line of standard error; the
    client gets what the program wrote before.
    """
    unpd = launch(
        service("bad", *shell("echo out; echo one >&2; printf two >&2; exit 3"), stderr="log")
    )
    with clients.connect(unpd.address("bad")) as sock:
        peer = f"127.0.0.1:{sock.getsockname()[1]}"
        assert clients.read_all(sock) == b"out\n"
    event = unpd.wait_event("program.failed", service="bad")
    assert {"peer": peer, "ended": "exit code 3", "result": "failed", "last_line": "two"} == {
        key: event.fields[key] for key in ("peer", "ended", "result", "last_line")
    }
    assert 0 <= event.fields["duration_s"] < PATIENCE_S
    lines = [
        (one.fields["session_pid"], one.fields["text"]) for one in unpd.log_events("program.stderr")
    ]
    assert lines == [(event.fields["session_pid"], text) for text in ("one", "two")]
    ended(unpd, "bad", failed=1)
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="bad", cause="error")


def test_the_last_words_may_be_those_of_a_child(launch: Launch) -> None:
    """As those of a command in a script; they are the program's."""
    unpd = launch(service("bad", *shell("/bin/ls /no/such/file; exit 3"), stderr="log"))
    with clients.connect(unpd.address("bad")) as sock:
        assert clients.read_all(sock) == b""
    event = unpd.wait_event("program.failed", service="bad")
    assert "/no/such/file" in event.fields["last_line"]
    (line,) = unpd.log_events("program.stderr")
    assert line.fields["session_pid"] == event.fields["session_pid"]


def test_a_program_may_shut_down_its_standard_error(launch: Launch, public: Path) -> None:
    """The programs after it have one all the same. That it does not want to wait
    concerns no other, either.
    """
    rude = f"""#!{os.path.realpath(sys.executable)} -IS
import os, socket, sys
print("waits:", os.get_blocking(2), file=sys.stderr, flush=True)
os.set_blocking(2, False)
if sys.stdin.read(1) == "x":
    socket.socket(fileno=2).shutdown(socket.SHUT_RDWR)
"""
    unpd = launch(service("rude", executable(public / "rude", rude), stderr="log"))
    for number, text in enumerate((b"-\n", b"x\n", b"-\n"), start=1):
        with clients.connect(unpd.address("rude")) as sock:
            sock.sendall(text)
            assert clients.read_all(sock) == b""
        unpd.metric_becomes(number, "unpd_programs_ended_total", service="rude", result="ok")
        unpd.wait_event("program.stderr", text="waits: True", after=number - 1)
    assert len(unpd.log_events("program.stderr_renewed", service="rude")) == 1


def test_a_signal_is_told(launch: Launch) -> None:
    """One that unpd did not send is a failure."""
    unpd = launch(service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("cat"))
        os.kill(pid, SIGKILL)
        assert clients.read_all(sock) == b""
    event = unpd.wait_event("program.failed", service="cat", session_pid=pid)
    assert event.fields["ended"] == "killed by SIGKILL"
    ended(unpd, "cat", signal=1)
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="cat", cause="worker_died")


def test_standard_error_goes_to_the_client_by_default(launch: Launch) -> None:
    """In its place among the output."""
    unpd = launch(service("both", *shell("echo out; echo err >&2")))
    assert clients.ask(unpd.address("both")) == b"out\nerr\n"
    assert not unpd.log_events("program.stderr")


# --- their time -----------------------------------------------------------------------


def test_a_program_ends_after_its_time(launch: Launch) -> None:
    """SIGTERM comes after session_timeout_s. The program may say goodbye, and its
    result is timeout however it ends; nothing is logged as a failure.
    """
    unpd = launch(service("polite", *POLITE, session_timeout_s=0.3))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("polite"))
        assert clients.read_all(sock) == b"bye\n"
    gone(pid)
    ended(unpd, "polite", timeout=1)
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="polite", cause="session_limit")
    assert not unpd.log_events("program.failed")


def test_a_program_that_ignores_sigterm_is_killed(launch: Launch) -> None:
    """After kill_after_s, with the rest of its process group."""
    unpd = launch(
        service(
            "stubborn",
            *shell('trap "" TERM; sleep 60 & echo $!; echo $$; wait; wait'),
            session_timeout_s=0.3,
            kill_after_s=0.3,
        )
    )
    with clients.connect(unpd.address("stubborn")) as sock:
        child, pid = int(read_line(sock)), int(read_line(sock))
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert clients.read_all(sock) == b""
        assert time.monotonic() - began >= 0.3
    gone(pid)
    gone(child)
    unpd.wait_event("program.killed", session_pid=pid)
    ended(unpd, "stubborn", timeout=1)


def test_the_rest_of_the_group_goes_with_the_program(launch: Launch) -> None:
    """A program that ends at SIGTERM leaves no grandchild that ignores it."""
    unpd = launch(
        service(
            "parent",
            *shell('(trap "" TERM; while :; do sleep 1; done) & echo $!; echo $$; wait'),
            session_timeout_s=0.3,
            kill_after_s=30,
        )
    )
    with clients.connect(unpd.address("parent")) as sock:
        child, pid = int(read_line(sock)), int(read_line(sock))
        with contextlib.suppress(ConnectionResetError):
            clients.read_all(sock)
    gone(pid)
    gone(child)
    assert not unpd.log_events("program.killed")


# --- stops ----------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"nice": 1}], ids=["spawned", "forked"])
def test_every_process_of_the_group_gets_sigterm(launch: Launch, keys: dict[str, Any]) -> None:
    """Not only the program itself: each says goodbye on its own."""
    unpd = launch(service("pair", *PAIR, **keys))
    with clients.connect(unpd.address("pair")) as sock:
        assert {read_line(sock), read_line(sock)} == {b"child waits", b"parent waits"}
        unpd.signal(SIGTERM)
        assert clients.read_all(sock).splitlines() == [b"child bye", b"parent bye"]
        assert unpd.wait_exit() == 0


@pytest.mark.parametrize("number", [SIGTERM, SIGINT])
def test_a_stop_ends_programs(launch: Launch, number: int) -> None:
    """A graceful and a quick one send SIGTERM to each program."""
    unpd = launch(service("polite", *POLITE) + service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("polite"))
        _, other = begun(stack, unpd.address("cat"))
        unpd.signal(number)  # type: ignore[arg-type]
        assert clients.read_all(sock) == b"bye\n"
        assert unpd.wait_exit() == 0
    for each in (pid, other):
        assert procs.stat(each) is None
    assert not unpd.log_events("program.failed")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "at_least_s"), [(SIGTERM, 0.4), (SIGINT, 0.0)])
def test_a_stop_kills_a_stubborn_program(launch: Launch, number: int, at_least_s: float) -> None:
    """After kill_after_s, but before the stop's own time is over: the launcher itself
    is never killed.
    """
    unpd = launch(
        "[daemon]\ngrace_s = 2\n"
        + service("stubborn", *STUBBORN, kill_after_s=0.4)
        + service("never", *STUBBORN, kill_after_s=60)
    )
    with contextlib.ExitStack() as stack:
        _, pid = begun(stack, unpd.address("stubborn"))
        _, other = begun(stack, unpd.address("never"))
        began = time.monotonic()
        unpd.signal(number)  # type: ignore[arg-type]
        assert unpd.wait_exit() == 0
        assert time.monotonic() - began >= at_least_s
    for each in (pid, other):
        assert procs.stat(each) is None
    (reaped,) = unpd.log_events("child.reaped", kind="launcher")
    assert reaped.fields["reason"] == "clean"


def test_a_kick_ends_programs(launch: Launch) -> None:
    """Those of the denied network only."""
    unpd = launch(service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("cat"))
        spared = stack.enter_context(clients.connect(unpd.address("cat"), source="127.0.0.2"))
        spared_pid = int(read_line(spared))
        denied = unpd.run("deny", "127.0.0.1", "--kick", "--control", str(unpd.control))
        assert denied.returncode == 0
        assert clients.read_all(sock) == b""
        gone(pid)
        assert procs.alive(spared_pid)
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="cat", cause="denied")


# --- clients that go ------------------------------------------------------------------


@pytest.mark.slow
def test_a_program_that_outlives_its_client_ends(launch: Launch) -> None:
    """A second after a reset. It does not look at its client, so it does not notice."""
    unpd = launch(service("blind", *STUBBORN, kill_after_s=0.2))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("blind"))
        clients.reset(sock)
        gone(pid)
    ended(unpd, "blind", signal=1)
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="blind", cause="client_rst")


def test_a_unix_client_that_closes_has_gone(launch: Launch, tmp_path: os.PathLike[str]) -> None:
    """Its program ends too."""
    unpd = launch(service("blind", *POLITE, listen=f"unix://{tmp_path}/blind.sock"))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("blind"))
        sock.close()
        gone(pid)


@pytest.mark.slow
def test_a_half_close_is_no_end(launch: Launch) -> None:
    """A program may answer a client that has said everything, as long as it takes."""
    unpd = launch(service("slow", *shell("echo $$; cat >/dev/null; sleep 2; echo done")))
    with contextlib.ExitStack() as stack:
        sock, _ = begun(stack, unpd.address("slow"))
        sock.shutdown(socket.SHUT_WR)
        assert clients.read_all(sock) == b"done\n"
    ended(unpd, "slow", ok=1)


# --- reloads and launchers ------------------------------------------------------------


def test_a_reload_leaves_running_programs_alone(launch: Launch) -> None:
    """However short reload_grace_s is. New clients get the new program, and the old
    launcher ends with its last one.
    """
    head = "[daemon]\nreload_grace_s = 0.1\n"
    unpd = launch(head + service("cat", *TELL_PID))
    old = launcher(unpd)
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("cat"))
        port = unpd.port("cat")
        text = unpd.config_path.read_text().replace("exec cat", "echo new; exec cat")
        reload(unpd, text)
        holds(lambda: procs.alive(pid), 1.0, "the program to go on")
        sock.sendall(b"x\n")
        assert read_line(sock) == b"x"
        with clients.connect(("127.0.0.1", port)) as fresh:
            read_line(fresh)
            assert read_line(fresh) == b"new"
        assert procs.alive(old)
    gone(old)


@pytest.mark.parametrize(("reloads", "goes_on"), [(8, True), (9, False)])
def test_several_reloads(launch: Launch, reloads: int, goes_on: bool) -> None:
    """The programs of eight earlier launchers go on. A ninth reload makes the oldest of
    these end its programs, as at a stop.
    """
    unpd = launch(service("cat", *TELL_PID, umask="0000"))
    with contextlib.ExitStack() as stack:
        first, pid = begun(stack, unpd.address("cat"))
        others, launchers = [], {launcher(unpd)}
        for number in range(1, reloads + 1):
            text = unpd.config_path.read_text()
            reload(unpd, re.sub(r'umask = "\d+"', f'umask = "{number:04o}"', text))
            until(lambda: launcher(unpd) not in launchers, PATIENCE_S, "another launcher")
            launchers.add(launcher(unpd))
            others.append(begun(stack, unpd.address("cat"))[0])
        if not goes_on:
            assert clients.read_all(first) == b""
            gone(pid)
            unpd.wait_event("launcher.drain_cut")
        for sock in [first, *others] if goes_on else others:
            sock.sendall(b"x\n")
            assert read_line(sock) == b"x"
        assert len(unpd.log_events("launcher.drain_cut")) == (not goes_on)


@pytest.mark.slow
def test_programs_survive_their_launcher(launch: Launch) -> None:
    """The next one counts them, reads their standard error, ends those whose client has
    gone or whose time is over, and knows how each has ended.
    """
    unpd = launch(
        service(
            "told",
            *shell("echo $$; read line; echo $line >&2; exec cat"),
            stderr="log",
        )
        + service("blind", *STUBBORN, kill_after_s=0.2)
        + service("brief", *POLITE, session_timeout_s=2.5)
    )
    with contextlib.ExitStack() as stack:
        told, pid = begun(stack, unpd.address("told"))
        lost, lost_pid = begun(stack, unpd.address("blind"))
        brief, _ = begun(stack, unpd.address("brief"))
        kill_launcher(unpd, launcher(unpd))
        unpd.metric_becomes(1, "unpd_connections_active", service="told")
        told.sendall(b"hello\n")
        unpd.wait_event("program.stderr", session_pid=pid, text="hello")
        clients.reset(lost)
        gone(lost_pid)
        assert clients.read_all(brief) == b"bye\n"
        told.shutdown(socket.SHUT_WR)
        assert clients.read_all(told) == b""
    ended(unpd, "brief", timeout=1)
    ended(unpd, "blind", signal=1)
    ended(unpd, "told", ok=1)
    assert unpd.metric("unpd_program_cpu_seconds_total", service="told") > 0


def test_programs_outlive_a_retired_launcher(launch: Launch) -> None:
    """One that dies while it drains has no successor. Its programs go on; the master
    knows how they end, and a stop ends them.
    """
    unpd = launch(service("cat", *TELL_PID))
    old = launcher(unpd)
    with contextlib.ExitStack() as stack:
        first, _ = begun(stack, unpd.address("cat"))
        second, pid = begun(stack, unpd.address("cat"))
        reload(unpd, unpd.config_path.read_text().replace("exec cat", "echo new; exec cat"))
        until(lambda: "draining" in procs.title(old), PATIENCE_S, "the old launcher to drain")
        os.kill(old, SIGKILL)
        unpd.wait_event("child.reaped", pid=old)
        first.shutdown(socket.SHUT_WR)
        assert clients.read_all(first) == b""
        ended(unpd, "cat", ok=1)
        assert procs.alive(pid)
        assert unpd.stop() == 0
        assert clients.read_all(second) == b""


def test_a_hang_up_of_the_daemon_is_a_reload(launch: Launch) -> None:
    """SIGHUP reaches the master alone: programs have sessions of their own."""
    unpd = launch(service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        _, pid = begun(stack, unpd.address("cat"))
        unpd.signal(SIGHUP)
        unpd.wait_event("reload.succeeded")
        assert procs.alive(pid)
