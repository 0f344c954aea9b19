"""Decisions: each reason, their order, what is only observed, and the accept queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.accounts import ACCOUNTS
from unpd.access.decide import (
    ADMITTED,
    Admitted,
    Decider,
    Decision,
    LiveDenial,
    Moment,
    Verdict,
)
from unpd.access.peer import UNIX, Peer, parse_peer
from unpd.access.rate import Rate
from unpd.access.rules import Entry, Origin, Rules
from unpd.access.terms import AccessTerms, OnLimit
from unpd.access.times import AccessTimes
from unpd.names import RefusalReason, Resource

NOON = Moment(now=1000.0, wall_s=datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp())
PEER = parse_peer("192.0.2.7", ACCOUNTS)
NETWORK = Entry("192.0.2.0/24", Origin("/etc/unpd/deny.list", 7))
FILE = "/etc/unpd/unpd.toml"
HALTS = (RefusalReason.PAUSED, RefusalReason.DRAINING)
REASONS = tuple(reason for reason in RefusalReason if reason not in HALTS)
"""What a decision may say. A service that is halted is asked before it."""
QUEUED = (RefusalReason.MAX_CONNECTIONS, RefusalReason.ACCEPT_RATE)


def rules(*entries: Entry) -> Rules:
    """A compiled list."""
    return Rules.of(entries, ACCOUNTS)


SET: Mapping[RefusalReason, Any] = {
    RefusalReason.DENY: rules(NETWORK),
    RefusalReason.ALLOW: rules(Entry("10.0.0.0/8")),
    RefusalReason.ACCESS_TIMES: AccessTimes.parse(["22:00-06:00"], UTC),
    RefusalReason.MAX_PRESSURE: ((Resource.CPU, 80.0), (Resource.MEMORY, 20.0)),
    RefusalReason.MAX_LOAD: 4.0,
    RefusalReason.MAX_CONNECTIONS: 100,
    RefusalReason.MAX_PER_SOURCE: 10,
    RefusalReason.ACCEPT_RATE: Rate.parse("100/s burst 200"),
    RefusalReason.ACCEPT_RATE_PER_SOURCE: Rate.parse("5/s"),
}
"""A value of each key, by the reason of that name."""
KEYS = {reason: Entry(f"{reason} = ...", Origin(FILE, line)) for line, reason in enumerate(SET)}
CALLS = {
    RefusalReason.DENIED: ["denial"],
    RefusalReason.MAX_PRESSURE: ["cpu", "memory"],
    RefusalReason.MAX_LOAD: ["load"],
    RefusalReason.MAX_CONNECTIONS: ["service_open"],
    RefusalReason.MAX_PER_SOURCE: ["source_open"],
    RefusalReason.ACCEPT_RATE: ["service_rate"],
    RefusalReason.ACCEPT_RATE_PER_SOURCE: ["source_rate"],
}
"""What is asked of the counts for each reason."""


def terms(*reasons: RefusalReason, **others: Any) -> AccessTerms:
    """Terms with the keys of these reasons, and with those in ``others``."""
    keys: dict[str, Any] = {reason: SET[reason] for reason in reasons if reason in SET}
    return AccessTerms(**({"on_limit": OnLimit.REFUSE, "keys": KEYS} | keys | others))


@dataclass
class Counts:
    """Counts that a test sets; the defaults are at no limit. ``asked``: the methods
    that were called.
    """

    live: LiveDenial | None = None
    pressures: dict[Resource, float | None] = field(
        default_factory=lambda: {Resource.CPU: 80.0, Resource.MEMORY: 20.0}
    )
    average: float | None = 4.0
    open: int = 99
    of_source: int = 9
    rate: Admitted = (0, 398, 0.5)
    rate_of_source: Admitted = (4, 0, 1.0)
    asked: list[str] = field(default_factory=list)

    def denial(self, peer: Peer) -> LiveDenial | None:
        """What was set, for the one peer."""
        assert peer == PEER
        self.asked.append("denial")
        return self.live

    def pressure(self, resource: Resource) -> float | None:
        """What was set."""
        self.asked.append(resource)
        return self.pressures[resource]

    def load(self) -> float | None:
        """What was set."""
        self.asked.append("load")
        return self.average

    def service_open(self) -> int:
        """What was set."""
        self.asked.append("service_open")
        return self.open

    def source_open(self) -> int:
        """What was set."""
        self.asked.append("source_open")
        return self.of_source

    def service_rate(self) -> Admitted:
        """What was set."""
        self.asked.append("service_rate")
        return self.rate

    def source_rate(self) -> Admitted:
        """What was set."""
        self.asked.append("source_rate")
        return self.rate_of_source


def over(**others: Any) -> Counts:
    """Counts for which every limit refuses, and a live denial."""
    counts: dict[str, Any] = {
        "live": LiveDenial(NETWORK, until=1600.0),
        "pressures": {Resource.CPU: 80.0, Resource.MEMORY: 20.01},
        "average": 4.01,
        "open": 100,
        "of_source": 10,
        "rate": (0, 400, 0.5),
        "rate_of_source": (5, 0, 1.0),
    }
    return Counts(**(counts | others))


def key(reason: RefusalReason) -> Entry:
    """The key of a reason as a verdict names it."""
    return KEYS[reason]


TEN_HOURS_S = 36_000.0
VERDICTS = (
    Verdict(RefusalReason.DENIED, NETWORK, frees_at=1600.0),
    Verdict(RefusalReason.DENY, NETWORK),
    Verdict(RefusalReason.ALLOW, key(RefusalReason.ALLOW)),
    Verdict(
        RefusalReason.ACCESS_TIMES,
        key(RefusalReason.ACCESS_TIMES),
        frees_at=NOON.now + TEN_HOURS_S,
    ),
    Verdict(
        RefusalReason.MAX_PRESSURE,
        Entry("max_pressure.memory = 20", key(RefusalReason.MAX_PRESSURE).origin),
        20.01,
        20.0,
    ),
    Verdict(RefusalReason.MAX_LOAD, key(RefusalReason.MAX_LOAD), 4.01, 4.0),
    Verdict(RefusalReason.MAX_CONNECTIONS, key(RefusalReason.MAX_CONNECTIONS), 100, 100),
    Verdict(RefusalReason.MAX_PER_SOURCE, key(RefusalReason.MAX_PER_SOURCE), 10, 10),
    # The half of 400 counts, until a moment later, in windows of two seconds.
    Verdict(RefusalReason.ACCEPT_RATE, key(RefusalReason.ACCEPT_RATE), 200.0, 200, 1000.001),
    # All five were in this window of a second, which ends in a second.
    Verdict(
        RefusalReason.ACCEPT_RATE_PER_SOURCE,
        key(RefusalReason.ACCEPT_RATE_PER_SOURCE),
        5.0,
        5,
        NOON.now + 1.001,
    ),
)
"""The verdict of each reason, in the order of the decision."""


@pytest.mark.parametrize("verdict", VERDICTS, ids=REASONS)
def test_each_reason_refuses_alone(verdict: Verdict) -> None:
    """The verdict has what was compared, the rule, and when the reason will have
    passed.
    """
    denial = LiveDenial(NETWORK, until=1600.0) if verdict.reason is RefusalReason.DENIED else None
    counts = over(live=denial)
    assert Decider(terms(verdict.reason), counts).decide(PEER, NOON) == Decision(verdict)
    asked = [] if verdict.reason is RefusalReason.DENIED else ["denial"]
    assert counts.asked == asked + CALLS.get(verdict.reason, [])


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason in SET])
def test_at_its_edge_no_reason_refuses(reason: RefusalReason) -> None:
    """One connection below a limit, or a pressure that is not above it, is let in; and
    so is a peer beside a network that is denied, or in one that is allowed.
    """
    lists = {"deny": rules(Entry("192.0.2.8")), "allow": rules(NETWORK)}
    others = {reason.value: lists[reason]} if reason in lists else {}
    opened = Moment(NOON.now + TEN_HOURS_S, NOON.wall_s + TEN_HOURS_S)
    at = opened if reason is RefusalReason.ACCESS_TIMES else NOON
    assert Decider(terms(reason, **others), Counts()).decide(PEER, at) is ADMITTED


@pytest.mark.parametrize("first", range(len(REASONS)))
def test_the_order_is_fixed(first: int) -> None:
    """Of all reasons that hold, the first one refuses, and nothing is asked for the
    others.
    """
    counts = over() if first == 0 else over(live=None)
    decision = Decider(terms(*REASONS[first:]), counts).decide(PEER, NOON)
    assert decision == Decision(VERDICTS[first])
    needed = CALLS.get(REASONS[first], [])
    assert counts.asked == (needed if first == 0 else ["denial", *needed])


@pytest.mark.parametrize("first", range(len(REASONS) + 1))
def test_a_reason_that_is_observed_does_not_refuse(first: int) -> None:
    """The decision goes on to the first one that is enforced, and has those before, in
    order; those after it stay out, observed or not.
    """
    observed = frozenset(REASONS[:first]) | frozenset(REASONS[first + 1 :: 2])
    decision = Decider(terms(*REASONS, observe=observed), over()).decide(PEER, NOON)
    refusal = VERDICTS[first] if first < len(VERDICTS) else None
    assert decision == Decision(refusal, VERDICTS[:first])


def test_without_terms_nothing_is_asked_but_denials() -> None:
    """Nobody pays for a limit that is not set."""
    counts = over(live=None)
    assert Decider(AccessTerms(), counts).decide(PEER, NOON) is ADMITTED
    assert Decider(AccessTerms(), counts).holds_back(NOON) is None
    assert counts.asked == ["denial"]


@pytest.mark.parametrize("reason", REASONS)
def test_terms_tell_whether_they_limit_peers(reason: RefusalReason) -> None:
    """Those without a term do not, nor those that only keep clients in the queue."""
    assert terms(reason).limits_peers == (reason is not RefusalReason.DENIED)
    queue = terms(reason, on_limit=OnLimit.QUEUE)
    assert queue.limits_peers == (reason not in (RefusalReason.DENIED, *QUEUED))
    assert bool(queue.queued) == (reason in QUEUED)
    observed = terms(reason, on_limit=OnLimit.QUEUE, observe=frozenset(REASONS))
    assert observed.limits_peers == (reason is not RefusalReason.DENIED)
    refuse = replace(queue, on_limit=OnLimit.REFUSE)
    assert (refuse.decided, refuse.queued) == (terms(reason).decided, ())


def test_a_reason_has_the_name_of_its_term() -> None:
    """A denial has no term, since it holds for all services."""
    names = {each.name for each in fields(AccessTerms)}
    assert {reason.value for reason in RefusalReason} - names == {"paused", "draining", "denied"}
    assert tuple(SET) == REASONS[1:]


def test_an_address_in_both_lists_is_denied() -> None:
    """So it is in xinetd, even if allow has the smaller network."""
    both = terms(deny=rules(NETWORK), allow=rules(Entry("192.0.2.7")))
    assert Decider(both, Counts()).decide(PEER, NOON) == Decision(
        Verdict(RefusalReason.DENY, NETWORK)
    )


def test_an_empty_allow_refuses_nobody() -> None:
    """Any entry in it refuses all that it does not name, UNIX peers too."""
    alone = terms(allow=rules(Entry("10.0.0.0/8")))
    refusal = Decider(alone, AnyPeer()).decide(Peer(UNIX, uid=0), NOON).refusal
    assert refusal == Verdict(RefusalReason.ALLOW, key(RefusalReason.ALLOW))
    assert Decider(terms(allow=rules()), AnyPeer()).decide(Peer(UNIX, uid=0), NOON) is ADMITTED
    assert Decider(terms(allow=rules(Entry("all"))), AnyPeer()).decide(Peer(UNIX), NOON) is ADMITTED


@pytest.mark.parametrize(
    ("deny", "allow", "passes"),
    [
        ((), (), True),
        ((), ("all",), True),
        ((), ("10.0.0.0/8",), False),
        (("10.0.0.0/8",), ("192.0.2.7",), True),
        (("192.0.2.7",), ("192.0.2.0/24",), False),
        (("all",), (), False),
    ],
)
def test_what_the_lists_say_may_be_known(
    deny: tuple[str, ...], allow: tuple[str, ...], passes: bool
) -> None:
    """The decision is then the same, by the reasons before the lists and after them."""
    lists = {"deny": rules(*map(Entry, deny)), "allow": rules(*map(Entry, allow))}
    for observe in (frozenset[RefusalReason](), frozenset(REASONS[1:])):
        both = terms(RefusalReason.MAX_PER_SOURCE, **lists, observe=observe)
        for counts in (Counts(), Counts(of_source=10), over(), over(live=None)):
            decider = Decider(both, counts)
            assert decider.lists_pass(PEER) is passes
            known = passes and counts.denial(PEER) is None
            asked = decider.decide(PEER, NOON)
            assert decider.decide(PEER, NOON, passes=known) == asked


class AnyPeer(Counts):
    """Counts that deny no peer."""

    def denial(self, peer: Peer) -> LiveDenial | None:
        """None."""


def test_a_worker_does_not_know_when_a_denial_ends() -> None:
    """The verdict has the network alone."""
    decision = Decider(terms(), Counts(live=LiveDenial(NETWORK))).decide(PEER, NOON)
    assert decision == Decision(Verdict(RefusalReason.DENIED, NETWORK))


def test_what_is_unknown_refuses_nobody() -> None:
    """Neither a pressure nor a load that the kernel does not tell is a limit; that of
    another resource is.
    """
    unknown = terms(RefusalReason.MAX_PRESSURE, RefusalReason.MAX_LOAD)
    pressures: dict[Resource, float | None] = {Resource.CPU: None, Resource.MEMORY: None}
    assert (
        Decider(unknown, Counts(pressures=pressures, average=None)).decide(PEER, NOON) is ADMITTED
    )
    pressures[Resource.MEMORY] = 21.0
    decision = Decider(unknown, Counts(pressures=pressures)).decide(PEER, NOON)
    assert decision.refusal is not None
    assert decision.refusal.value == 21.0


@pytest.mark.parametrize("missing", REASONS[2:])
def test_a_key_may_be_unknown(missing: RefusalReason) -> None:
    """The verdict is the same without its place."""
    verdict = VERDICTS[REASONS.index(missing)]
    decision = Decider(terms(missing, keys={}), over(live=None)).decide(PEER, NOON)
    rule = Entry("max_pressure.memory = 20") if missing is RefusalReason.MAX_PRESSURE else None
    assert decision == Decision(replace(verdict, rule=rule))


@pytest.mark.parametrize("reason", QUEUED)
def test_a_limit_of_the_service_holds_back(reason: RefusalReason) -> None:
    """It is decided before the accept, and not after it again."""
    queue = terms(reason, on_limit=OnLimit.QUEUE)
    counts = over(live=None)
    assert Decider(queue, counts).holds_back(NOON) == VERDICTS[REASONS.index(reason)]
    assert counts.asked == CALLS[reason]
    counts.asked.clear()
    assert Decider(queue, counts).decide(PEER, NOON) is ADMITTED
    assert counts.asked == ["denial"]
    assert Decider(queue, Counts()).holds_back(NOON) is None


def test_the_room_of_a_rate_is_what_is_left_of_it() -> None:
    """That of connections is one, so that a process which is held up takes no more."""
    queue = terms(RefusalReason.ACCEPT_RATE, on_limit=OnLimit.QUEUE)
    assert Decider(queue, Counts(rate=(0, 380, 0.5))).room() == 10
    assert Decider(queue, Counts(rate=(0, 393, 0.5))).room() == 4
    assert Decider(queue, Counts(rate=(250, 0, 1.0))).room() <= 0


def test_the_room_is_that_of_the_limit_with_the_least() -> None:
    """There is none exactly if a limit holds a client back."""
    queue = terms(*QUEUED, on_limit=OnLimit.QUEUE)
    for are_open, rate, room in (
        (0, (0, 380, 0.5), 1),
        (99, (0, 0, 1.0), 1),
        (100, (0, 0, 1.0), 0),
        (150, (0, 0, 1.0), 0),
        (0, (200, 0, 1.0), 0),
    ):
        decider = Decider(queue, Counts(open=are_open, rate=rate))
        assert decider.room() == room
        assert (decider.holds_back(NOON) is None) is (room > 0)


def test_the_number_of_connections_holds_back_before_the_rate() -> None:
    """The order is that of the decision. Whoever is let out of the queue is decided
    about as everywhere else.
    """
    queue = terms(*REASONS, on_limit=OnLimit.QUEUE)
    assert Decider(queue, over()).holds_back(NOON) == VERDICTS[6]
    assert Decider(queue, over(open=99)).holds_back(NOON) == VERDICTS[8]
    assert Decider(queue, over(open=99, rate=(0, 0, 1.0))).holds_back(NOON) is None
    others = terms(*REASONS, on_limit=OnLimit.QUEUE, observe=frozenset(REASONS))
    assert Decider(others, over()).decide(PEER, NOON) == Decision(None, VERDICTS)


def test_no_limit_of_a_source_holds_back() -> None:
    """It refuses after the accept, since others wait in the same queue."""
    queue = terms(*(set(REASONS) - set(QUEUED)), on_limit=OnLimit.QUEUE)
    assert Decider(queue, over()).holds_back(NOON) is None
    for reason in (RefusalReason.MAX_PER_SOURCE, RefusalReason.ACCEPT_RATE_PER_SOURCE):
        decision = Decider(terms(reason, on_limit=OnLimit.QUEUE), over(live=None)).decide(
            PEER, NOON
        )
        assert decision == Decision(VERDICTS[REASONS.index(reason)])


@pytest.mark.parametrize("on_limit", [OnLimit.REFUSE, OnLimit.BANNER])
def test_a_limit_that_refuses_holds_nobody_back(on_limit: OnLimit) -> None:
    """The client is accepted, so that it learns of the refusal."""
    refuse = terms(*QUEUED, on_limit=on_limit)
    counts = over(live=None)
    assert Decider(refuse, counts).holds_back(NOON) is None
    assert counts.asked == []
    assert Decider(refuse, counts).decide(PEER, NOON) == Decision(VERDICTS[6])


@pytest.mark.parametrize("reason", QUEUED)
def test_a_limit_that_is_observed_holds_nobody_back(reason: RefusalReason) -> None:
    """It counts each client that is let in beyond it, after the accept."""
    queue = terms(reason, on_limit=OnLimit.QUEUE, observe=frozenset((reason,)))
    assert Decider(queue, over()).holds_back(NOON) is None
    decision = Decider(queue, over(live=None)).decide(PEER, NOON)
    assert decision == Decision(None, (VERDICTS[REASONS.index(reason)],))


def test_a_rate_tells_when_it_frees() -> None:
    """At that time, and not before, one more is let in, if none was meanwhile."""
    rate = Rate.parse("100/s burst 200")
    refusal = Decider(
        terms(accept_rate=rate, on_limit=OnLimit.QUEUE), over(rate=(100, 400, 0.9))
    ).holds_back(NOON)
    assert refusal is not None
    assert refusal.frees_at is not None
    passed_s = refusal.frees_at - NOON.now
    for seconds, free in ((passed_s, True), (passed_s - 0.01, False)):
        counts = Counts(rate=(100, 400, 0.9 - seconds / rate.window_s))
        later = Moment(NOON.now + seconds, NOON.wall_s + seconds)
        decision = Decider(terms(accept_rate=rate), counts).decide(PEER, later)
        assert (decision is ADMITTED) == free


def test_the_source_of_the_terms_has_their_prefixes() -> None:
    """One for each family of addresses."""
    prefixes = terms(source_prefix_v4=24, source_prefix_v6=32)
    assert prefixes.source_of(PEER) == bytes((192, 0, 2, 0))
    peers = [parse_peer(text, ACCOUNTS) for text in ("2001:db8:1::1", "2001:db8:2::1")]
    assert len({prefixes.source_of(peer) for peer in peers}) == 1
    assert len({terms().source_of(peer) for peer in peers}) == 2


def test_terms_are_equal_if_they_say_the_same() -> None:
    """A reload compares them."""
    assert terms(*REASONS) == terms(*REASONS)
    for reason in SET:
        assert terms(*REASONS) != terms(*(set(REASONS) - {reason}))
