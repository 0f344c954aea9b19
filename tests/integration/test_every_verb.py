"""Every verb of the control socket while the daemon reloads, and while it stops."""

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.support.daemon import Unpd
from tests.support.held import HeldService
from tests.support.launch import Launch
from tests.support.operating import read_answer, reconfigure, send_request, status
from tests.support.waiting import until
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
    "condition": "reloaded",
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
NEEDS_SELECTION = "name what to end, by --service, --peer or --older; --all ends every connection"
BUSY = "the daemon is proving: ask again when it is running"
DENIAL = {"denial": {"network": "192.0.2.7", "reason": ""}}
EXPLAINED = {"service": "echo", "peer": "192.0.2.7", "outcome": "admitted"}

Outcome = dict[str, Any] | str
"""The fields of a success, as :func:`agrees` compares them, or the reason of a
refusal.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What a verb gets, and what comes of it during a reload and during a stop.
    ``more``: arguments besides the operands; ``at_stop``: those of a stop alone.
    """

    during_reload: Outcome
    during_stop: Outcome
    more: dict[str, Any] = field(default_factory=dict)
    at_stop: dict[str, Any] = field(default_factory=dict)


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
    "wait": Row(
        {"held": False, "why": "a reload is under way", "stopping": False},
        {"held": False, "why": STOPPING, "stopping": True},
        {"timeout": "0"},
    ),
    "deny": Row(DENIAL | {"replaced": False}, DENIAL | {"replaced": False}),
    "undeny": Row(DENIAL, DENIAL),
    "denied": Row({"denials": [], "next": None}, {"denials": [], "next": None}),
    "explain": Row(EXPLAINED, EXPLAINED),
    "connections": Row({"connections": [], "silent": None}, {"connections": [], "silent": str}),
    # A selection would wait for the new process, which does not answer either.
    "kick": Row(NEEDS_SELECTION, {"kicked": 0, "silent": 1}, at_stop={"all": True}),
    "pause": Row({"halted": "paused", "was": None}, NEEDS_CLIENTS),
    "resume": Row({"halted": None, "was": "paused"}, NEEDS_CLIENTS),
    "drain": Row({"halted": "draining", "was": None}, NEEDS_CLIENTS),
    "log-level": Row({"level": "info", "silent": []}, {"level": "info", "silent": list}),
    "scale": Row(BUSY, STOPPING),
    "try": Row(NEEDS_PROGRAM, NEEDS_PROGRAM),
}


def told(unpd: Unpd, name: str, *, stopping: bool = False) -> None:
    """Ask, and see that the answer of the table is there in time."""
    row, operands = ROWS[name], VERBS[name].arguments
    arguments = {
        each.name: VALUES[each.name] for each in operands if each.operand and not each.optional
    }
    arguments |= row.more | (row.at_stop if stopping else {})
    began = time.monotonic()
    with contextlib.closing(send_request(unpd.control, verb=name, **arguments)) as sock:
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


def test_the_table_has_every_verb() -> None:
    """And no other."""
    assert tuple(ROWS) == tuple(VERBS)


def test_every_verb_during_a_reload(launch: Launch, public: Path) -> None:
    """Which lasts, because a new process does not become ready. Afterwards it is as it
    would have been.
    """
    held = HeldService(public)
    unpd = launch(CONFIG)
    reconfigure(unpd, CONFIG + held.text)
    with contextlib.closing(send_request(unpd.control, verb="reload")) as reloading:
        until(lambda: status(unpd)["phase"] == "proving", 10.0, "the proof of the new processes")
        for name in ROWS:
            if name != "stop":
                told(unpd, name)
        assert status(unpd)["phase"] == "proving"
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
