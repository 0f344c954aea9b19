"""The log lines about refusals: few, whatever floods, and none of them lost from the
sums.
"""

import json
import math
import select
from collections import Counter
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.clock import ManualClock
from tests.support.memory_sink import MemorySink
from tests.support.observed import Event, contradiction
from unpd.access.decide import Verdict
from unpd.access.network import V4, V6
from unpd.access.peer import UNIX, Peer
from unpd.access.proxy_header import NoHeader
from unpd.access.rules import Entry, Origin
from unpd.logs import Log
from unpd.names import HeaderResult, RefusalReason
from unpd.worker.refusals import MAX_SOURCES, OTHERS, PERIOD_S, RefusalLines

DENY, RATE = RefusalReason.DENY, RefusalReason.ACCEPT_RATE
REFUSED, OBSERVED = "connection.refused", "connection.would_be_refused"


SOMEBODY = Peer(V4, 0xC0000201)
"""192.0.2.1"""


def peer(number: int) -> Peer:
    """One of many peers."""
    return Peer(V6, (0x20010DB8 << 96) + (number << 64))


class Scene:
    """The lines of a process that comes back at ``next_at`` and no sooner, as an idle
    worker does.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sink = MemorySink()
        self.refusals = RefusalLines(Log(self.sink.sink, "info", "json"))

    def refuse(
        self,
        peer: Peer = SOMEBODY,
        verdict: Verdict | RefusalReason = DENY,
        service: str = "echo",
        *,
        observed: bool = False,
    ) -> None:
        """Refuse a connection now."""
        take = self.refusals.would_refuse if observed else self.refusals.refused
        if isinstance(verdict, RefusalReason):
            verdict = Verdict(verdict)
        take(service, peer, verdict, self.clock.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, and the process come back whenever it is time."""
        end = self.clock.now + seconds
        while self.refusals.next_at <= end:
            self.refusals.flush(self.clock.advance_to(self.refusals.next_at))
        self.clock.advance_to(end)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines so far, without their times and levels."""
        found = [json.loads(line) for line in self.sink.lines]
        for line in found:
            del line["time"]
            assert line.pop("level") == "info"
            assert line["count"] > 0
        return found

    @property
    def count(self) -> list[int]:
        """For how many refusals each line stands."""
        return [line["count"] for line in self.lines]


@pytest.fixture
def scene() -> Scene:
    """No refusal yet."""
    return Scene()


def test_the_first_refusal_of_a_source_gives_a_line_at_once(scene: Scene) -> None:
    """It stands for itself alone, and none follows it."""
    scene.refuse()
    line = {
        "event": REFUSED,
        "service": "echo",
        "peer": "192.0.2.1",
        "reason": "deny",
        "count": 1,
    }
    assert scene.lines == [line]
    scene.advance(10.0)
    assert scene.lines == [line]


def test_a_flood_from_one_source_gives_two_lines_in_a_second(scene: Scene) -> None:
    """The first at once, the second for all the others (fault F7: log flood)."""
    for _ in range(1000):
        for _ in range(100):
            scene.refuse()
        scene.advance(0.000999)
    assert scene.count == [1]
    scene.advance(PERIOD_S)
    assert scene.count == [1, 99_999]


def test_a_flood_that_lasts_gives_a_line_a_second(scene: Scene) -> None:
    """Besides the first."""
    for _ in range(100):
        scene.refuse()
        scene.advance(0.1)
    scene.advance(PERIOD_S)
    assert len(scene.count) == 11
    assert sum(scene.count) == 100


def test_a_flood_from_many_sources_gives_a_bounded_number_of_lines(scene: Scene) -> None:
    """As many as the table has room for, and one line for all others of a service
    (fault F7: log flood).
    """
    for number in range(100_000):
        scene.refuse(peer(number), service=f"service-{number % 2}")
        scene.advance(0.00001)
    scene.advance(PERIOD_S)
    *first, last_but_one, last = scene.lines
    assert len(first) == MAX_SOURCES
    assert {line["count"] for line in first} == {1}
    for line, service in ((last_but_one, "service-0"), (last, "service-1")):
        assert line == {
            "event": REFUSED,
            "service": service,
            "peer": OTHERS,
            "reason": "deny",
            "count": 50_000 - MAX_SOURCES // 2,
        }


def test_a_second_has_no_more_lines_than_the_table_has_sources(scene: Scene) -> None:
    """Sources that repeat keep their places: no others get a line of their own, however
    long the flood lasts.
    """
    for _ in range(5):
        before = len(scene.lines)
        for number in range(2 * MAX_SOURCES):
            scene.refuse(peer(number))
            scene.refuse(peer(number))
        scene.advance(PERIOD_S)
        assert len(scene.lines) - before <= MAX_SOURCES + (MAX_SOURCES if not before else 0) + 1
    assert sum(scene.count) == 5 * 4 * MAX_SOURCES


LONGEST_WORD = "\N{GREEK SMALL LETTER ALPHA}" * 5000
"""Longer than any name in a configuration, and each letter of it has six bytes in
JSON.
"""


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_flood_writes_a_bounded_number_of_bytes(style: Literal["json", "text"]) -> None:
    """In each second a process writes at most MAX_SOURCES lines, and four for each
    service, and none of them is longer than PIPE_BUF, however long the names in the
    configuration are, and whoever is refused for whatever (fault F7: log flood).
    """
    memory, clock = MemorySink(), ManualClock()
    refusals = RefusalLines(Log(memory.sink, "info", style, role="worker", pool="default"))
    services = ("a" * 32, "b" * 32)
    verdict = Verdict(DENY, Entry(LONGEST_WORD, Origin(LONGEST_WORD, 1)), 1.234, 5.678)
    fault = NoHeader(HeaderResult.MALFORMED, LONGEST_WORD)
    sources = [peer(number) for number in range(4 * MAX_SOURCES)]
    for _ in range(5):
        before = len(memory.written)
        for count in range(8):
            for service in services:
                for source in sources[count:]:
                    refusals.refused(service, source, verdict, clock.now)
                    refusals.would_refuse(service, source, verdict, clock.now)
                    refusals.no_header(service, source, fault, clock.now)
                refusals.held_back(service, 3, verdict, clock.now)
            clock.advance(PERIOD_S / 8)
        bound = (MAX_SOURCES + 4 * len(services)) * select.PIPE_BUF
        assert 0 < len(memory.written) - before <= bound
        refusals.flush(clock.now)
    assert max(len(line.encode()) for line in memory.lines) < select.PIPE_BUF
    assert len(memory.lines) > 5 * MAX_SOURCES


def test_sources_that_fell_quiet_make_room(scene: Scene) -> None:
    """A source is forgotten when it was not refused for a second: then its next refusal
    gives a line at once, and so does that of another.
    """
    for number in range(MAX_SOURCES):
        scene.refuse(peer(number))
    scene.refuse(SOMEBODY)
    assert len(scene.lines) == MAX_SOURCES
    scene.advance(PERIOD_S)
    assert scene.lines[-1]["peer"] == OTHERS
    scene.refuse(SOMEBODY)
    scene.refuse(peer(0))
    assert [line["peer"] for line in scene.lines[-2:]] == ["192.0.2.1", "2001:db8::"]


def test_a_source_is_a_peer_a_service_and_a_reason(scene: Scene) -> None:
    """Each other of these is another source, and so is one that is only observed."""
    for observed in (False, True):
        for reason in RefusalReason:
            scene.refuse(SOMEBODY, reason, observed=observed)
        for each in (peer(1), Peer(UNIX, uid=0), Peer(UNIX, uid=1)):
            scene.refuse(each, observed=observed)
        scene.refuse(service="daytime", observed=observed)
    number = len(RefusalReason) + 4
    assert scene.count == [1] * 2 * number
    assert Counter(line["event"] for line in scene.lines) == {REFUSED: number, OBSERVED: number}


def test_a_source_of_ipv6_is_a_network(scene: Scene) -> None:
    """A client that changes its address within its /64 has no more lines."""
    for number in range(1000):
        scene.refuse(Peer(V6, (0x20010DB8 << 96) + number))
    scene.clock.advance(PERIOD_S)
    scene.refusals.flush(scene.clock.now)
    assert scene.count == [1, 999]


def test_others_with_several_reasons_say_so(scene: Scene) -> None:
    """The line of those without room names their reason only if it is one; those that
    are observed have a line of their own.
    """
    for number in range(MAX_SOURCES):
        scene.refuse(peer(number))
    scene.refuse(peer(1000), DENY)
    scene.refuse(peer(1001), RATE)
    scene.refuse(peer(1002), DENY)
    scene.refuse(peer(1003), RATE, observed=True)
    scene.refuse(peer(1004), RATE, "daytime")
    scene.advance(PERIOD_S)
    assert [
        (line["event"], line["service"], line["reason"], line["count"])
        for line in scene.lines[MAX_SOURCES:]
    ] == [
        (REFUSED, "echo", "several", 3),
        (OBSERVED, "echo", "accept_rate", 1),
        (REFUSED, "daytime", "accept_rate", 1),
    ]
    assert {line["peer"] for line in scene.lines[MAX_SOURCES:]} == {OTHERS}


def test_a_sum_shows_the_last_values(scene: Scene) -> None:
    """They may have moved since the first refusal. Fields that a refusal has not are
    missing, and the line fits the table of log events.
    """
    for value in (10, 11, 12.00004):
        scene.refuse(verdict=Verdict(RefusalReason.MAX_PER_SOURCE, value=value, limit=10))
    path = "/etc/unpd/unpd.toml"
    scene.refuse(verdict=Verdict(DENY, rule=Entry("192.0.2.0/24", Origin(path, 3))))
    scene.refuse(
        verdict=Verdict(RefusalReason.DENIED, rule=Entry("192.0.2.1", Origin())), observed=True
    )
    scene.advance(PERIOD_S)
    base = {"service": "echo", "peer": "192.0.2.1"}
    limited = {"event": REFUSED, **base, "reason": "max_per_source"}
    listed = {"event": REFUSED, **base, "reason": "deny", "rule": "192.0.2.0/24"}
    denied = {"event": OBSERVED, **base, "reason": "denied", "rule": "192.0.2.1"}
    assert scene.lines == [
        {**limited, "value": 10, "limit": 10, "count": 1},
        {**listed, "file": path, "line": 3, "count": 1},
        {**denied, "count": 1},
        {**limited, "value": 12, "limit": 10, "count": 2},
    ]
    values = [line["value"] for line in scene.lines if "value" in line]
    assert [type(value) for value in values] == [int, int]  # no "12.0"
    for line in scene.lines:
        assert contradiction(Event(line.pop("event"), "info", line)) == ""


def test_clients_that_wait_at_a_limit_have_a_line_a_second(scene: Scene) -> None:
    """For each service, however often its listeners rest; none follows the last one."""
    limit = Verdict(RATE, Entry("accept_rate = 9/s", Origin("unpd.toml", 4)), 9.0, 9.0)
    for _ in range(100):
        scene.refusals.held_back("echo", 3, limit, scene.clock.now)
        scene.refusals.held_back("time", 1, limit, scene.clock.now)
        scene.advance(PERIOD_S / 50)
    scene.advance(10.0)
    lines = [json.loads(line) for line in scene.sink.lines]
    assert Counter(line["service"] for line in lines) == {"echo": 2, "time": 2}
    del lines[0]["time"]
    assert lines[0] == {
        "level": "info",
        "event": "service.at_limit",
        "service": "echo",
        "reason": "accept_rate",
        "value": 9.0,
        "limit": 9.0,
        "rule": "accept_rate = 9/s",
        "file": "unpd.toml",
        "line": 4,
        "waiting": 3,
    }


def test_a_load_balancer_without_headers_has_lines_of_its_own(scene: Scene) -> None:
    """They are summed up like refusals, and apart from these. The sum has the last
    detail; the line fits the table of log events.
    """
    now = scene.clock.now
    late, malformed = NoHeader(HeaderResult.LATE), NoHeader(HeaderResult.MALFORMED, "of 9 bytes")
    scene.refuse()
    for fault in (late, malformed, NoHeader(HeaderResult.MALFORMED, "of 8 bytes"), malformed):
        scene.refusals.no_header("echo", SOMEBODY, fault, now)
    lines = [json.loads(line) for line in scene.sink.lines[1:]]
    assert [(line["level"], line["reason"], line["count"]) for line in lines] == [
        ("warning", "late", 1),
        ("warning", "malformed", 1),
    ]
    scene.refusals.flush(now + PERIOD_S)
    (line,) = [json.loads(line) for line in scene.sink.lines[3:]]
    del line["time"]
    assert line == {
        "level": "warning",
        "event": "connection.no_header",
        "service": "echo",
        "peer": "192.0.2.1",
        "reason": "malformed",
        "detail": "of 9 bytes",
        "count": 2,
    }
    event = Event(line.pop("event"), line.pop("level"), line)
    assert contradiction(event) == ""


def test_an_idle_process_is_due_until_its_sums_are_written(scene: Scene) -> None:
    """One second after the first refusal, and no more when all is quiet."""
    refusals = scene.refusals
    assert refusals.next_at == math.inf
    scene.refuse()
    scene.refuse()
    due_at = scene.clock.now + PERIOD_S
    assert refusals.next_at == due_at
    scene.clock.advance(PERIOD_S / 2)
    refusals.flush(scene.clock.now)
    scene.refuse()
    assert (refusals.next_at, scene.count) == (due_at, [1])
    refusals.flush(scene.clock.advance_to(due_at))
    assert (refusals.next_at, scene.count) == (due_at + PERIOD_S, [1, 2])
    refusals.flush(scene.clock.advance(PERIOD_S))
    assert (refusals.next_at, scene.count) == (math.inf, [1, 2])


def test_a_process_that_exits_writes_its_sums(scene: Scene) -> None:
    """Also those for which it is not time yet."""
    for number in range(MAX_SOURCES + 5):
        scene.refuse(peer(number))
        scene.refuse(peer(number))
    scene.refusals.finish()
    assert sum(scene.count) == 2 * (MAX_SOURCES + 5)
    scene.refusals.finish()
    assert sum(scene.count) == 2 * (MAX_SOURCES + 5)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * MAX_SOURCES),
            st.sampled_from((DENY, RATE)),
            st.sampled_from(("echo", "daytime")),
            st.booleans(),
            st.integers(1, MAX_SOURCES),
            st.sampled_from((0.0, 0.001, 0.4, 3.0)),
        ),
        max_size=60,
    )
)
def test_no_refusal_is_lost_from_the_sums(
    steps: list[tuple[int, RefusalReason, str, bool, int, float]],
) -> None:
    """Whoever is refused and when, the lines of a service stand for all its refusals,
    and those that were observed are apart.
    """
    scene, expected = Scene(), Counter[tuple[str, str]]()
    for first, reason, service, observed, count, pause_s in steps:
        for number in range(first, first + count):
            scene.refuse(peer(number), reason, service, observed=observed)
        expected[OBSERVED if observed else REFUSED, service] += count
        scene.advance(pause_s)
    scene.refusals.finish()
    found = Counter[tuple[str, str]]()
    for line in scene.lines:
        found[line["event"], line["service"]] += line["count"]
    assert found == expected
