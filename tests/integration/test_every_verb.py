"""Every verb of the control socket while the daemon reloads, and while it stops."""

import contextlib
import json
import os
import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.support.daemon import Unpd
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
HELD = """
[services.held]
type = "python"
listen = ["tcp://127.0.0.1:0"]
path = ["{path}"]
handler = "held:serve"
"""
MODULE = """
import os, time
while not os.path.exists({go!r}):
    time.sleep(0.01)
def serve(sock):
    pass
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
MORE: dict[str, dict[str, Any]] = {"wait": {"timeout": "0"}, "reload": {"dry_run": True}}


def told(unpd: Unpd, name: str) -> None:
    """Ask, and see that the answer is there in time: a success, or one sentence."""
    operands = [each for each in VERBS[name].arguments if each.operand and not each.optional]
    arguments = {each.name: VALUES[each.name] for each in operands} | MORE.get(name, {})
    began = time.monotonic()
    with contextlib.closing(send_request(unpd.control, verb=name, **arguments)) as sock:
        answer = read_answer(sock)
    assert time.monotonic() - began < ANSWER_S + 10.0, name
    if not answer["ok"]:
        reason = answer["reason"]
        assert reason.strip() == reason, name
        assert 10 < len(reason) < 300, name
        assert "\n" not in reason, name


def test_every_verb_during_a_reload(launch: Launch, public: Path) -> None:
    """Which lasts, because a new process does not become ready. Afterwards it is as it
    would have been.
    """
    go = public / "go"
    (public / "held.py").write_text(MODULE.format(go=str(go)))
    unpd = launch(CONFIG)
    reconfigure(unpd, CONFIG + HELD.format(path=public))
    with contextlib.closing(send_request(unpd.control, verb="reload")) as reloading:
        until(lambda: status(unpd)["phase"] == "proving", 10.0, "the proof of the new processes")
        for name in VERBS:
            if name != "stop":
                told(unpd, name)
        assert status(unpd)["phase"] == "proving"
        go.touch()
        answer = read_answer(reloading)
    assert answer["ok"], json.dumps(answer)
    told(unpd, "stop")
    assert unpd.wait_exit() == 0


@pytest.mark.slow
def test_every_verb_during_a_stop(launch: Launch) -> None:
    """Which lasts, because a worker is stopped; that worker answers no question."""
    unpd = launch(CONFIG)
    (worker,) = unpd.workers()
    os.kill(worker, SIGSTOP)
    try:
        unpd.signal(SIGTERM)
        unpd.wait_event("master.stopping")
        ends_at = status(unpd)["stop_ends_at"]
        assert ends_at.endswith("Z")
        for name in VERBS:
            told(unpd, name)
    finally:
        os.kill(worker, SIGCONT)
    assert unpd.wait_exit() == 0
