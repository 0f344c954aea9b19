"""Every verb of the control socket while the daemon reloads, and while it stops."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.support.clients import connect, read_exactly
from tests.support.daemon import Unpd
from tests.support.held import HeldService
from tests.support.launch import Launch
from tests.support.operating import read_answer, reconfigure, send_request, status
from tests.support.waiting import until
from unpd.control.life_verbs import CONDITIONS
from unpd.control.verbs import VERBS
from unpd.master.rounds import ANSWER_S

CONFIG = """
[daemon]
grace_s = 60
[pools.default]
workers = 1
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""
VALUES = {
    "level": "info",
    "network": "192.0.2.7",
    "peer": "192.0.2.7",
    "pool": "default",
    "service": "echo",
    "workers": "2",
}
STOPPING = "the daemon is stopping"
NEEDS_CLIENTS = f"{STOPPING}, and takes no new clients"
NEEDS_PROGRAM = '"echo" is no service of type exec, and has no program'
BUSY = "the daemon is proving: ask again when it is running"
DENIAL = {"denial": {"network": "192.0.2.7", "reason": ""}}
HELD = {"held": True, "why": None, "stopping": False}
NOT_HELD = {"held": False, "why": STOPPING, "stopping": True}
EXPLAINED = {"service": "echo", "peer": "192.0.2.7", "outcome": "admitted"}

Outcome = dict[str, Any] | str
"""The fields of a success, as :func:`agrees` compares them, or the reason of a
refusal.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What comes of a verb during a reload and during a stop. ``more``: arguments
    besides the operands.
    """

    during_reload: Outcome
    during_stop: Outcome
    more: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "stop": Row({}, {}),
    "reload": Row(
        {"preview": {"result": "success", "services_added": ["held"]}}, STOPPING, {"dry_run": True}
    ),
    "status": Row(
        {"status": {"phase": "proving", "generation": 1, "children": list}},
        {"status": {"phase": "stopping", "stop_ends_at": str, "children": list}},
    ),
    "workers": Row({"children": list}, {"children": list}),
    "listeners": Row({"listeners": list}, {"listeners": []}),
    "events": Row({"events": list, "missed": 0}, {"events": list, "missed": 0}),
    "wait ready": Row(HELD, NOT_HELD, {"timeout": "0"}),
    "wait reloaded": Row(
        {"held": False, "why": "a reload is under way", "stopping": False},
        NOT_HELD,
        {"timeout": "0"},
    ),
    "wait drained": Row(HELD, NOT_HELD, {"timeout": "0"}),
    "deny": Row(DENIAL | {"replaced": False}, DENIAL | {"replaced": False}),
    "undeny": Row(DENIAL, DENIAL),
    "denied": Row({"denials": [], "next": None}, {"denials": [], "next": None}),
    "explain": Row(EXPLAINED, EXPLAINED),
    "connections": Row({"connections": list, "silent": None}, {"connections": [], "silent": str}),
    "kick": Row({"kicked": 1, "silent": 1}, {"kicked": 0, "silent": 1}, {"all": True}),
    "pause": Row({"halted": "paused", "was": None}, NEEDS_CLIENTS),
    "resume": Row({"halted": None, "was": "paused"}, NEEDS_CLIENTS),
    "drain": Row({"halted": "draining", "was": None}, NEEDS_CLIENTS),
    "log-level": Row({"level": "info", "silent": []}, {"level": "info", "silent": list}),
    "scale": Row(BUSY, STOPPING),
    "try": Row(NEEDS_PROGRAM, NEEDS_PROGRAM),
}
"""By the verb; that of ``wait`` is followed by the condition."""
AT_ONCE = [name for name in ROWS if name not in ("kick", "stop")]


def told(unpd: Unpd, name: str, *, stopping: bool = False) -> None:
    """Ask, and see that the answer of the table is there in time."""
    row, (verb, _, condition) = ROWS[name], name.partition(" ")
    values = VALUES | {"condition": condition}
    arguments = {
        each.name: values[each.name]
        for each in VERBS[verb].arguments
        if each.operand and not each.optional
    }
    began = time.monotonic()
    with contextlib.closing(send_request(unpd.control, verb=verb, **arguments, **row.more)) as sock:
        answer = read_answer(sock)
    assert time.monotonic() - began < ANSWER_S + 10.0, name
    wanted = row.during_stop if stopping else row.during_reload
    if isinstance(wanted, str):
        wanted = {"ok": False, "reason": wanted}
    assert agrees(answer, {"ok": True} | wanted), (name, answer)


def agrees(value: Any, wanted: Any) -> bool:
    """Whether a value of an answer is as wanted. Of an object, only the wanted fields
    count; a type stands for any value of it that is not empty.
    """
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            name in value and agrees(value[name], each) for name, each in wanted.items()
        )
    if isinstance(wanted, type):
        return isinstance(value, wanted) and bool(value)
    return bool(value == wanted)


@contextlib.contextmanager
def a_client(unpd: Unpd) -> Iterator[socket.socket]:
    """Have one open connection, which a worker serves."""
    with connect(unpd.address("echo")) as sock:
        sock.sendall(b"x")
        assert read_exactly(sock, 1) == b"x"
        yield sock


def test_the_table_has_every_verb() -> None:
    """And no other, and every condition of ``wait``."""
    assert tuple(dict.fromkeys(name.split()[0] for name in ROWS)) == tuple(VERBS)
    assert [name.split()[1] for name in ROWS if name.startswith("wait ")] == list(CONDITIONS)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(AT_ONCE, id="at once"),
        # It waits for the new process, which does not answer.
        pytest.param(["kick"], id="kick", marks=pytest.mark.slow),
    ],
)
def test_every_verb_during_a_reload(launch: Launch, public: Path, names: Iterable[str]) -> None:
    """Which lasts, because a new process does not become ready. Afterwards it is as it
    would have been.
    """
    held = HeldService(public)
    unpd = launch(CONFIG)
    reconfigure(unpd, CONFIG + held.text)
    with (
        a_client(unpd) as client,
        contextlib.closing(send_request(unpd.control, verb="reload")) as reloading,
    ):
        until(lambda: status(unpd)["phase"] == "proving", 10.0, "the proof of the new processes")
        for name in names:
            told(unpd, name)
        assert status(unpd)["phase"] == "proving"
        if "kick" in names:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        held.let_go()
        answer = read_answer(reloading)
    assert answer["ok"], json.dumps(answer)
    told(unpd, "stop")
    assert unpd.wait_exit() == 0


@pytest.mark.slow
def test_every_verb_during_a_stop(launch: Launch) -> None:
    """Which lasts, because a worker is stopped; that worker answers no question. Events
    can be followed meanwhile.
    """
    unpd = launch(CONFIG)
    (worker,) = unpd.workers()
    with a_client(unpd):
        os.kill(worker, SIGSTOP)
        try:
            unpd.signal(SIGTERM)
            unpd.wait_event("master.stopping")
            with contextlib.closing(send_request(unpd.control, verb="events", follow=True)) as sock:
                assert read_answer(sock)["more"] is True
            for name in ROWS:
                told(unpd, name, stopping=True)
        finally:
            os.kill(worker, SIGCONT)
    assert unpd.wait_exit() == 0
