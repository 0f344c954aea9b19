"""What a session does: how it begins, what it answers, and what it does when its time
has come. A stream that only remembers stands for the socket.
"""

import errno
import math
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from tests.support.surroundings import Surroundings, surroundings
from unpd.board import layout
from unpd.config.times import ServiceTimes
from unpd.kernel.connections import send_before_fin
from unpd.kernel.tcp_info import Silence
from unpd.names import EndCause
from unpd.services.base import Conversation, HandOver, More, Piece, Reply, StreamService, same
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.event.ending import QUIET_SHARE
from unpd.worker.event.session import QUIET_S, Session
from unpd.worker.event.stage import Stage
from unpd.worker.terms import Terms

OPENED = 1000.0
NEVER = math.inf
TIMES = ServiceTimes(idle_timeout_s=600.0, session_timeout_s=0.0, user_timeout_s=60.0)
IN, OUT = select.EPOLLIN, select.EPOLLOUT
NO_SILENCE = Silence(0.0, 0.0, in_flight=False, queued=False, probes=0)


def nothing() -> None:
    """What happens in a read or a flush that finds nothing."""


@dataclass(slots=True)
class FakeStream:
    """Writes down what its session asks of it. ``known``: the peer's silence.
    ``on_flush`` and ``on_ready`` happen in a flush and in a read. ``refused``: an error
    that every option raises.
    """

    fd: int = 7
    out: bytearray | None = None
    mask: int = IN
    received: int = 11
    sent: int = 22
    known: Silence = NO_SILENCE
    on_flush: Callable[[], None] = nothing
    on_ready: Callable[[], None] = nothing
    refused: OSError | None = None
    calls: list[Any] = field(default_factory=list)

    def silence(self) -> Silence:
        """What the test says."""
        return self.known

    def flush(self) -> None:
        """Note it, and do what the test says."""
        self.calls.append("flush")
        self.on_flush()

    def ready(self, mask: int) -> None:
        """Note it, and do what the test says."""
        self.calls.append(("ready", mask))
        self.on_ready()

    def watch(self, mask: int) -> None:
        """Note it."""
        self.calls.append(("watch", mask))

    def open(self) -> None:
        """Note it."""
        self.calls.append("open")

    def send(self, piece: bytes, *way: Any) -> None:
        """Note it, and in which way the first bytes go if not by a write."""
        self.calls.append(("send", piece, *way))

    def expect_fin(self) -> None:
        """Note it."""
        self.calls.append("expect_fin")

    def send_fin(self) -> None:
        """Note it."""
        self.calls.append("send_fin")

    def reset_on_close(self) -> None:
        """Note it, or fail."""
        if self.refused is not None:
            raise self.refused
        self.calls.append("reset_on_close")

    def close(self) -> None:
        """Note it."""
        self.calls.append("close")


@dataclass(slots=True)
class Served:
    """A session over a fake stream, and its surroundings."""

    session: Session
    stream: FakeStream
    around: Surroundings

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.around.shared.now += seconds

    @property
    def due_at(self) -> float:
        """When the wheel finds the session due."""
        return self.around.shared.wheel.next_at

    @property
    def ended(self) -> list[tuple[str, int]]:
        """The causes that were counted, and how often."""
        first = layout.Service.ENDED
        changed = self.around.changed()
        return [
            (cause, changed[first + index])
            for index, cause in enumerate(layout.END_CAUSES)
            if first + index in changed
        ]


ECHO = Echo(EchoOptions())


def served(
    *, out: bytes = b"", stage: Stage = Stage.SERVING, service: StreamService = ECHO, **times: Any
) -> Served:
    """A session in ``stage`` that has never been active; ``times`` replaces some of
    TIMES.
    """
    terms = Terms(
        name="echo",
        service=service,
        times=replace(TIMES, **times),
        words=layout.service_cells(0),
    )
    around = surroundings(terms, OPENED)
    session = Session(around.shared, terms, -1, b"")
    stream = FakeStream(out=bytearray(out) if out else None)
    session.stream = cast(Any, stream)
    session.reply = same
    session.stage = stage
    return Served(session, stream, around)


# when its time has come

PARTED = ["expect_fin", "send_fin"]
CUT = ["reset_on_close", "close"]


def test_a_session_that_was_active_meanwhile_moves_on_in_the_wheel() -> None:
    """Activity does not touch the wheel: the session looks when its slot comes up."""
    s = served(idle_timeout_s=30.0)
    s.advance(29.9)
    s.session.come_due()
    assert (s.stream.calls, s.session.stage) == ([], Stage.SERVING)
    assert OPENED + 30.0 <= s.due_at <= OPENED + 30.2


def test_a_silent_session_parts_at_its_time() -> None:
    """It reads once more before that, because what the client sent may have waited for
    a long turn.
    """
    s = served(idle_timeout_s=30.0)
    s.advance(30.0)
    s.session.come_due()
    assert s.stream.calls == [("ready", IN), *PARTED]
    assert (s.session.stage, s.session.cause) == (Stage.LINGERING, EndCause.IDLE)


def test_the_times_of_a_chosen_service_hold_from_the_choice_on() -> None:
    """Those of the engine and that of the kernel."""
    s = served(idle_timeout_s=30.0)
    chosen = replace(TIMES, session_timeout_s=50.0, user_timeout_s=7.0)
    s.session.terms = replace(s.session.terms, offered={"other": chosen})
    s.session.reply = lambda _: HandOver(b"", ECHO, name="other")
    s.advance(20.0)
    with socket.socket() as sock:
        s.stream.fd = sock.fileno()
        s.session.answer(b"other")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    assert OPENED + 70.0 <= s.due_at <= OPENED + 70.2


def test_a_session_limit_is_not_put_off_by_a_read() -> None:
    """It would part anyway."""
    s = served(idle_timeout_s=0.0, session_timeout_s=30.0)
    s.advance(30.0)
    s.session.come_due()
    assert s.stream.calls == PARTED
    assert s.session.cause is EndCause.SESSION_LIMIT


def test_a_client_that_has_sent_something_is_not_quiet() -> None:
    """The last read before the end finds it: the session goes on."""
    s = served(idle_timeout_s=30.0)
    s.stream.on_ready = lambda: setattr(s.session, "active_at", s.around.shared.now)
    s.advance(31.0)
    s.session.come_due()
    assert s.stream.calls == [("ready", IN)]
    assert s.session.stage is Stage.SERVING
    assert OPENED + 61.0 <= s.due_at <= OPENED + 61.2


def test_a_client_that_has_ended_meanwhile_is_not_parted_from() -> None:
    """The last read finds its FIN behind pending output: that goes out first."""
    s = served(idle_timeout_s=30.0)
    s.stream.on_ready = lambda: setattr(s.session, "stage", Stage.HALF_CLOSED)
    s.advance(31.0)
    s.session.come_due()
    assert s.stream.calls == [("ready", IN)]
    assert s.session.cause is None


@pytest.mark.parametrize("late_s", [0.0, 1.0])
def test_a_client_that_talks_at_the_end_of_a_stop_is_answered_and_left(late_s: float) -> None:
    """What it has sent is read once more, and then the time is over."""
    s = served()
    s.around.shared.finish_at = OPENED + 5.0
    s.stream.on_ready = lambda: setattr(s.session, "active_at", s.around.shared.now)
    s.advance(5.0 + late_s)
    s.session.come_due()
    assert s.stream.calls == [("ready", IN), *PARTED]
    assert s.session.cause is EndCause.SHUTDOWN


def test_a_client_that_is_not_read_has_nothing_more_to_say() -> None:
    """Above the mark of pending output there is no last read in a stop."""
    s = served(out=b"x")
    s.around.shared.finish_at = OPENED + 5.0
    s.stream.mask = OUT
    s.advance(5.0)
    s.session.come_due()
    assert s.stream.calls == ["expect_fin", ("watch", OUT)]
    assert (s.session.stage, s.session.cause) == (Stage.PARTING, EndCause.SHUTDOWN)


@pytest.mark.parametrize(
    ("stage", "out", "calls"),
    [
        (Stage.PARTING, b"x", CUT),
        (Stage.LINGERING, b"", ["close"]),
    ],
)
def test_the_linger_ends_in_time(stage: Stage, out: bytes, calls: list[str]) -> None:
    """Output that never went out is dropped; else the close is an ordinary one."""
    s = served(out=out, stage=stage)
    s.session.cause, s.session.linger_at = EndCause.SHUTDOWN, OPENED + 2.0
    s.advance(2.0)
    s.session.come_due()
    assert s.stream.calls == calls
    assert (s.session.stage, s.ended) == (Stage.ENDED, [("shutdown", 1)])


@pytest.mark.parametrize(
    ("limits", "cause"),
    [({"session_timeout_s": 30.0}, "session_limit"), ({"idle_timeout_s": 30.0}, "idle")],
)
def test_a_half_closed_session_whose_time_is_over_is_cut(
    limits: dict[str, Any], cause: str
) -> None:
    """Its client has sent its FIN: there is nothing to wait for."""
    s = served(out=b"x", stage=Stage.HALF_CLOSED, **limits)
    s.stream.known = Silence(99.0, 99.0, in_flight=True, queued=True, probes=0)
    s.advance(30.0)
    s.session.come_due()
    assert s.stream.calls == CUT
    assert s.ended == [(cause, 1)]


def test_a_refused_option_at_the_end_costs_one_session() -> None:
    """The worker serves on, and the descriptor is closed."""
    s = served(out=b"x", stage=Stage.PARTING)
    s.session.linger_at = OPENED
    s.stream.refused = OSError(errno.EPERM, "as the test says")
    s.session.come_due()
    assert s.stream.calls == ["close"]
    assert s.ended == [("error", 1)]
    (told,) = s.around.events("connection.failed")
    assert (told["service"], told["error"]) == (
        "echo",
        "PermissionError(1, 'as the test says')",
    )


# the beginning


@dataclass(slots=True)
class Greeting:
    """A service that greets with ``greeting``, then answers with ``reply`` and says
    ``more``.
    """

    greeting: bytes
    reply: Reply | None
    more: More | None = None
    asked_at: list[float] = field(default_factory=list)

    def greet(self, wall_s: float) -> bytes:
        """Note the time."""
        self.asked_at.append(wall_s)
        return self.greeting

    def converse(self) -> Conversation | None:
        """The conversation."""
        return None if self.reply is None else Conversation(self.reply, self.more)


@pytest.mark.parametrize(
    ("greeting", "reply", "calls", "stage"),
    [
        (b"", same, ["open"], Stage.SERVING),
        (b"hi", same, ["open", ("send", b"hi")], Stage.SERVING),
        (b"bye", None, ["open", ("send", b"bye", send_before_fin), "send_fin"], Stage.LINGERING),
    ],
    ids=["silent", "greets", "greets only"],
)
def test_a_session_begins_as_its_service_wants(
    greeting: bytes, reply: Reply | None, calls: list[Any], stage: Stage
) -> None:
    """A greeting waits for our FIN only if nothing follows it. The service is told the
    wall-clock time.
    """
    service = Greeting(greeting, reply)
    s = served(service=service)
    before = time.time()
    s.session.open()
    assert (s.stream.calls, s.session.stage) == (calls, stage)
    assert service.asked_at == [pytest.approx(before, abs=60.0)]
    assert s.session.reply is reply


# a peer that takes nothing

STALL_S = QUIET_SHARE * 60.0
"""For so long a peer is silent before it has stalled, at a user timeout of 60 s."""


@pytest.mark.parametrize(
    ("sent_s", "acknowledged_s", "goes_on"),
    [
        (STALL_S - 1, STALL_S - 1, True),
        (STALL_S - 1, STALL_S, False),
        (STALL_S, STALL_S - 1, False),
        (0.0, 0.0, True),
    ],
)
def test_a_slow_reader_has_not_stalled(sent_s: float, acknowledged_s: float, goes_on: bool) -> None:
    """The socket is writable only when a part of its buffer is free, which a slow
    reader may still be emptying. The kernel knows when it last sent to it, and its
    deadline then runs from there.
    """
    s = served(idle_timeout_s=0.0, out=b"x")
    s.stream.known = Silence(sent_s, acknowledged_s, in_flight=False, queued=True, probes=0)
    s.advance(60.0)
    s.session.come_due()
    if goes_on:
        assert (s.stream.calls, s.session.active_at) == ([], OPENED + 60.0 - sent_s)
        assert s.due_at >= min(OPENED + 120.0 - sent_s, OPENED + 120.0)
    else:
        assert (s.stream.calls, s.ended) == (CUT, [("stalled", 1)])


@pytest.mark.parametrize(
    ("sent_s", "acknowledged_s", "goes_on"),
    [(29.9, 99.0, True), (29.9, 0.0, True), (30.0, 0.0, False)],
)
def test_a_slow_reader_is_not_idle(sent_s: float, acknowledged_s: float, goes_on: bool) -> None:
    """Only what our kernel sends is activity, not what the peer's acknowledges."""
    s = served(idle_timeout_s=30.0, user_timeout_s=600.0, out=b"x")
    s.stream.known = Silence(sent_s, acknowledged_s, in_flight=False, queued=True, probes=0)
    s.advance(30.0)
    s.session.come_due()
    if goes_on:
        assert (s.stream.calls, s.session.active_at) == ([], OPENED + 30.0 - sent_s)
        assert s.due_at > OPENED + 30.0
    else:
        assert s.stream.calls == ["expect_fin", ("watch", OUT)]
        assert (s.session.stage, s.session.cause) == (Stage.PARTING, EndCause.IDLE)


def test_a_peer_that_has_vanished_is_told_from_one_that_stalls() -> None:
    """Its kernel acknowledges nothing for most of the user timeout."""
    s = served(idle_timeout_s=0.0, out=b"x")
    s.stream.known = Silence(60.0, 60.0, in_flight=True, queued=True, probes=0)
    s.advance(60.0)
    s.session.come_due()
    assert (s.stream.calls, s.ended) == (CUT, [("peer_vanished", 1)])


UNIX = Silence(math.inf, 0.0, in_flight=False, queued=False, probes=0)
"""What is known about a UNIX peer."""


def test_only_a_write_tells_whether_a_unix_peer_reads() -> None:
    """If it takes something, the session goes on from there."""
    s = served(idle_timeout_s=0.0, out=b"x")
    s.stream.known = UNIX
    s.stream.on_flush = lambda: setattr(s.session, "taken_at", s.around.shared.now)
    s.advance(60.0)
    s.session.come_due()
    assert (s.stream.calls, s.session.stage) == (["flush"], Stage.SERVING)
    assert OPENED + 120.0 <= s.due_at <= OPENED + 120.2


def test_a_unix_peer_that_takes_nothing_has_stalled() -> None:
    """It is always there, so it has not vanished."""
    s = served(idle_timeout_s=0.0, out=b"x")
    s.stream.known = UNIX
    s.advance(60.0)
    s.session.come_due()
    assert (s.stream.calls, s.ended) == (["flush", *CUT], [("stalled", 1)])


def test_a_session_that_ended_in_its_last_write_is_not_ended_twice() -> None:
    """The write finds that the peer is gone."""
    s = served(idle_timeout_s=0.0, out=b"x")
    s.stream.known = UNIX
    s.stream.on_flush = lambda: s.session.end(EndCause.CLIENT_RST)
    s.advance(60.0)
    s.session.come_due()
    assert (s.stream.calls, s.ended) == (["flush", "close"], [("client_rst", 1)])
    assert s.around.events("connection.failed") == []


# reports of the stream


@pytest.mark.parametrize(
    ("number", "known", "cause"),
    [
        (errno.ECONNRESET, NO_SILENCE, "client_rst"),
        (errno.EHOSTUNREACH, NO_SILENCE, "unreachable"),
        (errno.ETIMEDOUT, replace(NO_SILENCE, acknowledged_s=99.0, probes=1), "keepalive"),
        (errno.EIO, NO_SILENCE, "error"),
        (
            errno.ETIMEDOUT,
            replace(NO_SILENCE, acknowledged_s=99.0, in_flight=True),
            "peer_vanished",
        ),
        (errno.ETIMEDOUT, replace(NO_SILENCE, acknowledged_s=30.0, in_flight=True), "stalled"),
    ],
)
def test_an_error_of_the_socket_ends_the_session(number: int, known: Silence, cause: str) -> None:
    """The cause is that of the error."""
    s = served()
    s.stream.known = known
    s.session.lose(OSError(number, "as the test says"))
    assert (s.stream.calls, s.ended) == (["close"], [(cause, 1)])


def test_an_error_while_we_end_a_session_changes_no_cause() -> None:
    """We had a reason before."""
    s = served(stage=Stage.LINGERING)
    s.session.cause = EndCause.IDLE
    s.session.lose(ConnectionResetError(errno.ECONNRESET, "as the test says"))
    assert s.ended == [("idle", 1)]


def test_an_echo_answers_with_the_bytes_themselves() -> None:
    """Its stream may take the hot path then. An answer is activity."""
    s = served()
    s.advance(5.0)
    assert s.session.answer(b"hello") is True
    assert (s.stream.calls, s.session.active_at) == ([("send", b"hello")], OPENED + 5.0)


def test_another_answer_is_not_the_bytes_themselves() -> None:
    """Not even if it is equal to them."""
    s = served()
    s.session.reply = bytes
    assert s.session.answer(b"hello") is False
    assert s.stream.calls == [("send", b"hello")]


def test_input_after_the_last_answer_is_thrown_away() -> None:
    """It is no activity, and its stream must not take the hot path."""
    s = served(stage=Stage.LINGERING)
    s.session.reply = None
    s.advance(5.0)
    assert s.session.answer(b"junk") is False
    assert (s.stream.calls, s.session.active_at) == ([], OPENED)


def test_the_line_of_an_end_has_its_duration_to_the_microsecond() -> None:
    """Beside the bytes of its stream, its cause and its peer."""
    s = served()
    s.session.peer = b""
    s.advance(1.23456789)
    s.session.end(EndCause.IDLE)
    (told,) = s.around.events("connection.ended")
    assert {name: told[name] for name in ("service", "cause", "received", "sent", "peer")} == {
        "service": "echo",
        "cause": "idle",
        "received": 11,
        "sent": 22,
        "peer": "none",
    }
    assert told["duration_s"] == 1.234568


def test_the_last_output_of_a_half_closed_session_ends_it() -> None:
    """Its client has sent its FIN, and has everything now."""
    s = served(stage=Stage.HALF_CLOSED)
    s.session.output_flushed()
    assert (s.stream.calls, s.ended) == (["close"], [("client_fin", 1)])


def test_the_last_output_before_our_fin_is_followed_by_it() -> None:
    """Then the client's FIN is awaited."""
    s = served(stage=Stage.PARTING)
    s.session.output_flushed()
    assert s.stream.calls == [("watch", IN), "send_fin"]
    assert s.session.stage is Stage.LINGERING


@pytest.mark.parametrize(
    ("finish_at", "due_at"), [(NEVER, NEVER), (OPENED + 5.0, OPENED + QUIET_S)]
)
def test_a_session_without_pending_output_is_read_again(finish_at: float, due_at: float) -> None:
    """In a stop its deadline comes sooner then; else the wheel need not know."""
    s = served()
    s.around.shared.finish_at = finish_at
    s.session.output_flushed()
    assert s.stream.calls == [("watch", IN)]
    assert s.due_at == pytest.approx(due_at, abs=0.126)


def test_the_fin_of_a_peer_behind_pending_output_waits_for_it() -> None:
    """Only room for the output is awaited from then on, and it has a deadline."""
    s = served(out=b"x")
    s.session.peer_finished()
    assert (s.stream.calls, s.session.stage) == ([("watch", OUT)], Stage.HALF_CLOSED)
    assert s.due_at == pytest.approx(OPENED + 60.0, abs=0.126)


def test_a_session_shows_its_age_to_the_millisecond() -> None:
    """Of its stream it shows the bytes."""
    s = served()
    shown = s.session.describe(OPENED + 1.23456)
    assert (shown["age_s"], shown["received"], shown["sent"]) == (1.235, 11, 22)


# a service that speaks unasked


def speaking(*pieces: Piece | None, out: bytes = b"", **times: Any) -> Served:
    """A session whose service says ``pieces`` one after the other."""
    s = served(out=out, service=Greeting(b"", bytes, iter(pieces).__next__), **times)
    s.session.open()
    s.stream.calls.clear()
    return s


def test_a_service_that_speaks_waits_for_room_from_the_beginning() -> None:
    """It does not speak before the socket has room."""
    s = served(service=Greeting(b"", bytes, iter([b"one"]).__next__))
    s.session.open()
    assert s.stream.calls == ["open", ("watch", IN | OUT)]


def test_a_service_speaks_one_piece_whenever_the_socket_has_room() -> None:
    """To speak is activity."""
    s = speaking(b"one", b"two", b"three")
    s.advance(5.0)
    s.session.room()
    assert (s.stream.calls, s.session.active_at) == ([("send", b"one")], OPENED + 5.0)
    s.session.room()
    assert s.stream.calls[1:] == [("send", b"two")]


def test_a_service_that_has_nothing_to_say_waits_for_its_client() -> None:
    """Its stream no longer wakes the worker, until the client has sent something."""
    s = speaking(b"", b"two")
    s.session.room()
    assert s.stream.calls == [("watch", IN)]
    s.session.answer(b"go on")
    assert s.stream.calls[1:] == [("send", b"go on"), ("watch", IN | OUT)]


def test_a_service_that_has_said_everything_closes() -> None:
    """The server closes in good order."""
    s = speaking(None)
    s.session.room()
    assert s.stream.calls == [("watch", IN), "expect_fin", "send_fin"]
    assert (s.session.stage, s.session.cause) == (Stage.LINGERING, EndCause.DONE)


def test_pending_output_goes_out_before_a_service_speaks_again() -> None:
    """So no more than one piece is ever pending: room is awaited once it has gone."""
    s = speaking(b"one", out=b"pending")
    s.session.answer(b"x")
    assert ("watch", IN | OUT) not in s.stream.calls
    s.stream.out = None
    s.session.output_flushed()
    assert s.stream.calls[-1] == ("watch", IN | OUT)


def test_in_a_graceful_stop_no_service_speaks_unasked() -> None:
    """Its client falls quiet, and then the session parts."""
    s = speaking(b"one")
    s.session.shared.finish_at = OPENED + 10.0
    s.session.room()
    assert s.stream.calls == [("watch", IN)]
    s.advance(QUIET_S)
    s.session.come_due()
    assert (s.session.stage, s.session.cause) == (Stage.LINGERING, EndCause.SHUTDOWN)


def test_a_session_that_ends_no_longer_waits_for_room() -> None:
    """A socket with room would wake the worker again and again."""
    s = speaking(b"one")
    s.session.part(EndCause.IDLE)
    assert s.stream.calls == [("watch", IN), "expect_fin", "send_fin"]
    s.stream.calls.clear()
    s.session.room()  # an event of the same turn
    assert s.stream.calls == [("watch", IN)]


def test_a_client_that_has_finished_gets_the_pending_output_and_no_more() -> None:
    """Then the session ends."""
    s = speaking(b"one", out=b"pending")
    s.session.peer_finished()
    s.stream.out = None
    s.session.output_flushed()
    assert s.ended == [("client_fin", 1)]
