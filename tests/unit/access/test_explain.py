"""An explanation looks at every reason that the terms have, and tells the outcome."""

from unpd.access.decide import Moment
from unpd.access.explain import ADMITTED, REFUSED, WAITS, NoCounts, explain
from unpd.access.network import V4
from unpd.access.peer import Peer
from unpd.access.rate import Rate
from unpd.access.rules import Entry, Rules
from unpd.access.terms import AccessTerms, OnLimit
from unpd.config.access_lists import THIS_HOST
from unpd.names import RefusalReason, Resource

PEER = Peer(V4, (192 << 24) + 1)
AT = Moment(100.0, 1_000_000.0)


class Busy(NoCounts):
    """A service with five connections open, three of them of this source."""

    def service_open(self) -> int:
        """Five."""
        return 5

    def source_open(self) -> int:
        """Three."""
        return 3


def test_each_reason_is_looked_at_even_after_a_refusal() -> None:
    """In the order of the decision, with the values that are compared."""
    terms = AccessTerms(
        deny=Rules.of([Entry("192.0.0.0/8")], THIS_HOST),
        max_connections=5,
        max_per_source=4,
        accept_rate_per_source=Rate.parse("3/min"),
        on_limit=OnLimit.REFUSE,
    )
    found = explain(terms, Busy(), PEER, AT)
    assert found.outcome == REFUSED
    found_values = [
        (look.reason, look.verdict is not None, look.value, look.limit) for look in found.looks
    ]
    assert found_values == [
        (RefusalReason.DENIED, False, None, None),
        (RefusalReason.DENY, True, None, None),
        (RefusalReason.MAX_CONNECTIONS, True, 5, 5),
        (RefusalReason.MAX_PER_SOURCE, False, 3, 4),
        (RefusalReason.ACCEPT_RATE_PER_SOURCE, False, 0, 3),
    ]


class Pressed(NoCounts):
    """A machine whose processes wait, and a service to which two clients came."""

    def pressure(self, resource: Resource) -> float | None:
        """More for memory."""
        return 95.0 if resource is Resource.MEMORY else 30.0

    def load(self) -> float | None:
        """Three processes."""
        return 3.0

    def service_rate(self) -> tuple[int, int, float]:
        """Two came."""
        return 2, 0, 0.0


def test_each_resource_is_looked_at() -> None:
    """That before the one that refuses, and that behind it; so are the load and the
    rate of the service.
    """
    terms = AccessTerms(
        max_pressure=((Resource.CPU, 80.0), (Resource.MEMORY, 20.0), (Resource.IO, 29.0)),
        max_load=4.0,
        accept_rate=Rate.parse("3/min"),
    )
    found = explain(terms, Pressed(), PEER, AT)
    assert found.outcome == REFUSED
    found_values = [
        (look.reason, look.resource, look.verdict is not None, look.value, look.limit)
        for look in found.looks
    ]
    assert found_values == [
        (RefusalReason.DENIED, None, False, None, None),
        (RefusalReason.MAX_PRESSURE, Resource.CPU, False, 30.0, 80.0),
        (RefusalReason.MAX_PRESSURE, Resource.MEMORY, True, 95.0, 20.0),
        (RefusalReason.MAX_PRESSURE, Resource.IO, True, 30.0, 29.0),
        (RefusalReason.MAX_LOAD, None, False, 3.0, 4.0),
        (RefusalReason.ACCEPT_RATE, None, False, 2.0, 3),
    ]
    rules = [look.verdict.rule for look in found.looks if look.verdict]
    assert rules == [Entry("max_pressure.memory = 20"), Entry("max_pressure.io = 29")]


def test_a_load_balancer_is_named_by_its_entry() -> None:
    """The answer holds for its own connections. Others are about other clients."""
    terms = AccessTerms(proxies=Rules.of([Entry("192.0.0.0/8")], THIS_HOST))
    found = explain(terms, NoCounts(), PEER, AT)
    assert (found.outcome, found.proxy) == (ADMITTED, Entry("192.0.0.0/8"))
    assert explain(terms, NoCounts(), Peer(V4, 1), AT).proxy is None


def test_a_client_waits_only_if_nothing_refuses_it() -> None:
    """What is observed does neither."""
    full = AccessTerms(max_connections=5)
    assert explain(full, Busy(), PEER, AT).outcome == WAITS
    both = AccessTerms(max_connections=5, max_per_source=3)
    assert explain(both, Busy(), PEER, AT).outcome == REFUSED
    watched = frozenset((RefusalReason.MAX_CONNECTIONS, RefusalReason.MAX_PER_SOURCE))
    observed = AccessTerms(max_connections=5, max_per_source=3, observe=watched)
    found = explain(observed, Busy(), PEER, AT)
    assert found.outcome == ADMITTED
    assert [look.observed for look in found.looks if look.verdict] == [True, True]


def test_rules_alone_know_no_counts() -> None:
    """Rules and times decide, also without a daemon; what limits say is not known."""
    terms = AccessTerms(
        deny=Rules.of([Entry("192.0.0.0/8")], THIS_HOST),
        max_load=3.0,
        max_connections=5,
        max_per_source=4,
        accept_rate=Rate.parse("3/min"),
    )
    found = explain(terms, None, PEER, AT)
    assert found.outcome == REFUSED
    assert [(look.reason, look.known, look.value, look.limit) for look in found.looks] == [
        (RefusalReason.DENIED, False, None, None),
        (RefusalReason.DENY, True, None, None),
        (RefusalReason.MAX_LOAD, False, None, 3.0),
        (RefusalReason.MAX_CONNECTIONS, False, None, 5),
        (RefusalReason.MAX_PER_SOURCE, False, None, 4),
        (RefusalReason.ACCEPT_RATE, False, None, 3),
    ]
    assert explain(terms, None, Peer(V4, 1), AT).outcome == ADMITTED
