"""The answers to the master's questions, and the worker's end of the channel."""

import json
import select
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.transports import Wire
from unpd.access.network import Network
from unpd.board import layout
from unpd.board.memory import Scoreboard
from unpd.channel import MAX_LINE_BYTES, MAX_PENDING_BYTES, ChannelEnd
from unpd.log_events.row import Level
from unpd.logs import Log
from unpd.sinks import Sink
from unpd.worker.event.datagram import OwnAddresses
from unpd.worker.event.poller import Target
from unpd.worker.questions import (
    HIGHEST,
    MAX_LIMIT,
    MAX_REPORTS,
    MAX_SCANNED,
    Questions,
    answer,
)
from unpd.worker.selection import Kick, Selection

NOW = 100.0
ASK = {"question": "connections"}


@dataclass(slots=True)
class Client:
    """A session that describes itself."""

    number: int
    local: str = "127.0.0.1:7"

    def belongs(self, selection: Selection, now: float) -> bool:
        """By its number as its age."""
        return selection.takes("echo", b"", now - NOW + self.number)

    def describe(self, now: float) -> dict[str, Any]:
        """As a session does."""
        return {"service": "echo", "peer": f"peer:{self.number}", "local": self.local, "age_s": now}


@dataclass(slots=True)
class Engine:
    """An engine that has ``clients`` and remembers what it watches."""

    clients: list[Client] = field(default_factory=list)
    watched: dict[int, tuple[Target, int]] = field(default_factory=dict)
    kicked: list[Kick] = field(default_factory=list)

    def watch(self, fd: int, target: Target, mask: int = select.EPOLLIN) -> None:
        """Note it."""
        assert fd not in self.watched
        self.watched[fd] = (target, mask)

    def forget(self, fd: int) -> None:
        """Note it."""
        del self.watched[fd]

    def kick(self, kick: Kick) -> int:
        """Note it, and say how many clients there are."""
        self.kicked.append(kick)
        return len(self.clients)

    def connections(self, after: int = -1) -> Iterable[Client]:
        """The clients above ``after``."""
        return (client for client in self.clients if client.number > after)


def answers(wire: Wire) -> list[dict[str, Any]]:
    """What the worker sent."""
    return [json.loads(line) for line in wire.sent.splitlines()]


def line(**question: Any) -> bytes:
    """A question as it comes over the channel."""
    return json.dumps(question).encode() + b"\n"


def connections(count: int, **question: Any) -> dict[str, Any]:
    """The answer of a worker with ``count`` clients, on the descriptors 10, 12, ..."""
    engine = Engine([Client(10 + 2 * number) for number in range(count)])
    return answer({**ASK, **question}, engine.connections, NOW)


def test_all_connections_are_told() -> None:
    """In the order of their descriptors; next is null where nothing is left."""
    assert connections(2) == {
        "connections": [
            {"service": "echo", "peer": "peer:10", "local": "127.0.0.1:7", "age_s": NOW},
            {"service": "echo", "peer": "peer:12", "local": "127.0.0.1:7", "age_s": NOW},
        ],
        "next": None,
    }
    assert connections(0) == {"connections": [], "next": None}


def test_an_answer_goes_on_where_the_last_one_ended() -> None:
    """``next`` of an answer is ``after`` of the following question: each connection
    comes once, also if one of them has gone meanwhile.
    """
    found: list[str] = []
    after: int | None = -1
    while after is not None:
        told = connections(10, after=after, limit=3)
        assert len(told["connections"]) <= 3
        found += [row["peer"] for row in told["connections"]]
        after = told["next"]
    assert found == [f"peer:{10 + 2 * number}" for number in range(10)]
    assert connections(10, after=11)["connections"][0]["peer"] == "peer:12"


def test_a_full_page_that_is_the_last_one_says_so() -> None:
    """There is no empty page behind it."""
    assert connections(3, limit=3)["next"] is None
    assert connections(4, limit=3)["next"] == 14


def test_only_those_of_a_selection_are_told() -> None:
    """However many others are between them."""
    assert connections(10, service="daytime") == {"connections": [], "next": None}
    told = connections(10, older_s=24)
    assert [row["peer"] for row in told["connections"]] == ["peer:24", "peer:26", "peer:28"]


def test_an_answer_looks_at_so_many_connections() -> None:
    """Although none of them belongs to the selection; the next one goes on there."""
    assert connections(MAX_SCANNED, service="daytime")["next"] is None
    told = connections(MAX_SCANNED + 1, service="daytime")
    assert told == {"connections": [], "next": 10 + 2 * (MAX_SCANNED - 1)}


def test_an_answer_fits_into_a_line() -> None:
    """Also where every address is as long as it can be, and every page has at least one
    connection.
    """
    engine = Engine([Client(fd, local="\x01" * 107) for fd in range(1000)])
    after: int | None = -1
    pages = 0
    while after is not None:
        told = answer({**ASK, "after": after}, engine.connections, NOW)
        assert len(json.dumps(told)) < MAX_LINE_BYTES
        assert told["connections"]
        after = told["next"]
        pages += 1
    assert 1000 / MAX_LIMIT < pages < 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"question": "weather"},
        {"question": None},
        {"question": "connections", "after": -2},
        {"question": "connections", "after": HIGHEST + 1},
        {"question": "connections", "after": "7"},
        {"question": "connections", "after": True},
        {"question": "connections", "after": 1.5},
        {"question": "connections", "service": 7},
        {"question": "connections", "network": "192.0.2.1/24"},
        {"question": "connections", "older_s": "1h"},
        {"question": "connections", "older_s": -1},
        {"question": "connections", "limit": 0},
        {"question": "connections", "limit": MAX_LIMIT + 1},
        {"question": "connections", "limit": None},
        {},
    ],
)
def test_a_wrong_question_is_answered_by_one_sentence(wrong: dict[str, Any]) -> None:
    """Never by an exception, and never by connections."""
    told = answer(wrong, Engine([Client(10)]).connections, NOW)
    assert list(told) == ["error"]
    assert "\n" not in told["error"]


class Bench:
    """The worker's end of a channel."""

    def __init__(self, wire: Wire, *clients: Client) -> None:
        self.wire = wire
        self.engine = Engine(list(clients))
        self.lines: list[bytes] = []
        log = Log(Sink(-1, self.write), "info", "text")
        self.switched = 0
        self.board = SimpleNamespace(rows_bound=128)
        board = cast(Scoreboard, self.board)
        self.learnt: list[OwnAddresses] = []
        self.questions = Questions(ChannelEnd(wire), self.engine, log, self.switch_log, board)
        self.log = log
        self.levels: list[Level] = []
        self.questions.watch(
            self.learnt.append, level_changed=lambda: self.levels.append(log.level)
        )

    def switch_log(self) -> dict[str, Any]:
        """Count the switches to a new log file."""
        self.switched += 1
        return {"log": "switched"}

    def write(self, _fd: int, line: bytes) -> int:
        """A line of the log."""
        self.lines.append(line)
        return len(line)

    def ready(self) -> None:
        """What the engine does when the channel is ready."""
        target, mask = self.engine.watched[self.wire.fileno()]
        target.ready(mask)

    @property
    def mask(self) -> int | None:
        """What the engine watches the channel for; None if it does not."""
        watched = self.engine.watched.get(self.wire.fileno())
        return watched[1] if watched else None


def test_questions_of_the_channel_are_answered() -> None:
    """Each by one line, in order."""
    bench = Bench(Wire(line(**ASK) + line(question="weather")), Client(10))
    bench.ready()
    first, second = answers(bench.wire)
    assert [row["peer"] for row in first["connections"]] == ["peer:10"]
    assert "error" in second
    assert bench.mask == select.EPOLLIN


def test_the_most_addresses_fit_a_question() -> None:
    """The longest paths (unix(7)), as many as there are listeners, come over the
    channel as they were sent.
    """
    own = OwnAddresses(
        ports=frozenset({7, 65535}),
        paths=frozenset(b"\0%0107d" % number for number in range(layout.MAX_LISTENERS)),
    )
    question = line(question="own", **own.as_message())
    assert len(question) < MAX_LINE_BYTES
    bench = Bench(Wire(question))
    bench.ready()
    assert answers(bench.wire) == [{}]
    assert bench.learnt == [own]


def test_the_order_to_switch_the_log_is_carried_out() -> None:
    """A new log file comes as a question, between others, and is answered in its
    place.
    """
    bench = Bench(Wire(line(question="log") + line(**ASK)), Client(10))
    bench.ready()
    first, second = answers(bench.wire)
    assert first == {"log": "switched"}
    assert list(second) == ["connections", "next"]
    assert bench.switched == 1


def test_the_connections_of_a_network_are_ended() -> None:
    """The answer says how many there were. What is no network ends none."""
    order = Kick(Selection(network=Network.parse("192.0.2.0/24")))
    kick = line(question="kick", **order.message)
    kick += line(question="kick", **{**order.message, "network": 7})
    kick += line(question="kick", **{**order.message, "cause": "hunger"})
    bench = Bench(Wire(kick), Client(10), Client(11))
    bench.ready()
    first, *others = answers(bench.wire)
    assert (first, list(map(list, others))) == ({"kicked": 2}, [["error"], ["error"]])
    assert bench.engine.kicked == [order]


def test_the_master_says_how_many_rows_to_read() -> None:
    """The bound comes over the channel, and not from the board, where a faulty worker
    could forge it. What is no number changes nothing.
    """
    bench = Bench(Wire(line(question="rows", bound=256) + line(question="rows", bound="all")))
    bench.ready()
    first, second = answers(bench.wire)
    assert (first, list(second)) == ({}, ["error"])
    assert bench.board.rows_bound == 256


def test_a_report_goes_between_the_answers() -> None:
    """It is sent at once; with an answer pending, behind that one."""
    bench = Bench(Wire(line(**ASK), room=10), Client(10))
    bench.ready()
    bench.questions.report({"report": "sensed"})
    bench.wire.room = 1 << 20
    bench.ready()
    answered, report = answers(bench.wire)
    assert (list(answered), report) == (["connections", "next"], {"report": "sensed"})
    assert bench.mask == select.EPOLLIN
    bench.questions.report({"report": "again"})
    assert answers(bench.wire)[2:] == [{"report": "again"}]


def test_a_report_that_waits_is_sent_once_there_is_room() -> None:
    """Nothing else has to happen: the channel is watched for room."""
    bench = Bench(Wire(room=3))
    bench.questions.report({"report": "sensed"})
    assert bench.mask == select.EPOLLIN | select.EPOLLOUT
    bench.wire.room = 1 << 20
    bench.ready()
    assert answers(bench.wire) == [{"report": "sensed"}]
    assert bench.mask == select.EPOLLIN


def test_reports_that_nobody_reads_are_lost() -> None:
    """The worker neither waits nor keeps more than the channel does."""
    bench = Bench(Wire(room=0))
    for number in range(20_000):
        bench.questions.report({"report": f"sensed {number}"})
    bench.questions.report({"report": "sensed 7"})  # it waits already
    assert bench.mask == select.EPOLLIN | select.EPOLLOUT
    bench.wire.room = 1 << 30
    bench.ready()
    told = answers(bench.wire)
    assert len(told) == MAX_REPORTS + 1
    assert len(bench.wire.sent) <= MAX_PENDING_BYTES
    assert [report.get("lost", 0) for report in told[:3]] == [0, 20_000 - len(told), 0]


def test_a_report_that_waits_already_is_not_sent_twice() -> None:
    """A client that goes on connecting costs the channel one report."""
    bench = Bench(Wire(room=0))
    for _ in range(3):
        for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            bench.questions.report({"report": "sensed", "peer": peer})
    bench.wire.room = 1 << 20
    bench.ready()
    peers = [report["peer"] for report in answers(bench.wire)]
    assert peers[:3] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert peers[3:] == ["192.0.2.1"]  # the first one was on its way


def test_a_level_is_taken_before_the_answer() -> None:
    """And the engine hears of it, because it knows which lines the log wants."""
    bench = Bench(Wire(line(question="level", level="debug"), line(question="level", level=None)))
    bench.ready()
    bench.ready()
    assert answers(bench.wire) == [{}, {}]
    assert bench.levels == ["debug", "info"]


def test_an_answer_goes_before_the_reports_that_wait() -> None:
    """But behind the one that is on its way: a flood holds up no answer."""
    bench = Bench(Wire(room=3), Client(10))
    for number in range(100):
        bench.questions.report({"report": f"sensed {number}"})
    bench.wire.comes.append(line(**ASK))
    bench.wire.room = len('{"report":"sensed 0"}') - 2
    bench.ready()
    assert bench.mask == select.EPOLLOUT
    bench.wire.room = 1 << 20
    bench.ready()
    assert [list(each) for each in answers(bench.wire)[:3]] == [
        ["report"],
        ["connections", "next"],
        ["report"],
    ]
    assert len(answers(bench.wire)) == 101


def test_a_report_without_a_master_is_lost() -> None:
    """The channel has ended: the worker goes on."""
    bench = Bench(Wire(b""))
    bench.ready()
    assert bench.mask is None
    bench.questions.report({"report": "sensed"})
    assert bench.wire.sent == b""


def test_a_question_is_read_once_the_last_answer_is_sent() -> None:
    """A master that does not read is asked for nothing more."""
    bench = Bench(Wire(line(**ASK), line(question="weather"), room=10), Client(10))
    bench.ready()
    assert bench.mask == select.EPOLLOUT
    bench.ready()
    assert (len(bench.wire.sent), bench.mask) == (10, select.EPOLLOUT)
    bench.wire.room = 1 << 20
    bench.ready()
    assert (len(answers(bench.wire)), bench.mask) == (1, select.EPOLLIN)
    bench.ready()
    assert len(answers(bench.wire)) == 2


def test_the_end_of_the_channel_is_no_fault() -> None:
    """The master has gone: the descriptor is closed, the log says nothing."""
    bench = Bench(Wire(b""))
    bench.ready()
    assert (bench.mask, bench.wire.closed, bench.lines) == (None, True, [])


@pytest.mark.parametrize("comes", [b"nonsense\n", line(question="weather") * 20_000])
def test_a_master_that_breaks_the_protocol_loses_the_channel(comes: bytes) -> None:
    """With nonsense, or with so many questions that the answers find no room: one error
    line, and the worker serves on.
    """
    bench = Bench(Wire(comes, room=0))
    bench.ready()
    assert (bench.mask, bench.wire.closed) == (None, True)
    assert len(bench.lines) == 1
    assert b"channel.broken" in bench.lines[0]
