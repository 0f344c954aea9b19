"""Admission and reception without a daemon: what is decided and counted about each
connection, over real shared memory.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.gates import make_gate
from tests.support.memory_sink import MemorySink
from tests.support.scale import many
from unpd.access.decide import ADMITTED, Decision
from unpd.access.network import Network
from unpd.access.peer import Peer
from unpd.access.ranges import Ranges
from unpd.access.rate import Rate
from unpd.access.rules import Entry, Rules
from unpd.access.terms import AccessTerms, OnLimit
from unpd.board import layout
from unpd.board.denied import DeniedWriter
from unpd.board.halted import HaltedWriter
from unpd.board.layout import Master, Service
from unpd.board.memory import Scoreboard, create
from unpd.board.source_lane import SourceLane
from unpd.board.sources import Shape, SourceCounts, Window, window_of
from unpd.board.sources import create as create_sources
from unpd.config.access_lists import THIS_HOST
from unpd.config.times import ServiceTimes
from unpd.logs import Log
from unpd.names import Halt, RefusalReason, Resource
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.admission import CALLERS, Admission, DatagramAdmission, Gate, Hold
from unpd.worker.counted import STALE_S, Shown
from unpd.worker.ledger import Ledger
from unpd.worker.reception import Reception
from unpd.worker.refusals import RefusalLines
from unpd.worker.terms import Terms

COLUMN = 3


def sockaddr(address: str) -> bytes:
    """An address of IPv4 as accept(2) writes it."""
    family = socket.AF_INET.to_bytes(2, "little")
    return family + bytes(2) + socket.inet_aton(address)


@dataclass
class Scene:
    """One process with its gate, and the peers that its sensor has reported."""

    gate: Gate
    row: memoryview
    denied: DeniedWriter
    halted: HaltedWriter
    sensed: list[Peer] = field(default_factory=list)

    def admission(self, terms: AccessTerms, *, sensor: bool = False) -> Admission:
        """The admission of a service."""
        sense = self.sensed.append if sensor else None
        return Admission(terms, COLUMN, self.gate, sense)

    @property
    def open(self) -> int:
        """How many connections of the service are counted."""
        return self.gate.shown.counts.service_open(COLUMN)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A process that counts nothing yet."""
    with contextlib.ExitStack() as stack:
        fd = create()
        stack.callback(os.close, fd)
        board = Scoreboard(fd)
        denied, halted = DeniedWriter(), HaltedWriter()
        yield Scene(make_gate(stack, board, denied, halted), board.row(0), denied, halted)


def admit(
    admission: Admission, fd: int, sockaddr: bytes, now: float
) -> tuple[Decision, Hold | None]:
    """The decision about one connection that comes ``now``."""
    admission.look(now)
    return admission.admit(fd, sockaddr)


def rules(*entries: str) -> Rules:
    """A list of rules."""
    return Rules.of([Entry(text) for text in entries], THIS_HOST)


def test_a_connection_counts_from_its_admission_to_its_end(scene: Scene) -> None:
    """For its service, whatever the terms; for its source, if there is a limit."""
    free = scene.admission(AccessTerms())
    decision, hold = admit(free, -1, sockaddr("192.0.2.1"), 1.0)
    assert (decision, hold, scene.open) == (ADMITTED, None, 1)
    free.left(hold)
    assert scene.open == 0
    limited = scene.admission(AccessTerms(max_per_source=1))
    decision, hold = admit(limited, -1, sockaddr("192.0.2.1"), 1.0)
    assert (decision, scene.open) == (ADMITTED, 1)
    refused, nothing = admit(limited, -1, sockaddr("192.0.2.1"), 1.0)
    assert refused.refusal is not None
    assert (refused.refusal.reason, nothing) == (RefusalReason.MAX_PER_SOURCE, None)
    assert (limited.peer.text, scene.open) == ("192.0.2.1", 1)
    assert admit(limited, -1, sockaddr("192.0.2.2"), 1.0)[0] is ADMITTED
    limited.left(hold)
    assert admit(limited, -1, sockaddr("192.0.2.1"), 1.0)[0] is ADMITTED


def test_a_queue_is_asked_before_the_accept(scene: Scene) -> None:
    """At the limit there is no room; a client that was accepted all the same comes in:
    another process may have taken the last place.
    """
    queue = scene.admission(AccessTerms(max_connections=1))
    assert queue.queues
    assert queue.has_room(1.0)
    _, hold = admit(queue, -1, sockaddr("192.0.2.1"), 1.0)
    assert not queue.has_room(1.0)
    assert not queue.turns_away_at_limit
    assert admit(queue, -1, sockaddr("192.0.2.2"), 1.0)[0] is ADMITTED
    queue.left(hold)
    queue.left(None)
    assert queue.has_room(1.0)
    closing = scene.admission(AccessTerms(max_connections=1, on_limit=OnLimit.REFUSE))
    assert not closing.queues
    assert closing.has_room(1.0)
    assert closing.turns_away_at_limit


@pytest.mark.parametrize(("processes", "room"), [(1, 40), (2, 20), (16, 2), (64, 1)])
def test_a_process_takes_its_share_of_a_rate(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, processes: int, room: int
) -> None:
    """All together take no more, if they ask at the same moment; but one while there is
    room. A limit of connections has room for one at a time, and a pause for none.
    """
    monkeypatch.setattr(SourceCounts, "processes", processes)
    rated = scene.admission(AccessTerms(accept_rate=Rate.parse("40/s")))
    assert rated.room(1.0) == room
    limited = AccessTerms(accept_rate=Rate.parse("40/s"), max_connections=500)
    assert scene.admission(limited).room(1.0) == 1
    for _ in range(40):
        admit(rated, -1, sockaddr("192.0.2.1"), 1.0)
    assert rated.room(1.0) == 0
    scene.halted.show({COLUMN: Halt.PAUSED})
    assert scene.admission(AccessTerms()).room(1.0) == 0


def test_what_is_reserved_counts_until_it_is_released(scene: Scene) -> None:
    """Of a reservation, those that were let in count once, and the others no more."""
    terms = AccessTerms(deny=rules("192.0.2.2"), accept_rate=Rate.parse("40/s"))
    rated, other = scene.admission(terms), scene.admission(terms)
    assert rated.reserve(16, 1.0) == 16
    assert other.room(1.0) == 40 - 16
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        admit(rated, -1, sockaddr(address), 1.0)
    assert other.room(1.0) == 40 - 16
    rated.release()
    assert other.room(1.0) == 40 - 2
    rated.release()
    assert other.room(1.0) == 40 - 2
    assert [rated.reserve(100, 1.0), rated.reserve(100, 1.0)] == [38, 0]
    assert scene.admission(AccessTerms()).reserve(7, 1.0) == 7
    scene.halted.show({COLUMN: Halt.PAUSED})
    assert rated.reserve(16, 9.0) == 0
    scene.halted.show({COLUMN: Halt.REFUSING})
    assert (rated.reserve(16, 9.0), other.room(9.0)) == (1, 1)  # it may end at once
    rated.release()
    scene.halted.show({})
    assert other.room(9.0) == 40


class Interrupted(SourceCounts):
    """Counts of one process. Before and after each look at a rate, other processes may
    run: ``interrupt`` says so.
    """

    interrupt: Callable[[], None]

    def service_rate(self, column: int, window: Window) -> tuple[int, int, float]:
        """As without that."""
        self.interrupt()
        found = super().service_rate(column, window)
        self.interrupt()
        return found


@settings(max_examples=many(1000, at_least=60), deadline=None)
@given(turns=st.lists(st.booleans(), max_size=60), processes=st.integers(1, 4))
@example(turns=[True, True, *5 * [False], True], processes=2)  # both take their share
def test_each_other_process_takes_one_too_many_at_most(turns: list[bool], processes: int) -> None:
    """Wherever in a reservation the others run, and however often: at each look, they
    take a turn for each that is true, up to the first that is not.
    """
    burst, left, admitted = 40, [*turns], 0
    with contextlib.ExitStack() as stack:
        memory = create_sources(Shape(buckets=64, entries=4))
        stack.callback(memory.close)
        idle: list[Admission] = []

        def interrupt() -> None:
            while idle and left and left.pop():
                serve(idle.pop())

        def serve(admission: Admission) -> int:
            """Take out of a queue that never ends what may be taken."""
            nonlocal admitted
            room = admission.reserve(16, 1.0)
            for _ in range(room):
                admit(admission, -1, sockaddr("192.0.2.1"), 1.0)
            admission.release()
            admitted += room
            assert admitted < burst + processes
            idle.append(admission)
            return room

        for row in range(processes):
            counts = Interrupted(memory, lambda: processes)
            counts.interrupt = interrupt
            shown = Shown(memory, counts, DeniedWriter().denied, HaltedWriter().halted, ())
            terms = AccessTerms(accept_rate=Rate.parse(f"{burst}/s"))
            idle.append(Admission(terms, COLUMN, Gate(shown, SourceLane(memory, row))))
        while serve(idle.pop()):
            pass
        assert admitted >= burst
        now = SourceCounts(memory, lambda: processes).service_rate(COLUMN, window_of(1.0, 1.0))
        assert now[0] == admitted


@pytest.mark.parametrize(
    "terms",
    [
        AccessTerms(max_per_source=10),
        AccessTerms(accept_rate_per_source=Rate.parse("10/s")),
        AccessTerms(max_per_source=10, accept_rate_per_source=Rate.parse("99/s")),
    ],
)
def test_clients_of_one_moment_count_for_all_processes(terms: AccessTerms) -> None:
    """Two processes that have counted nobody yet have clients of one source at once,
    and decide about them in turn: they let in no more than one process would.
    """
    with contextlib.ExitStack() as stack:
        memory = create_sources(Shape(buckets=64, entries=4))
        stack.callback(memory.close)
        counts = SourceCounts(memory, lambda: 2)
        shown = Shown(memory, counts, DeniedWriter().denied, HaltedWriter().halted, ())
        both = [Admission(terms, COLUMN, Gate(shown, SourceLane(memory, row))) for row in range(2)]
        for admission in both:
            admission.look(1.0)
        decisions = [each.admit(-1, sockaddr("192.0.2.1"))[0] for _ in range(16) for each in both]
        assert sum(decision is ADMITTED for decision in decisions) == 10


def test_a_rate_counts_what_was_let_in(scene: Scene) -> None:
    """What was refused does not count, so the rate heals in a flood."""
    terms = AccessTerms(accept_rate_per_source=Rate.parse("2/s"))
    admission = scene.admission(terms)
    said = [admit(admission, -1, sockaddr("192.0.2.1"), 10.1)[0].refusal for _ in range(9)]
    assert [verdict is None for verdict in said] == [True, True, *[False] * 7]
    assert admit(admission, -1, sockaddr("192.0.2.2"), 10.1)[0] is ADMITTED
    assert admit(admission, -1, sockaddr("192.0.2.1"), 12.1)[0] is ADMITTED
    assert scene.admission(AccessTerms(accept_rate=Rate.parse("1/s"))).queues


def test_what_is_observed_is_what_would_be_refused(scene: Scene) -> None:
    """A connection that is let in only because a limit is observed does not count for
    that limit, nor when it ends.
    """
    limits = {"max_per_source": 2, "max_connections": 3, "on_limit": OnLimit.REFUSE}
    enforced = scene.admission(AccessTerms(**limits))  # type: ignore[arg-type]
    observed = scene.admission(
        AccessTerms(observe=frozenset(RefusalReason), **limits)  # type: ignore[arg-type]
    )
    visits = ["192.0.2.1"] * 4 + ["192.0.2.2"] * 3
    for _ in range(2):
        refused, would, holds = 0, 0, []
        for address in visits:
            decision, hold = admit(enforced, -1, sockaddr(address), 1.0)
            refused += decision.refusal is not None
            if decision.refusal is None:
                holds.append(hold)
        for hold in holds:
            enforced.left(hold)
        assert scene.open == 0
        holds = []
        for address in visits:
            decision, hold = admit(observed, -1, sockaddr(address), 1.0)
            would += bool(decision.observed)
            holds.append(hold)
        for hold in holds:
            observed.left(hold)
        assert scene.open == 0
        assert would == refused == 4


def test_forged_datagrams_use_up_no_rate_of_connections(scene: Scene) -> None:
    """Neither that of their source nor that of the service."""
    terms = AccessTerms(
        accept_rate=Rate.parse("3/s"),
        accept_rate_per_source=Rate.parse("2/s"),
        on_limit=OnLimit.REFUSE,
    )
    datagrams = DatagramAdmission(terms, COLUMN, scene.gate)
    peer = Peer(4, (192 << 24) + 513)
    said = [datagrams.admit(peer, 5.1).refusal is None for _ in range(5)]
    assert said == [True, True, False, False, False]
    assert datagrams.admit(Peer(4, 1), 5.1).refusal is None
    refusal = datagrams.admit(Peer(4, 2), 5.1).refusal
    assert refusal is not None
    assert refusal.reason is RefusalReason.ACCEPT_RATE
    assert admit(scene.admission(terms), -1, sockaddr("192.0.2.1"), 5.1)[0] is ADMITTED


def test_a_sensor_reports_whom_it_lets_in(scene: Scene) -> None:
    """Not the sources that no sensor denies, nor those that its own rules refuse."""
    terms = AccessTerms(deny=rules("192.0.2.2"), never_deny=rules("192.0.2.3"))
    sensor = scene.admission(terms, sensor=True)
    for last in range(1, 5):
        admit(sensor, -1, sockaddr(f"192.0.2.{last}"), 1.0)
    assert [peer.text for peer in scene.sensed] == ["192.0.2.1", "192.0.2.4"]


def test_a_sensor_reports_the_client_and_not_the_load_balancer(scene: Scene) -> None:
    """A health check denies nobody."""
    terms = AccessTerms(proxies=rules("192.0.2.9"), never_deny=rules("192.0.2.3"))
    sensor = scene.admission(terms, sensor=True)
    proxy = Peer(4, (192 << 24) + 521)
    for told in (Peer(4, (192 << 24) + 513), Peer(4, (192 << 24) + 515), None):
        assert sensor.arrive(proxy, 1.0) is ADMITTED
        if told is None:
            decision, _ = sensor.admit_local(proxy, 1.0)
        else:
            decision, _ = sensor.admit_told(told, 1.0)
        assert decision is ADMITTED
    assert [peer.text for peer in scene.sensed] == ["192.0.2.1"]
    assert scene.open == 3


def test_a_sensor_that_observes_says_whom_it_would_deny(scene: Scene) -> None:
    """It reports nobody to the master. What is denied would be the source, or the
    client alone if its neighbours are never denied.
    """
    terms = AccessTerms(source_prefix_v4=24, sensor_observes=True, never_deny=rules("192.0.2.3"))
    sensor = scene.admission(terms, sensor=True)
    denied: list[str] = []
    for address in ("192.0.2.1", "192.0.2.3", "198.51.100.7"):
        decision, _ = admit(sensor, -1, sockaddr(address), 1.0)
        assert decision.refusal is None
        for verdict in decision.observed:
            assert verdict.reason is RefusalReason.DENIED
            assert verdict.rule is not None
            denied.append(verdict.rule.text)
    assert denied == ["192.0.2.1", "198.51.100.0/24"]
    assert scene.sensed == []


def test_a_denial_of_a_load_balancer_holds_at_once(scene: Scene) -> None:
    """As that of a client does: its header is not awaited."""
    scene.denied.publish(Ranges(4, [Network.parse("192.0.2.0/24")]).words, Ranges(6).words)
    peer = Peer(4, (192 << 24) + 521)
    proxies = rules("192.0.2.9")
    refusal = scene.admission(AccessTerms(proxies=proxies)).arrive(peer, 1.0).refusal
    assert refusal is not None
    assert refusal.rule is not None
    assert (refusal.reason, refusal.rule.text) == (RefusalReason.DENIED, "192.0.2.0/24")


def test_old_figures_of_the_master_refuse_nobody(scene: Scene) -> None:
    """It samples how busy the machine is. If it is stopped, the last figure must not
    close a service for as long.
    """
    master = cast("memoryview", scene.gate.shown.master)
    master[Master.LOAD] = 900
    master[Master.PRESSURE] = 9000
    master[Master.BEAT_NS] = 100 * layout.NS
    for terms in (AccessTerms(max_load=8.0), AccessTerms(max_pressure=((Resource.CPU, 80.0),))):
        admission = scene.admission(terms)
        assert admit(admission, -1, sockaddr("192.0.2.1"), 100.0 + STALE_S)[0].refusal is not None
        assert admit(admission, -1, sockaddr("192.0.2.1"), 100.1 + STALE_S)[0] is ADMITTED


def test_a_unix_peer_is_known_by_its_user(scene: Scene) -> None:
    """And by its groups."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for entry, admitted in (
            (f"uid:{os.getuid()}", True),
            (f"gid:{os.getgid()}", True),
            ("uid:12345", False),
        ):
            admission = scene.admission(AccessTerms(allow=rules(entry)))
            decision, _ = admit(admission, ours.fileno(), b"\x01\x00", 1.0)
            assert (decision.refusal is None) == admitted


def test_an_address_that_has_come_before_is_decided_as_at_first(scene: Scene) -> None:
    """By the lists, by a denial that came meanwhile, by counts and by a halt."""
    terms = AccessTerms(deny=rules("192.0.2.2"), allow=rules("192.0.2.0/24"), max_per_source=3)
    admission = scene.admission(terms)

    def reason(address: str) -> RefusalReason | None:
        refusal = admit(admission, -1, sockaddr(address), 1.0)[0].refusal
        return refusal.reason if refusal else None

    for _ in range(3):
        assert reason("192.0.2.1") is None
        assert reason("192.0.2.2") is RefusalReason.DENY
        assert reason("198.51.100.1") is RefusalReason.ALLOW
    assert reason("192.0.2.1") is RefusalReason.MAX_PER_SOURCE
    scene.denied.publish(Ranges(4, [Network.parse("192.0.2.1")]).words, Ranges(6).words)
    assert reason("192.0.2.1") is RefusalReason.DENIED
    assert reason("192.0.2.2") is RefusalReason.DENY
    scene.halted.show({COLUMN: Halt.REFUSING})
    assert {reason(f"192.0.2.{last}") for last in (1, 2, 3)} == {RefusalReason.PAUSED}


def test_no_unix_peer_passes_for_an_address(scene: Scene) -> None:
    """Whatever the name to which it has bound its socket."""
    admission = scene.admission(AccessTerms(allow=rules("192.0.2.1")))
    assert admit(admission, -1, sockaddr("192.0.2.1"), 1.0)[0] is ADMITTED
    name = b"\x00\x00" + sockaddr("192.0.2.1")[4:]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for _ in range(2):
            refusal = admit(admission, ours.fileno(), b"\x01\x00" + name, 1.0)[0].refusal
            assert refusal is not None
            assert refusal.reason is RefusalReason.ALLOW


def test_a_flood_of_addresses_is_forgotten(scene: Scene) -> None:
    """Memory stays bounded, and each is decided as at first."""
    admission = scene.admission(AccessTerms(deny=rules("10.0.0.0/16")))
    refused = 0
    for number in range(3 * CALLERS):
        address = f"10.{number % 2}.{number // 256 % 256}.{number % 256}"
        refused += admit(admission, -1, sockaddr(address), 1.0)[0].refusal is not None
        assert len(admission.callers) <= CALLERS
    assert refused == 3 * CALLERS / 2


def test_datagrams_are_never_open(scene: Scene) -> None:
    """Rules and rates hold for them."""
    terms = AccessTerms(deny=rules("192.0.2.2"), accept_rate=Rate.parse("1/s"))
    admission = DatagramAdmission(replace(terms, on_limit=OnLimit.REFUSE), COLUMN, scene.gate)
    one, other = Peer(4, (192 << 24) + 513), Peer(4, (192 << 24) + 514)
    assert admission.admit(one, 5.1) is ADMITTED
    refused = [admission.admit(peer, 5.1).refusal for peer in (one, other)]
    assert [verdict and verdict.reason for verdict in refused] == [
        RefusalReason.ACCEPT_RATE,
        RefusalReason.DENY,
    ]
    assert scene.open == 0


def test_rules_for_datagrams_can_be_tried_and_denials_hold(scene: Scene) -> None:
    """A rule that is only observed lets a datagram in, and says that it would refuse
    it. A live denial holds from the next datagram on, for those that it names.
    """
    observe = frozenset((RefusalReason.DENY,))
    terms = AccessTerms(deny=rules("192.0.2.2"), observe=observe)
    admission = DatagramAdmission(terms, COLUMN, scene.gate)
    one, other = Peer(4, (192 << 24) + 513), Peer(4, (192 << 24) + 514)
    assert admission.admit(one, 1.0) is ADMITTED
    observed = admission.admit(other, 1.0)
    assert observed.refusal is None
    assert [verdict.reason for verdict in observed.observed] == [RefusalReason.DENY]
    scene.denied.publish(Ranges(4, [Network.parse("192.0.2.1")]).words, Ranges(6).words)
    refusal = admission.admit(one, 1.0).refusal
    assert refusal is not None
    assert refusal.reason is RefusalReason.DENIED
    assert admission.admit(other, 1.0).refusal is None


def test_who_is_turned_away_is_counted_and_may_read_why(scene: Scene) -> None:
    """A banner goes to clients that rules refuse; at a limit only if on_limit says so.
    Of several reasons that are observed, the first counts.
    """
    text = b"go away\r\n"
    terms = AccessTerms(
        deny=rules("192.0.2.1"), max_per_source=1, on_limit=OnLimit.REFUSE, banner_refused=text
    )
    observed = replace(terms, observe=frozenset((RefusalReason.DENY, RefusalReason.MAX_PER_SOURCE)))
    memory = MemorySink()
    service = Terms(
        name="echo",
        service=Echo(EchoOptions()),
        times=ServiceTimes(1.0, 0.0, 1.0),
        words=layout.service_cells(COLUMN),
    )
    reception = Reception(
        Ledger(scene.row, [service]), RefusalLines(Log(memory.sink, "info", "json"))
    )

    def come(terms: AccessTerms, address: str) -> bytes:
        here, there = socket.socketpair()
        there.sendall(b"hello")
        admission = scene.admission(terms)
        entered = reception.admit(
            replace(service, admission=admission), [(here.detach(), sockaddr(address))], 1.0
        )
        for fd, _, hold, _ in entered:
            admission.left(hold)
            os.close(fd)
        with there, contextlib.suppress(ConnectionResetError):
            return b"in" if entered else there.recv(99)
        return b""

    assert come(terms, "192.0.2.1") == text
    key = scene.gate.shown.sources.key(COLUMN, socket.inet_aton("192.0.2.9"))
    token = scene.gate.lane.source_opened(key, 1.0)
    assert come(terms, "192.0.2.9") == b""
    assert come(replace(terms, on_limit=OnLimit.BANNER), "192.0.2.9") == text
    assert come(observed, "192.0.2.1") == b"in"
    scene.gate.lane.source_closed(token)
    words = scene.row[layout.service_cells(COLUMN) :]
    deny = layout.REFUSAL_REASONS.index(RefusalReason.DENY)
    per_source = layout.REFUSAL_REASONS.index(RefusalReason.MAX_PER_SOURCE)
    assert (words[Service.REFUSED + deny], words[Service.REFUSED + per_source]) == (1, 2)
    assert words[Service.WOULD_REFUSE + deny] == 1
    assert words[Service.WOULD_REFUSE + per_source] == 0


def test_clients_of_one_turn_count_for_each_other(scene: Scene) -> None:
    """Also the first ones of a process: of three that come at once from a source that
    may have two, the last is refused.
    """
    service = Terms(
        name="echo",
        service=Echo(EchoOptions()),
        times=ServiceTimes(1.0, 0.0, 1.0),
        words=layout.service_cells(COLUMN),
        admission=scene.admission(AccessTerms(max_per_source=2)),
    )
    lines = RefusalLines(Log(MemorySink().sink, "info", "json"))
    reception = Reception(Ledger(scene.row, [service]), lines)
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(3)]
        for there in (there for pair in pairs for there in pair[1:]):
            stack.enter_context(there)
        fds = [here.detach() for here, _ in pairs]
        entered = reception.admit(service, [(fd, sockaddr("192.0.2.1")) for fd in fds], 1.0)
        for fd, *_ in entered:
            os.close(fd)
    assert [fd for fd, *_ in entered] == fds[:2]


# --- a service that is halted ---------------------------------------------------------


def test_a_pause_lets_clients_wait(scene: Scene) -> None:
    """None is taken out of the accept queue, and no limit holds them back. One that was
    taken out before comes in.
    """
    admission = scene.admission(AccessTerms())
    assert (admission.queues, admission.has_room(1.0)) == (False, True)
    scene.halted.show({COLUMN: Halt.PAUSED})
    assert (admission.queues, admission.has_room(1.0)) == (True, False)
    assert admission.holding(1.0) is None
    assert admit(admission, -1, sockaddr("192.0.2.1"), 1.0)[0] is ADMITTED
    scene.halted.show({})
    assert (admission.queues, admission.has_room(1.0)) == (False, True)


@pytest.mark.parametrize(
    ("halt", "reason"),
    [
        (Halt.REFUSING, RefusalReason.PAUSED),
        (Halt.DRAINING, RefusalReason.DRAINING),
    ],
)
@pytest.mark.parametrize("terms", [AccessTerms(), AccessTerms(max_per_source=5)])
def test_a_halt_refuses_before_any_rule(
    scene: Scene, halt: Halt, reason: RefusalReason, terms: AccessTerms
) -> None:
    """Clients, load balancers, those that they tell, and senders of datagrams. Nothing
    is counted for them.
    """
    scene.halted.show({COLUMN: halt})
    admission, peer = scene.admission(terms), Peer(4, (192 << 24) + 513)
    assert admission.has_room(1.0)
    assert admission.turns_away_at_limit
    decisions = [
        admit(admission, -1, sockaddr("192.0.2.1"), 1.0)[0],
        admission.arrive(peer, 1.0),
        admission.admit_told(peer, 1.0)[0],
        DatagramAdmission(terms, COLUMN, scene.gate).admit(peer, 1.0),
    ]
    assert [each.refusal.reason for each in decisions if each.refusal] == [reason] * 4
    assert scene.open == 0
    scene.halted.show({COLUMN + 1: halt})
    assert admit(admission, -1, sockaddr("192.0.2.1"), 1.0)[0] is ADMITTED
    assert not admission.turns_away_at_limit


def test_no_limit_keeps_clients_that_will_be_turned_away(scene: Scene) -> None:
    """They do not wait in the queue of a full service that is drained."""
    admission = scene.admission(AccessTerms(max_connections=1))
    admit(admission, -1, sockaddr("192.0.2.1"), 1.0)
    assert not admission.has_room(1.0)
    scene.halted.show({COLUMN: Halt.DRAINING})
    assert admission.has_room(1.0)
    scene.halted.show({COLUMN: Halt.PAUSED})
    assert not admission.has_room(1.0)


def test_a_pause_refuses_datagrams(scene: Scene) -> None:
    """No queue keeps them."""
    datagrams = DatagramAdmission(AccessTerms(), COLUMN, scene.gate)
    peer = Peer(4, (192 << 24) + 513)
    assert datagrams.admit(peer, 1.0) is ADMITTED
    scene.halted.show({COLUMN: Halt.PAUSED})
    refusal = datagrams.admit(peer, 1.0).refusal
    assert refusal is not None
    assert (refusal.reason, datagrams.peer) == (RefusalReason.PAUSED, peer)
