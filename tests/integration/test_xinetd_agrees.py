"""A real xinetd and unpd let the same clients in: 300 generated pairs of access rules
and visits by synthetic peers.

What xinetd does was seen in live runs of 2.3.15.3 on Debian 12, under libfaketime. Its
model (tests/support/xinetd/model.py) agreed with it on 2,460 pairs, and both tests here
compare the two again.

- An address in both lists is refused, whichever entry is the narrower one. Its log says
  "only_from list and no_access list match equally the address"; its manual says that
  the better match wins.
- ``10.1.0.0`` is 10.1.0.0/16: octets of 0 at the end are wildcards. ``10.1`` is
  10.0.0.1, and ``10.0`` is 10.0.0.0/8. ``0.0.0.0`` and ``10.1.2.3/0`` are all of IPv4.
  An IPv6 address without a mask is that one address, ``::`` too. An entry may have bits
  beyond its mask; unpd refuses such an entry.
- On a socket for both families, IPv4 entries match IPv4 clients, and so does an IPv6
  entry that contains their mapped addresses: ``::/0``, ``::/64``, ``::ffff:10.1.2.3``.
- ``per_source`` counts whole addresses: two clients of one /64 have a place each.
- ``instances = 0``, ``per_source = 0`` and ``only_from`` without a value admit nobody.
- ``cps`` accepts the connection that is too many and closes it, then closes the
  listener for its second number of seconds: "Deactivating service echo due to excessive
  incoming connections". It counts a connection that another attribute refuses.
- ``access_times`` has the minute that ends a range inside: 18:00-18:30 is open at
  18:30:59 and closed at 18:31:00. A range over midnight is an "invalid time interval",
  and the service is not started. On the days on which the clock changes, the time of
  day decides, as in unpd.
- Addresses are checked by the forked child. So a client that the lists refuse holds one
  of the ``instances`` until its child is reaped: with ``instances = 1``, 143 of 200
  clients were refused that came right after one. unpd counts none that it refuses. The
  test waits for the end of such a child, because nothing says when it comes.
"""

import contextlib
import functools
import random
import time
import zoneinfo
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support import operating
from tests.support.daemon import Unpd
from tests.support.faults import namespace, requires_namespaces, requires_tool
from tests.support.launch import Launch
from tests.support.waiting import until
from tests.support.xinetd.daemon import Clock, remove_shared_memory, running_xinetd
from tests.support.xinetd.model import UNPD, XINETD, Quirk
from tests.support.xinetd.pairs import (
    LAST_BURST,
    Arrival,
    Day,
    Pair,
    Visits,
    generate_day,
    predicted,
)
from tests.support.xinetd.rules import Cps, Rules, unpd_keys, unpd_text, xinetd_text
from tests.support.xinetd.visits import Host, Outcomes, add_addresses, pay

DAYS = 5
PAIRS = 60
"""How many pairs a day has: a service for each, and one more, fit into one unpd."""
XINETD_PORT, UNPD_PORT = 2000, 3000
RATE_FORGETS_S = 2.2
"""Two windows of a rate per second are over by then."""
LATE_IN_WINDOW = 0.8
"""A burst that begins in the rest of a second might reach into the next window."""
PATIENCE_S = 10.0

pytestmark = [
    pytest.mark.slow,
    requires_namespaces(),
    requires_tool("xinetd"),
    requires_tool("faketime"),
]

A, B, V6 = map(ip_address, ("10.1.2.3", "10.1.2.4", "2001:db8::1"))
MOMENTS = NOON, SOON, LATER, NIGHT = 1800014400, 1800014403, 1800014700, 1800054000
"""The rounds of the exceptions: 12:00:00, 12:00:03, 12:05 and 23:00 of a day in UTC."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Why unpd does not do as xinetd does, and a pair that shows that it does not."""

    reason: str
    rules: Rules
    visits: Mapping[int, Visits]

    @property
    def pair(self) -> Pair:
        """The pair, with visits in each round."""
        return Pair(self.rules, tuple(self.visits.get(moment, Visits()) for moment in MOMENTS))


EXCEPTIONS: Mapping[Quirk, Disagreement] = MappingProxyType(
    {
        Quirk.COUNTS_REFUSED: Disagreement(
            "Who may not come in could switch the service off for all others.",
            Rules(cps=Cps(2, 3600), no_access=(str(B),)),
            {NOON: Visits(arrivals=(Arrival(B), Arrival(B), Arrival(A)))},
        ),
        Quirk.PAUSES: Disagreement(
            "A rate of unpd refuses what is too much, and never the clients after that.",
            Rules(cps=Cps(2, 3600)),
            {
                NOON: Visits(arrivals=(Arrival(A),) * 3),
                LATER: Visits(arrivals=(Arrival(A),)),
            },
        ),
        Quirk.FORGETS: Disagreement(
            "A fault of xinetd: after a pause it counts from 0, though clients are there (its log:"
            ' "server exit with 0 running servers").',
            Rules(cps=Cps(2, 60), instances=2),
            {
                NOON: Visits(arrivals=(Arrival(A, stays=True),) * 3),
                LATER: Visits(arrivals=(Arrival(A),)),
            },
        ),
        Quirk.AVERAGES: Disagreement(
            "A fault of xinetd: three seconds after a client, cps = 4 lets 13 in at once.",
            Rules(cps=Cps(4, 1)),
            {
                NOON: Visits(arrivals=(Arrival(A),)),
                SOON: Visits(arrivals=(Arrival(A),) * 8),
            },
        ),
        Quirk.WHOLE_IPV6: Disagreement(
            "A fault of xinetd: it takes the entry for the name of a host.",
            Rules(dual_stack=True, only_from=(f"{V6}/128",)),
            {NOON: Visits(arrivals=(Arrival(V6),))},
        ),
        Quirk.NO_MIDNIGHT: Disagreement(
            "xinetd has no ranges over midnight, and does not start a service that names one.",
            Rules(access_times=("22:00-6:00",)),
            {NIGHT: Visits(arrivals=(Arrival(A),))},
        ),
    }
)
"""Every difference that unpd has on purpose and no key takes away. Each must still be
there.
"""


@dataclass(frozen=True, slots=True)
class Translation:
    """Why the same words mean something else in unpd, attributes that show it, and the
    keys that take their place.
    """

    reason: str
    rules: Rules
    keys: Mapping[str, object]


TRANSLATIONS: Mapping[str, Translation] = MappingProxyType(
    {
        "a limit refuses": Translation(
            "By default clients wait at a limit of the service: most come back anyway.",
            Rules(instances=2),
            {"max_connections": 2},
        ),
        "the minute that ends a range": Translation(
            "A range of unpd ends when it says, so that two can touch and 24:00 is an end.",
            Rules(access_times=("8:00-18:30",)),
            {"access_times": ["08:00-18:31"]},
        ),
        "octets of 0 at the end": Translation(
            "An address is that one address, or a typing error would let in a whole network.",
            Rules(only_from=("10.1.0.0",)),
            {"allow": ["10.1.0.0/16"]},
        ),
        "an address of fewer octets": Translation(
            "An error in unpd: people take 10.1 for 10.1.0.0/16, and xinetd for 10.0.0.1.",
            Rules(only_from=("10.1",)),
            {"allow": ["10.0.0.1/32"]},
        ),
        "braces": Translation(
            "An error in unpd: a list of networks says the same.",
            Rules(no_access=("10.1.{2,3}",)),
            {"deny": ["10.1.2.0/24", "10.1.3.0/24"]},
        ),
        "bits beyond the mask": Translation(
            "An error in unpd: the address or the mask is not the one that was meant.",
            Rules(only_from=("10.1.2.3/16", "2001:db8::1/32")),
            {"allow": ["10.1.0.0/16", "2001:db8::/32"]},
        ),
        "only_from without a value": Translation(
            "An empty list lifts the one of [defaults], so it refuses nobody.",
            Rules(only_from=()),
            {"deny": ["all"]},
        ),
        "instances = 0": Translation(
            "A limit of 0 lifts the one of [defaults], so it is no limit.",
            Rules(instances=0),
            {"deny": ["all"]},
        ),
        "per_source = 0": Translation(
            "The same.",
            Rules(per_source=0),
            {"deny": ["all"]},
        ),
        "per_source counts whole addresses": Translation(
            "A client of IPv6 often has a whole /64, and could take every place with it.",
            Rules(dual_stack=True, per_source=1),
            {"max_per_source": 1, "source_prefix_v6": 128},
        ),
        "::/0 matches clients of IPv4": Translation(
            "A client of IPv4 is one on each socket: rules of IPv6 are not about it.",
            Rules(dual_stack=True, only_from=("::/0",)),
            {"allow": ["::/0", "0.0.0.0/0"]},
        ),
    }
)
"""Every difference that the keys of unpd take away, so that the pairs of rules that
both daemons get are not written in the same words.
"""


# the comparison


@pytest.mark.parametrize("number", range(DAYS))
def test_xinetd_and_unpd_let_the_same_clients_in(
    launch: Launch, public: Path, rng: random.Random, number: int
) -> None:
    """Of each pair, both serve the same arrivals, but for the exceptions."""
    day = generate_day(random.Random(rng.getrandbits(64) + number), PAIRS)
    xinetd, unpd = visited(launch, public, day, rests=frozenset({LAST_BURST}))
    assert not (found := differences(day, xinetd, XINETD)), f"the model of xinetd:\n{found}"
    assert not (found := differences(day, unpd, UNPD)), f"xinetd and unpd:\n{found}"


def test_each_exception_is_still_one(launch: Launch, public: Path) -> None:
    """For each exception in the table, there is a pair for which xinetd and unpd
    differ.
    """
    assert set(EXCEPTIONS) == set(Quirk)
    pairs = tuple(exception.pair for exception in EXCEPTIONS.values())
    day = Day("UTC", MOMENTS, (), pairs)
    xinetd, unpd = visited(launch, public, day, rests=frozenset(range(1, len(MOMENTS))))
    agreed = [quirk for quirk, a, b in zip(EXCEPTIONS, xinetd, unpd, strict=True) if a == b]
    assert not agreed, f"no exceptions any more: {agreed}"
    assert not (found := differences(day, xinetd, XINETD)), f"the model of xinetd:\n{found}"
    assert not (found := differences(day, unpd, UNPD)), f"unpd:\n{found}"


@pytest.mark.parametrize("translation", TRANSLATIONS.values(), ids=TRANSLATIONS)
def test_each_translation_is_listed(translation: Translation) -> None:
    """The table says what :func:`unpd_keys` writes for unpd."""
    assert unpd_keys(translation.rules) == {"on_limit": "refuse", **translation.keys}


def visited(
    launch: Launch, directory: Path, day: Day, rests: Collection[int]
) -> tuple[Outcomes, Outcomes]:
    """Pay all visits of ``day`` to xinetd and to unpd. Return what they served. Before
    the rounds ``rests``, wait until the rates of unpd have forgotten all visits.
    """
    clock = Clock(directory / "clock", day.zone)
    clock.set(day.moments[0])
    services = [*(pair.rules for pair in day.pairs), Rules()]

    def rest(number: int) -> None:
        if number in rests:
            wait_s(RATE_FORGETS_S)

    with namespace() as network, network.entered():
        add_addresses(network, day.sources())
        text = xinetd_text(services, XINETD_PORT)
        with (
            running_xinetd(text, directory / "xinetd", clock) as xinetd,
            running_unpd(launch, unpd_text(services, UNPD_PORT), clock) as unpd,
        ):
            hosts = [
                Host(XINETD_PORT, xinetd.settled),
                Host(UNPD_PORT, functools.partial(settled, unpd), into_one_window),
            ]
            pay(day, hosts, clock, rest)
    return hosts[0].outcomes, hosts[1].outcomes


def differences(day: Day, outcomes: Outcomes, quirks: Collection[Quirk]) -> str:
    """Return a paragraph about each pair that was not served as the model predicts."""
    return "\n".join(
        f"{pair.rules}\n  visits {visits_text(day, pair)}\n  served {served}\n  model  {wanted}"
        for pair, served in zip(day.pairs, outcomes, strict=True)
        if served != (wanted := predicted(pair, day, quirks))
    )


def visits_text(day: Day, pair: Pair) -> str:
    """Return the visits with the times in the zone of the daemons."""
    zone = zoneinfo.ZoneInfo(day.zone)
    return ", ".join(
        f"{datetime.fromtimestamp(moment, zone):%H:%M:%S}"
        f" {[f'-{number}' for number in visits.leaves]}"
        f" {[str(arrival.source) + '+' * arrival.stays for arrival in visits.arrivals]}"
        for moment, visits in zip(day.moments, pair.rounds, strict=True)
        if visits != Visits()
    )


# unpd


@contextlib.contextmanager
def running_unpd(launch: Launch, text: str, clock: Clock) -> Iterator[Unpd]:
    """Run unpd with ``text`` on the moved clock for the length of the block."""
    metrics = f'[metrics]\nlisten = "unix://{launch.directory}/metrics.sock"\n'
    unpd = launch(metrics + text, env=clock.environment)
    try:
        yield unpd
        assert unpd.stop() == 0
    finally:
        remove_shared_memory(unpd.pid)


def settled(unpd: Unpd, open_connections: int) -> None:
    """Wait until unpd has given back the places of all other connections."""

    def count() -> int:
        return sum(service["active"] for service in operating.status(unpd)["services"])

    until(
        lambda: count() == open_connections,
        PATIENCE_S,
        lambda: f"{open_connections} open connections of unpd; there are {count()}",
    )


def into_one_window() -> None:
    """Wait, if a burst might not end in the window of the rates in which it begins.
    They are on the clock that moves steadily, and a new one begins with each second.
    """
    phase_s = time.monotonic() % 1
    if phase_s > LATE_IN_WINDOW:
        wait_s(1 - phase_s)


def wait_s(duration_s: float) -> None:
    """Wait until that much time has passed on the clock that moves steadily."""
    end = time.monotonic() + duration_s
    until(lambda: time.monotonic() >= end, duration_s + 1, "the clock to move")
