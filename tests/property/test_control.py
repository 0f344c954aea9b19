"""The master's ends of the control socket and of a channel, in one process, with a real
runtime: whatever a command asks, and whatever a child says, is answered, and ends
nothing.
"""

import contextlib
import json
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_sink import MemorySink
from tests.support.operating import send_request
from tests.support.runtimes import running
from tests.support.scale import many
from unpd.access.denials import Denial
from unpd.access.network import V4, Network
from unpd.board.ended import EndedEntry
from unpd.board.layout import MOST_ENDED, NS, Row, service_cells
from unpd.channel import ChannelEnd
from unpd.control.answer_fields import mismatch
from unpd.control.callers import Callers
from unpd.control.change_verbs import CONFIGURED
from unpd.control.client_fields import CONNECTION, CONNECTIONS
from unpd.control.life_verbs import CONDITIONS
from unpd.control.server import ControlServer, PendingRequest
from unpd.control.verb import Argument
from unpd.control.verbs import VERBS
from unpd.core import events as ev
from unpd.core.model import Child, Slot, State
from unpd.kernel.clock import since_boot_ns
from unpd.log_events.row import LEVELS
from unpd.logs import Log
from unpd.loop import now
from unpd.master import sensing, waiting
from unpd.master.children import reports
from unpd.master.children.kinds import wanted_children
from unpd.master.denying import PAGE
from unpd.master.orders import Order, carry_out
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ChildKind, ChildOrder, ChildPhase, MasterPhase

CONFIG = """
[metrics]
listen = false
[services.echo]
listen = ["tcp://127.0.0.1:0"]
[services.trap]
type = "sensor"
listen = ["tcp://127.0.0.1:0"]
"""
BIRTH = 7
DENIED = 2 * PAGE + PAGE // 2
"""How many networks are denied at the beginning."""
AT_ONE_MOMENT = 300
"""How many connections ended at one moment: more than a page has."""
MOST_PAGES = 10

Asked = dict[str, Any]


class Master:
    """A master that has one child at most, and its control socket. ``errors``: its log
    lines of that level.
    """

    def __init__(self, runtime: Runtime, path: Path, sink: MemorySink) -> None:
        self.runtime = runtime
        self._path = path
        self._sink = sink
        self._state = State(wanted_children(runtime.deployment), MasterPhase.RUNNING)
        self.control = runtime.control = ControlServer(
            Callers(children_uid=-1, path=str(path)), runtime.loop, self._asked, lambda *_: None
        )
        echo = service_cells(runtime.columns.services.column("echo"))
        first_ns = since_boot_ns()
        runtime.ended = [
            EndedEntry(first_ns - at // AT_ONE_MOMENT * NS, echo, 0, NS, 1, 1, 0, 0, b"")
            for at in range(MOST_ENDED)
        ]
        for number in range(DENIED):
            network = Network(V4, (10 << 24) + number, 32)
            runtime.deny_list.deny(Denial(network=network, since=now(), until=None, uid=0))

    def _asked(self, control: ControlServer, pending: PendingRequest) -> None:
        carry_out(Order(self.runtime, self._state, pending), control)

    def ask(self, asked: Asked) -> dict[str, Any] | None:
        """Ask; return the first line of the answer, None if that comes later."""
        with contextlib.closing(self.send(asked)) as sock:
            return self.answer(sock)

    def send(self, asked: Asked) -> socket.socket:
        """Send a request and have it carried out."""
        sock = send_request(self._path, **asked)
        sock.setblocking(False)
        self._turns(3)  # it is accepted, read, and forgotten if its peer has gone
        return sock

    def answer(self, sock: socket.socket) -> dict[str, Any] | None:
        """What has come. No wait lasts any longer."""
        waiting.look(self.runtime, self._state, math.inf)
        line = b""
        while not line.endswith(b"\n"):
            self._turns(1)
            try:
                line += sock.recv(1 << 20)
            except BlockingIOError:
                assert line == b"", "the rest of an answer does not come"
                return None
        found = json.loads(line.partition(b"\n")[0])
        assert isinstance(found, dict)
        return found

    def is_told(self, birth: int) -> None:
        """Read what the child has said, and carry out what came of it."""
        reports.read(self.runtime, birth)
        sensing.carry_out(self.runtime, sensing.MAX_WAITING)

    def events(self) -> list[ev.Event]:
        """Take the events for the core."""
        found = [*self.runtime.events]
        self.runtime.events.clear()
        return found

    def lines(self, event: str = "", level: str = "") -> list[dict[str, Any]]:
        """The log lines of an event or of a level."""
        rows = map(json.loads, self._sink.lines)
        return [row for row in rows if event in ("", row["event"]) and level in ("", row["level"])]

    def forget_lines(self) -> None:
        """Forget the log so far."""
        self._sink.written = b""

    def _turns(self, count: int) -> None:
        for _ in range(count):
            self.runtime.loop.turn(0.0)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """One master for all examples."""
    sink = MemorySink()
    with running(CONFIG, Log(sink.sink, "warning", "json")) as runtime:
        made = Master(runtime, tmp_path_factory.mktemp("control") / "control.sock", sink)
        yield made
        made.control.close()


# --- what a command asks --------------------------------------------------------------

texts = st.text(st.characters(), max_size=12)
junk = st.none() | st.integers() | texts
networks = st.ip_addresses(v=4).map(str) | st.sampled_from(
    ("10.0.0.7", "10.0.9.0/24", "0.0.0.0/0", "::/0", "2001:db8::/32", "::ffff:10.0.0.7")
)
spans = st.builds("{}{}".format, st.integers(0, 10**9), st.sampled_from(("s", "m", "h", "d", "")))
numbers = st.integers(-1, 9) | st.integers(-1, 10**18)
places = st.builds(":".join, st.lists(numbers.map(str), min_size=1, max_size=4)) | st.integers(
    0, 2 * MOST_ENDED
).map(lambda looked: f"{since_boot_ns()}:0:{looked}")
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "after": places | networks,
    "condition": st.sampled_from(CONDITIONS),
    "for": spans,
    "level": st.sampled_from((*LEVELS, CONFIGURED)),
    "network": networks,
    "older": spans,
    "peer": networks | st.builds("uid:{}".format, st.just("root") | texts) | st.just("unix"),
    "pool": st.sampled_from(("default", "metrics")),
    "service": st.sampled_from(("echo", "echo", "trap", "metrics", "lacking")),
    "timeout": spans,
    "why": texts,
    "workers": st.integers(0, 2000).map(str),
}
"""Values that an argument may have, by its name."""


def value_of(argument: Argument) -> st.SearchStrategy[Any]:
    """A value: mostly one that may be meant."""
    if argument.type is bool:
        return st.booleans()
    return st.integers(0, 4).flatmap(lambda number: LIKELY[argument.name] if number else junk)


@st.composite
def requests(draw: st.DrawFn, verb: str) -> Asked:
    """The operands of a verb, and some of its other arguments."""
    return {"verb": verb} | {
        each.name: draw(value_of(each))
        for each in VERBS[verb].arguments
        if (each.operand and not each.optional) or draw(st.booleans())
    }


@pytest.mark.parametrize("verb", VERBS)
@settings(max_examples=many(200, at_least=8), deadline=None)
@given(data=st.data())
def test_every_request_is_answered(master: Master, verb: str, data: st.DataObject) -> None:
    """With fields, or with a reason, at once; only a reload and another number of
    workers are answered by the core, later. Nothing is logged as an error.
    """
    master.forget_lines()
    answer = master.ask(data.draw(requests(verb)))
    events = [type(event) for event in master.events()]
    if answer is None:
        assert events == [{"reload": ev.ReloadAsked, "scale": ev.PoolScaled}[verb]]
    else:
        assert answer["ok"] is True or (answer["ok"] is False and answer["reason"])
        assert events == ([ev.StopAsked] if verb == "stop" and answer["ok"] else [])
    assert not master.lines(level="error")


@st.composite
def pages(draw: st.DrawFn) -> Asked:
    """A request for a page from some place."""
    verb, ended = draw(st.sampled_from((("denied", {}), ("connections", {"ended": True}))))
    return {"verb": verb, "after": draw(networks if verb == "denied" else places), **ended}


@settings(max_examples=many(400, at_least=20), deadline=None)
@given(asked=pages())
def test_pages_come_to_an_end(master: Master, asked: Asked) -> None:
    """From whatever place a command asks: a page names the place of the next one, which
    the daemon takes, or is the last. A place that is none is refused with a reason.
    """
    for number in range(MOST_PAGES):
        answer = master.ask(asked)
        assert answer is not None
        if not answer["ok"]:
            assert (number, bool(answer["reason"])) == (0, True)
            return
        if answer["next"] is None:
            return
        asked = {**asked, "after": answer["next"]}
    raise AssertionError(f"the pages do not end: {asked}")


# --- what a child says ----------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "integer": st.integers(0, 2**40),
    "number": st.integers(0, 2**40) | st.floats(0, 1e6),
}
rows = st.fixed_dictionaries({each.name: OF_TYPE[each.type] for each in CONNECTION}) | (
    st.fixed_dictionaries({}, optional={each.name: values for each in CONNECTION})
)
answers = (
    st.fixed_dictionaries(
        {"connections": st.lists(rows, min_size=1, max_size=3), "next": st.none() | st.integers()}
    )
    | st.fixed_dictionaries({"kicked": st.integers(-1, 9) | values})
    | st.fixed_dictionaries({}, optional=dict.fromkeys(("connections", "next", "kicked"), values))
)
said_reports = st.fixed_dictionaries(
    {"report": st.sampled_from(("ready", "failed", "left", "sensed")) | values},
    optional={
        "code": st.integers(0, 255) | values,
        "reason": values,
        "by": st.sampled_from([str(order.value) for order in ChildOrder]) | values,
        "service": st.sampled_from(("trap", "echo")) | values,
        "peer": networks | values,
        "lost": values,
    },
)
answer_lines, other_lines = (
    each.map(lambda value: json.dumps(value).encode()) for each in (answers, said_reports | values)
)
QUESTIONS: tuple[Asked, ...] = (
    {"verb": "connections"},
    {"verb": "kick", "all": True},
    {"verb": "deny", "network": "192.0.2.7", "kick": True},
    {"verb": "log-level", "level": "warning"},
)
"""Requests for which the master asks its children."""


@settings(max_examples=many(600, at_least=40), deadline=None)
@given(
    asked=st.lists(st.sampled_from(QUESTIONS), max_size=3),
    first=st.lists(answer_lines, max_size=3),
    then=st.lists(answer_lines | other_lines | st.binary(max_size=30), max_size=4),
    reported=st.booleans(),
)
def test_a_child_may_say_anything(
    master: Master, asked: list[Asked], first: list[bytes], then: list[bytes], reported: bool
) -> None:
    """The master reads on, or says once that the channel is broken. It believes one
    report, and every request for which it asked the child is answered, at the latest
    when the child has died.
    """
    master.forget_lines()
    runtime = master.runtime
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    slot = Slot(ChildKind.WORKER, "default", 0)
    child = Child(BIRTH, slot, 1, ChildPhase.READY, born_at=0.0)
    runtime.board.row(0)[Row.BEAT_NS] = time.monotonic_ns()
    runtime.processes[BIRTH] = ChildProcess(child, 1, None, 0, ChannelEnd(ours), reported=reported)
    reports.watch(runtime, BIRTH)
    with contextlib.ExitStack() as stack, theirs:
        socks = [stack.enter_context(contextlib.closing(master.send(one))) for one in asked]
        for line in (*first, *then):
            theirs.sendall(line + b"\n")
            master.is_told(BIRTH)
        theirs.close()
        master.is_told(BIRTH)
        reports.read_and_close(runtime, BIRTH)
        del runtime.processes[BIRTH]
        for one, sock in zip(asked, socks, strict=True):
            answer = master.answer(sock)
            assert answer is not None, one
            assert answer["ok"] is True
            assert one["verb"] != "connections" or not mismatch(answer, CONNECTIONS)
    assert not [*runtime.rounds, *runtime.kicks, *runtime.listings]
    assert len(master.events()) <= (not reported)
    assert len(master.lines("channel.broken")) <= 1
    assert not master.lines(level="error")
