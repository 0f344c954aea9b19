"""``unpd events`` shows what happened to the daemon lately, and follows it line by
line; a peer that does not read holds nobody up.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGUSR1
from typing import Any

import pytest

from tests.support.daemon import COMMAND, Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, refused_reload, reload, send_request
from tests.support.waiting import until
from unpd.control import server
from unpd.control.callers import Callers
from unpd.control.client import BrokenOffError, ControlClient
from unpd.control.protocol import Request, encode_answer
from unpd.control.server import ControlServer, Parts, PendingRequest
from unpd.control.view_fields import EVENT
from unpd.loop import Loop

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'


def shown(unpd: Unpd) -> list[dict[str, Any]]:
    """The events that the command shows."""
    done = unpd.run("events", "--json", "--control", str(unpd.control))
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


def named(name: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of that name."""
    return [event for event in events if event["event"] == name]


def test_what_happened_is_shown_with_its_fields(launch: Launch) -> None:
    """From the start on, those of level debug too, and a reload that was refused."""
    unpd = launch(ECHO)
    worker = unpd.workers()[0]
    os.kill(worker, SIGKILL)
    until(lambda: len(unpd.workers()) == 2 and worker not in unpd.workers(), 10.0, "the respawn")
    generation = reload(unpd)
    refused_reload(unpd, f"{ECHO}colour = 1\n")
    events = shown(unpd)
    assert all(set(event) == {"schema", *(field.name for field in EVENT)} for event in events)
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    names = [event["event"] for event in events]
    assert names.index("master.started") < names.index("child.spawned")
    assert names.index("worker.ready") < names.index("reload.succeeded")
    (reaped,) = (event["fields"] for event in named("child.reaped", events))
    assert (reaped["pid"], reaped["ended"]) == (worker, "killed by SIGKILL")
    (refused,) = named("reload.refused", events)
    assert (refused["level"], refused["fields"]["generation"]) == ("error", generation)
    assert "services.echo.colour" in refused["fields"]["reason"]
    text = unpd.run("events", "--control", str(unpd.control)).stdout.decode().splitlines()
    (line,) = [line for line in text if " child.reaped " in line]
    assert f'pid={worker} reason=sigkill ended="killed by SIGKILL"' in line


@pytest.mark.slow
def test_a_fault_is_shown_when_it_begins_and_when_it_is_over(launch: Launch, public: Path) -> None:
    """Here that no line reaches the log file, which the events do not need."""
    path = public / "unpd.log"
    unpd = launch(f'[log]\nfile = "{path}"\n{ECHO}')
    path.rename(public / "unpd.log.1")
    (began,) = until(lambda: named("daemon.degraded", shown(unpd)), 20.0, "the fault")
    assert (began["level"], began["fields"]["reason"]) == ("warning", "log_file_lost")
    assert str(path) in began["fields"]["text"]
    text = unpd.run("events", "--control", str(unpd.control)).stdout.decode()
    assert " warning daemon.degraded reason=log_file_lost text=" in text
    unpd.signal(SIGUSR1)
    (over,) = until(lambda: named("daemon.recovered", shown(unpd)), 20.0, "the end of it")
    assert over["fields"]["reason"] == "log_file_lost"


def test_events_are_followed_until_the_daemon_ends(launch: Launch) -> None:
    """Only those from now on; the command ends with success after the last."""
    unpd = launch(ECHO)
    command = [*COMMAND, "events", "--follow", "--json", "--control", str(unpd.control)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        os.set_blocking(following.stdout.fileno(), False)
        found = bytearray()

        def told() -> bool:
            reload(unpd)
            found.extend(following.stdout.read() or b"")  # type: ignore[union-attr]
            return b"reload.succeeded" in found

        until(told, 20.0, "an event of the reload")
        assert unpd.stop() == 0
        os.set_blocking(following.stdout.fileno(), True)
        rest, complaint = following.communicate()
    events = [json.loads(line) for line in bytes(found + rest).splitlines()]
    names = [event["event"] for event in events]
    assert "master.started" not in names
    assert names.index("reload.succeeded") < names.index("master.stopping")
    assert names.index("master.stopping") < names.index("child.reaped")
    assert names[-1] == "master.stopped"
    assert (following.returncode, complaint) == (0, b"")


def test_too_many_followers_leave_room_for_others(launch: Launch) -> None:
    """One more is refused with a sentence; when one has gone, there is room again."""
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        followers = [
            stack.enter_context(
                contextlib.closing(send_request(unpd.control, verb="events", follow=True))
            )
            for _ in range(8)
        ]
        for sock in followers:
            assert json.loads(sock.recv(4096))["more"] is True
        refused = ask(unpd.control, verb="events")
        assert refused["reason"] == "8 commands show events already: end one, or try again later"
        assert ask(unpd.control, verb="status")["ok"] is True
        followers[0].close()
        until(lambda: ask(unpd.control, verb="events")["ok"], 10.0, "room for another")


class Numbers:
    """Parts of an answer that never end."""

    def __init__(self) -> None:
        self.asked = 0

    def next(self) -> dict[str, Any] | None:
        """A line that is long."""
        self.asked += 1
        return {"ok": True, "more": True, "number": self.asked, "text": "x" * 10_000}

    def last(self) -> dict[str, Any]:
        """A short line."""
        return {"ok": True, "more": False}


class Quiet(Numbers):
    """Parts that have one line, and then nothing new."""

    def next(self) -> dict[str, Any] | None:
        """The first line."""
        self.asked += 1
        return {"ok": True, "more": True} if self.asked == 1 else None


@dataclass(frozen=True, slots=True)
class Following:
    """A control server on its loop, and a peer that has asked. ``end`` closes both."""

    loop: Loop
    control: ControlServer
    peer: socket.socket
    end: contextlib.ExitStack


@contextlib.contextmanager
def following(path: Path, parts: Parts) -> Iterator[Following]:
    """A control server that answers with these parts, and a peer that has asked."""

    def answer(control: ControlServer, pending: PendingRequest) -> None:
        control.answer_in_parts(pending.number, parts)

    loop = Loop()
    callers = Callers(children_uid=-1, path=str(path))
    control = ControlServer(callers, loop, answer, lambda *_: None)
    with send_request(path, verb="events", follow=True) as peer, contextlib.ExitStack() as end:
        end.callback(control.farewell)
        end.callback(control.close)
        for _ in range(3):
            loop.turn(0.1)
        yield Following(loop, control, peer, end)


def test_a_peer_that_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for no more lines than the kernel takes, and has a bounded time."""
    parts = Numbers()
    with following(tmp_path / "control.sock", parts) as it:
        control = it.control
        for _ in range(500):
            it.loop.turn(0.0)
            control.go_on()
        asked = parts.asked
        assert 2 < asked < 200
        assert control.expire() == []
        monkeypatch.setattr(server, "now", lambda: server.PEER_TIMEOUT_S + 1e9)
        (cut_off,) = control.expire()
        assert (cut_off.pid, control.followers) == (os.getpid(), 0)
        assert parts.asked == asked


def test_a_peer_that_reads_gets_every_line(tmp_path: Path) -> None:
    """One after the other, without the master's waiting for it."""
    parts = Numbers()
    with following(tmp_path / "control.sock", parts) as it:
        found = b""
        while found.count(b"\n") < 60:
            it.loop.turn(0.1)
            with contextlib.suppress(BlockingIOError):
                found += it.peer.recv(1 << 20, socket.MSG_DONTWAIT)
        lines = [json.loads(line) for line in found.split(b"\n")[:60]]
        assert [line["number"] for line in lines] == list(range(1, 61))


def test_a_peer_that_leaves_is_forgotten(tmp_path: Path) -> None:
    """Also while there is nothing new to tell it."""
    with following(tmp_path / "control.sock", Quiet()) as it:
        it.control.go_on()
        assert it.control.followers == 1
        it.peer.close()
        for _ in range(3):
            it.loop.turn(0.1)
        assert it.control.followers == 0


def test_a_follower_gets_the_last_line_when_the_daemon_ends(tmp_path: Path) -> None:
    """So it knows that nothing was broken off."""
    with following(tmp_path / "control.sock", Quiet()) as it:
        it.end.close()
        with it.peer.makefile("rb") as lines:
            assert [json.loads(line)["more"] for line in lines] == [True, False]


def test_an_answer_without_its_last_line_was_broken_off(tmp_path: Path) -> None:
    """The command fails, and says what may be the cause."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        client = ControlClient(path)
        with listener.accept()[0] as daemon:
            daemon.sendall(encode_answer(ok=True, more=True))
        with contextlib.closing(client):
            lines = client.ask_in_parts(Request("events"))
            assert next(lines)["more"] is True
            with pytest.raises(BrokenOffError, match=r"^unpd broke its answer off: it has ended"):
                next(lines)
