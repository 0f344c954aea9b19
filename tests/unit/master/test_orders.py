"""The verbs of the control socket, as the master carries them out."""

from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from unpd.access.denials import DenialError
from unpd.control.protocol import Request
from unpd.control.server import ControlServer, PendingRequest
from unpd.control.verb import Answered
from unpd.control.verbs import VERBS
from unpd.core import events as ev
from unpd.core.model import State
from unpd.kernel.credentials import Credentials
from unpd.master import orders
from unpd.master.orders import ORDERS, Fields, Order, carry_out
from unpd.master.runtime import Runtime

NUMBER = 7
OWN, REAL = "/etc/unpd/unpd.toml", "/srv/unpd/unpd.toml"
CONTROL = "/run/unpd/control.sock"


class Master:
    """As much of a master as the orders use. It keeps the events, the log lines and the
    answers.
    """

    def __init__(self) -> None:
        self.events: deque[ev.Event] = deque()
        self.config_names: tuple[str, ...] = (OWN, REAL)
        self.path = CONTROL
        self.logged: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.log = SimpleNamespace(
            event=lambda event, **fields: self.logged.append({"event": event, **fields})
        )

    def answer(self, number: int, **fields: Any) -> None:
        """Keep an answer that the control server would send."""
        self.answers.append({"number": number, **fields})

    def asked(self, verb: str, config: tuple[str, ...] = (), **arguments: Any) -> None:
        """Carry out a request for ``verb``."""
        request = Request(verb, arguments, config)
        pending = PendingRequest(NUMBER, request, Credentials(41, 42, 43))
        carry_out(Order(cast(Runtime, self), cast(State, None), pending), cast(ControlServer, self))


def test_each_verb_has_its_order_and_no_other() -> None:
    """A verb that is in one table and not in the other fails here."""
    assert list(ORDERS) == list(VERBS)
    assert len(set(ORDERS.values())) == len(VERBS)


@pytest.mark.parametrize("name", list(VERBS))
def test_each_verb_does_its_own_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verb calls its own function. It is answered with the fields of the function,
    or later if that has none. A verb that changes the daemon is logged with the process
    that asked.
    """
    done: list[str] = []
    at_once = VERBS[name].answered is Answered.AT_ONCE

    def note(verb: str, order: Order) -> Fields:
        assert order.pending.number == NUMBER
        done.append(verb)
        return {"done": verb} if at_once else None

    monkeypatch.setattr(orders, "ORDERS", {verb: partial(note, verb) for verb in VERBS})
    master = Master()
    master.asked(name)
    assert done == [name]
    assert master.answers == [{"number": NUMBER, "ok": True, "done": name}] * at_once
    line = {"event": "control.asked", "verb": name, "by_uid": 42, "by_pid": 41}
    assert master.logged == [line] * VERBS[name].changes


@pytest.mark.parametrize("quick", [False, True])
def test_stop_asks_the_core_to_stop(quick: bool) -> None:
    """The event says how to stop and names the process that asked. The answer comes at
    once.
    """
    master = Master()
    master.asked("stop", quick=quick)
    assert [*master.events] == [ev.StopAsked(quick, "the control socket (uid 42, pid 41)")]
    assert master.answers == [{"number": NUMBER, "ok": True}]


@pytest.mark.parametrize("every_pool", [False, True])
def test_reload_is_answered_with_its_outcome(every_pool: bool) -> None:
    """The core gets the number of the request, and whether every pool is to be
    replaced. The answer comes later.
    """
    master = Master()
    master.asked("reload", all=every_pool, dry_run=False)
    assert [*master.events] == [ev.ReloadAsked(NUMBER, every_pool)]
    assert master.answers == []


def test_what_cannot_be_done_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence of the deny list is that of the answer."""

    def refuse(order: Order) -> Fields:
        raise DenialError("192.0.2.7 is not denied")

    monkeypatch.setattr(orders, "ORDERS", {"undeny": refuse})
    master = Master()
    master.asked("undeny", network="192.0.2.7")
    assert master.answers == [{"number": NUMBER, "ok": False, "reason": "192.0.2.7 is not denied"}]


def test_a_verb_without_an_order_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb without a function is refused and changes nothing. It never carries out
    the order of another verb.
    """
    monkeypatch.setattr(orders, "ORDERS", {})
    master = Master()
    master.asked("reload")
    assert master.answers == [
        {"number": NUMBER, "ok": False, "reason": "this daemon cannot carry out reload"}
    ]
    assert (list(master.events), master.logged) == ([], [])


@pytest.mark.parametrize("config", [(), (OWN,), (REAL,), ("/etc/unpd/../unpd.toml", OWN)])
def test_a_request_for_this_daemon_is_carried_out(config: tuple[str, ...]) -> None:
    """One of the names of the file is enough, and so is none."""
    master = Master()
    master.asked("reload", config=config, all=False, dry_run=False)
    assert [*master.events] == [ev.ReloadAsked(NUMBER)]


@pytest.mark.parametrize("verb", list(VERBS))
@pytest.mark.parametrize("own", [(OWN, REAL), ()])
def test_a_request_for_another_daemon_is_refused(verb: str, own: tuple[str, ...]) -> None:
    """The answer names both files, and the daemon neither logs nor does anything."""
    master = Master()
    master.config_names = own
    master.asked(verb, config=("/etc/unpd/other.toml", "/srv/other.toml"))
    runs_with = f"the configuration {OWN}" if own else "the built-in default configuration"
    reason = (
        f"the daemon on this control socket runs with {runs_with}, not with /etc/unpd/other.toml:"
        f" name the other daemon with --config FILE, or this one with --control {CONTROL}"
    )
    assert master.answers == [{"number": NUMBER, "ok": False, "reason": reason}]
    assert (list(master.events), master.logged) == ([], [])
