"""``unpd connections`` lists the open connections of all kinds of children, page by
page; ``unpd kick`` ends them.
"""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from tests.support import clients
from tests.support.counts import wait_active, wait_ended
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, reload
from tests.support.programs import (
    TELL_PID,
    begun,
    gone,
    kill_launcher,
    launcher,
    service,
)
from tests.support.waiting import until
from unpd.cli.connections_text import _KEYS
from unpd.control.answer_fields import SCHEMA
from unpd.control.client_fields import CONNECTION
from unpd.control.client_verbs import SORT_KEYS
from unpd.names import ChildKind

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0", "unix://{}"]\n'
FORK = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\nmodel = "fork"\n'


def listed(unpd: Unpd, *words: str) -> list[dict[str, Any]]:
    """The connections that the command lists."""
    done = unpd.run("connections", "--json", "--control", str(unpd.control), *words)
    assert (done.returncode, done.stderr) == (0, b"")
    told = json.loads(done.stdout)
    assert told["silent"] == []
    found: list[dict[str, Any]] = told["connections"]
    assert all(set(one) == {field.name for field in CONNECTION} for one in found)
    return found


def served(stack: contextlib.ExitStack, unpd: Unpd, count: int) -> list[socket.socket]:
    """Connect clients of echo, each of which has got two bytes back."""
    socks = [stack.enter_context(clients.connect(unpd.address("echo"))) for _ in range(count)]
    for sock in socks:
        sock.sendall(b"xy")
        assert clients.read_exactly(sock, 2) == b"xy"
    return socks


def peer(sock: socket.socket) -> str:
    """The address of a client as the list has it."""
    host, port = sock.getsockname()
    return f"{host}:{port}"


def test_a_connection_is_listed_with_what_is_known_of_it(launch: Launch, tmp_path: Path) -> None:
    """Over TCP the kernel knows the way to the client, too; over UNIX not."""
    unpd = launch(ECHO.format(tmp_path / "echo.sock"))
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd, 1)
        (one,) = listed(unpd)
        (pid,) = [pid for pid in unpd.workers() if pid == one["pid"]]
        assert (one["service"], one["peer"], one["state"]) == ("echo", peer(sock), "serving")
        assert one["local"] == f"127.0.0.1:{unpd.port('echo')}"
        assert (one["received"], one["sent"], one["retransmits"]) == (2, 2, 0)
        assert 0 < one["rtt_s"] < 1
        assert 0 <= one["age_s"] < 20
        assert (one["kind"], one["pool"], one["target"]) == ("worker", "default", None)
        assert one["pid"] == pid
        with clients.connect(str(tmp_path / "echo.sock")):
            wait_active(unpd, 2)
            (unix,) = [each for each in listed(unpd) if each["peer"] == "unix"]
            assert (unix["rtt_s"], unix["retransmits"]) == (None, None)
    wait_active(unpd, 0)
    assert listed(unpd) == []
    assert unpd.run("connections", "--control", str(unpd.control)).stdout == (
        b"no connection is open\n"
    )


def test_filters_leave_the_others_out(launch: Launch) -> None:
    """Of other services, of clients elsewhere, and those that are too young. A kick
    spares these, too.
    """
    unpd = launch(FORK.replace("fork", "event") + '[services.discard]\nlisten = ["tcp://[::1]:0"]')
    with contextlib.ExitStack() as stack:
        first, second = served(stack, unpd, 2)
        discard = stack.enter_context(clients.connect(unpd.address("discard")))
        wait_active(unpd, 1, service="discard")
        assert len(listed(unpd)) == 3
        assert [one["service"] for one in listed(unpd, "--service", "discard")] == ["discard"]
        assert {one["peer"] for one in listed(unpd, "--peer", "127.0.0.0/8")} == {
            peer(first),
            peer(second),
        }
        assert [one["service"] for one in listed(unpd, "--peer", "::1")] == ["discard"]
        assert listed(unpd, "--older", "1h") == []
        until(lambda: len(listed(unpd, "--older", "1s")) == 3, 10.0, "all three to be older")
        assert discard.fileno() >= 0
        came_at = time.monotonic()
        (young,) = served(stack, unpd, 1)
        ended = ask(unpd.control, verb="kick", older="1s")["kicked"]
        if time.monotonic() - came_at < 1.0:  # else it may be as old as the others
            assert ended == 3
            assert [one["peer"] for one in listed(unpd)] == [peer(young)]
        for old in (first, second, discard):
            with pytest.raises(ConnectionResetError):
                old.recv(1)
        unpd.wait_event("connections.kicked", older_s=1, ended=ended)


def test_sessions_and_programs_are_listed_with_their_processes(launch: Launch) -> None:
    """Also those whose dispatcher has died: the next one has them."""
    unpd = launch(FORK + service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        served(stack, unpd, 2)
        _, program = begun(stack, unpd.address("cat"))
        sessions = unpd.sessions("echo")
        found = listed(unpd, "--sort", "child")
        kinds = [ChildKind.DISPATCHER, ChildKind.DISPATCHER, ChildKind.LAUNCHER]
        assert [one["kind"] for one in found] == kinds
        assert sorted(one["pid"] for one in found) == sorted([*sessions, program])
        (dispatcher,) = unpd.children(ChildKind.DISPATCHER)
        os.kill(dispatcher, SIGKILL)
        unpd.wait_event("dispatcher.ready", after=1)
        assert sorted(one["pid"] for one in listed(unpd, "--service", "echo")) == sorted(sessions)


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_named(launch: Launch) -> None:
    """The others are listed, and the master serves requests meanwhile."""
    unpd = launch(FORK.replace("fork", "event") + "[pools.default]\nworkers = 2\n")
    with contextlib.ExitStack() as stack:
        served(stack, unpd, 8)
        silent = unpd.workers()[0]
        os.kill(silent, SIGSTOP)
        try:
            done = unpd.run("connections", "--json", "--control", str(unpd.control))
        finally:
            os.kill(silent, SIGCONT)
        told = json.loads(done.stdout)
        assert {one["pid"] for one in told["connections"]} <= {unpd.workers()[1]}
        (name,) = told["silent"]
        assert name == f"worker default/0 (pid {silent})"
        complaint = f"unpd: {name} did not answer: its connections are not listed\n"
        assert (done.returncode, done.stderr.decode()) == (1, complaint)
        assert len(listed(unpd)) == 8


@pytest.mark.slow
def test_many_connections_come_in_pages(launch: Launch) -> None:
    """Each once, also while a reload retires the workers that have them."""
    unpd = launch(FORK.replace("fork", "event") + "[pools.default]\nworkers = 3\n")
    with contextlib.ExitStack() as stack:
        socks = served(stack, unpd, 700)
        wanted = sorted(map(peer, socks))
        assert sorted(one["peer"] for one in listed(unpd)) == wanted
        reload(unpd, unpd.config_path.read_text().replace("workers = 3", "workers = 2"))
        assert sorted(one["peer"] for one in listed(unpd)) == wanted


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--service", "nothing"), 'the daemon has no service "nothing"'),
        (("--peer", "192.0.2.1/24"), "192.0.2.0/24"),
        (("--older", "1"), '"1" has no unit'),
        (("--sort", "colour"), "is no key: write one of service, peer, age"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    launch: Launch, words: tuple[str, ...], sentence: str
) -> None:
    """In one sentence that says what would be right."""
    unpd = launch(FORK)
    done = unpd.run("connections", "--control", str(unpd.control), *words)
    assert done.returncode == 2
    assert sentence in done.stderr.decode().splitlines()[-1]


def test_the_table_is_one_for_people(launch: Launch) -> None:
    """Sorted by a key, the greatest number first."""
    unpd = launch(FORK.replace("fork", "event"))
    with contextlib.ExitStack() as stack:
        quiet, busy = served(stack, unpd, 2)
        busy.sendall(b"z" * 100)
        clients.read_exactly(busy, 100)
        done = unpd.run("connections", "--sort", "sent", "--control", str(unpd.control))
        header, *lines = done.stdout.decode().splitlines()
        names = ["SERVICE", "PEER", "LOCAL", "AGE", "RECEIVED", "SENT", "RTT", "RETRANSMITS"]
        assert header.split() == [*names, "STATE", "CHILD", "PID"]
        assert [line.split()[1] for line in lines] == [peer(busy), peer(quiet)]


# --- kick -----------------------------------------------------------------------------


def kicked(unpd: Unpd, *words: str) -> str:
    """What the command says."""
    done = unpd.run("kick", "--control", str(unpd.control), *words)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@pytest.mark.parametrize("model", ["event", "fork", "iterative"])
def test_a_kick_ends_the_connections_of_a_selection(launch: Launch, model: str) -> None:
    """Their clients get a reset, others stay, and the cause is counted. A dry run only
    counts.
    """
    text = FORK.replace("fork", model) + '[services.discard]\nlisten = ["tcp://127.0.0.1:0"]\n'
    unpd = launch(text)
    with contextlib.ExitStack() as stack:
        (sock,) = served(stack, unpd, 1)
        other = stack.enter_context(clients.connect(unpd.address("discard")))
        wait_active(unpd, 1, service="discard")
        assert kicked(unpd, "--service", "echo", "--dry-run") == "1 connection would end\n"
        told = json.loads(kicked(unpd, "--service", "echo", "--dry-run", "--json"))
        assert told == {"schema": SCHEMA, "kicked": 1, "silent": 0}
        assert kicked(unpd, "--service", "echo", "--older", "1h") == "0 connections ended\n"
        assert kicked(unpd, "--peer", "192.0.2.0/24") == "0 connections ended\n"
        wait_active(unpd, 1)
        assert kicked(unpd, "--service", "echo", "--peer", "127.0.0.1") == "1 connection ended\n"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        wait_ended(unpd, {"kicked": 1})
        other.sendall(b"x")
        wait_active(unpd, 1, service="discard")
        event = unpd.wait_event("connections.kicked", after=2)
        shown = {key: event.fields[key] for key in ("service", "network", "ended", "silent")}
        assert shown == {"service": "echo", "network": "127.0.0.1", "ended": 1, "silent": 0}
        assert len(unpd.log_events("connections.kicked")) == 3, "a dry run has no line"


def test_a_kick_ends_programs(launch: Launch) -> None:
    """Also those whose launcher has died; their end has the same cause."""
    unpd = launch(service("cat", *TELL_PID))
    with contextlib.ExitStack() as stack:
        _, pid = begun(stack, unpd.address("cat"))
        kill_launcher(unpd, launcher(unpd))
        assert kicked(unpd, "--all") == "1 connection ended\n"
        gone(pid)
        unpd.metric_becomes(1, "unpd_connections_ended_total", service="cat", cause="kicked")


def test_a_kick_names_what_it_ends(launch: Launch) -> None:
    """Every connection only if that is asked for, and none of a service that there is
    not. Both are wrong usage.
    """
    unpd = launch(FORK)
    no_service = 'unpd: the daemon has no service "dog"; it has "echo"'
    for words, complaint in (
        ((), "unpd kick: error: name what to end, by --service, --peer or --older; --all ends"),
        (("--service", "dog"), no_service),
    ):
        done = unpd.run("kick", *words, "--control", str(unpd.control))
        assert done.returncode == 2
        assert done.stderr.decode().splitlines()[-1].startswith(complaint)


# --- tables ---------------------------------------------------------------------------


def test_each_sort_key_has_its_function() -> None:
    """And no other."""
    assert tuple(_KEYS) == SORT_KEYS
