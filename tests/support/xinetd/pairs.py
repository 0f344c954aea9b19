"""Generates pairs of access rules and visits by synthetic peers.

Owns :class:`Pair` and :class:`Day`. A day has a number of rounds; in each the clocks of
both daemons stand still at one moment, and each pair may have visits. The differential
test pays them. All is drawn from the random numbers of the test, so that its seed
repeats a failure.

A connection may hold a place for a moment after it was refused or has ended, so a pair
with ``instances`` or ``per_source`` has one arrival a round unless the arrivals stay.
"""

import ipaddress
import zoneinfo
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from random import Random

from tests.support.xinetd.model import Quirk, Service, Source
from tests.support.xinetd.rules import DAY_MINUTES, Cps, Rules

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
DATES = (
    date(2027, 1, 15),
    date(2027, 3, 28),  # Europe puts the clock forward
    date(2027, 10, 31),  # Europe puts the clock back
    date(2027, 7, 4),
)
EDGES = 5
"""How many minutes of a day begin or end a range of ``access_times``."""
LAST_BURST = 8
"""The first round after the bursts. The rates of unpd are on the real clock: here the
test waits until they have forgotten the bursts.
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client connects. ``stays``: until it leaves; else it leaves at once."""

    source: Source
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Visits:
    """The visits to one service in one round: first the clients that stayed as the
    ``leaves``-th arrivals of the pair leave, where they were served, then clients
    arrive.
    """

    leaves: tuple[int, ...] = ()
    arrivals: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Rules, and the visits of each round."""

    rules: Rules
    rounds: tuple[Visits, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """Pairs that are tried together. ``moments``: the times of the rounds, in seconds
    since the epoch. ``edges``: the minutes of the day that ranges begin or end with.
    """

    zone: str
    moments: tuple[int, ...]
    edges: tuple[int, ...]
    pairs: tuple[Pair, ...] = ()

    def sources(self) -> set[Source]:
        """Return the addresses of all its clients."""
        return {
            arrival.source
            for pair in self.pairs
            for visits in pair.rounds
            for arrival in visits.arrivals
        }


def predicted(pair: Pair, day: Day, quirks: Collection[Quirk]) -> list[bool]:
    """Return which arrivals of ``pair`` the model of xinetd serves."""
    service = Service(pair.rules, zoneinfo.ZoneInfo(day.zone), quirks)
    staying: dict[int, Source] = {}
    served: list[bool] = []
    for moment, visits in zip(day.moments, pair.rounds, strict=True):
        for number in visits.leaves:
            if number in staying:
                service.leave(staying.pop(number))
        for arrival in visits.arrivals:
            is_served = service.arrive(arrival.source, moment)
            if is_served and arrival.stays:
                staying[len(served)] = arrival.source
            elif is_served:
                service.leave(arrival.source)
            served.append(is_served)
    return served


def generate_day(rng: Random, count: int) -> Day:
    """Return a day with ``count`` pairs: of each sort in turn."""
    day = _empty_day(rng)
    universe = _universe(rng)
    pairs = [SORTS[number % len(SORTS)](rng, day, universe) for number in range(count)]
    return replace(day, pairs=tuple(pairs))


def _empty_day(rng: Random) -> Day:
    """Return a day whose moments are the seconds beside its edges."""
    zone, day = rng.choice(ZONES), rng.choice(DATES)
    edges = sorted(rng.sample(range(1, DAY_MINUTES - 1), EDGES))
    midnight = datetime.combine(day, time(), zoneinfo.ZoneInfo(zone))
    moments = {
        int((midnight + timedelta(minutes=edge, seconds=second)).timestamp())
        for edge in edges
        for second in (-1, 0, 59, 60)
    }
    return Day(zone, tuple(sorted(moments)), tuple(edges))


# peers


@dataclass(frozen=True, slots=True)
class Universe:
    """The addresses of a day's clients: several share a prefix of each length."""

    v4: tuple[Source, ...]
    v6: tuple[Source, ...]

    def peers(self, rng: Random, *, dual_stack: bool) -> list[Source]:
        """Return some peers of one service; they are often neighbours."""
        pool = self.v6 if dual_stack and rng.random() < 0.7 else self.v4
        start = rng.randrange(len(pool))
        neighbours = [pool[(start + step) % len(pool)] for step in range(3)]
        return [*neighbours, rng.choice(self.v4 + self.v6 if dual_stack else self.v4)]


def _universe(rng: Random) -> Universe:
    v4 = [
        ipaddress.IPv4Address(bytes((first, second, third, rng.randrange(256))))
        for first in rng.sample((10, 100, 172, 192, 198, 203), 3)
        for second in rng.sample(range(256), 2)
        for third in rng.sample(range(256), 2)
        for _ in range(3)
    ]
    v6 = [
        ipaddress.IPv6Address(site << 80 | subnet << 64 | rng.getrandbits(rng.choice((4, 64))))
        for site in (rng.getrandbits(16) | 0x20010DB8 << 16 for _ in range(3))
        for subnet in rng.sample(range(1 << 16), 2)
        for _ in range(4)
    ]
    return Universe(tuple(v4), tuple(v6))


# rules


def _lists(rng: Random, peers: Sequence[Source], *, dual_stack: bool) -> Rules:
    """Return rules with one list of addresses or two."""
    which = rng.choice(("only", "no", "both", "both"))

    def drawn() -> tuple[str, ...]:
        count = rng.choice((0, 1, 1, 2, 3, 5))
        return tuple(_entry(rng, rng.choice(peers), dual_stack=dual_stack) for _ in range(count))

    return Rules(
        dual_stack=dual_stack,
        only_from=None if which == "no" else drawn(),
        no_access=None if which == "only" else drawn(),
    )


def _entry(rng: Random, peer: Source, *, dual_stack: bool) -> str:
    """Return an entry of a list, which often matches ``peer`` or its neighbours."""
    if isinstance(peer, ipaddress.IPv6Address):
        return rng.choice((str(peer), f"{peer}/{_length(rng, 128)}", f"{peer}/{_length(rng, 128)}"))
    octets = str(peer).split(".")
    forms = [
        str(peer),
        f"{peer}/{_length(rng, 32)}",
        f"{peer}/{_length(rng, 32)}",
        _wildcard(rng, octets),
        _factors(rng, octets),
        ".".join(octets[: rng.randint(1, 3)]),
    ]
    if dual_stack:
        forms += [f"::ffff:{peer}", f"::ffff:{peer}/{96 + _length(rng, 32)}", "::/0"]
    return rng.choice(forms)


def _length(rng: Random, longest: int) -> int:
    """Return the length of a prefix. Whole octets and the ends are likely."""
    return rng.choice((0, longest, rng.randrange(longest), 8 * rng.randrange(1, longest // 8)))


def _wildcard(rng: Random, octets: Sequence[str]) -> str:
    kept = rng.randint(0, 3)
    return ".".join([*octets[:kept], *["0"] * (4 - kept)])


def _factors(rng: Random, octets: Sequence[str]) -> str:
    kept = rng.randint(0, 3)
    last = [rng.choice((octets[kept], str(rng.randint(1, 223)))) for _ in range(rng.randint(1, 3))]
    return ".".join([*octets[:kept], f"{{{','.join(last)}}}"])


def _times(rng: Random, day: Day) -> tuple[str, ...]:
    """Return ranges between edges of the day, seldom one over midnight."""
    found = []
    for _ in range(rng.choice((1, 1, 2))):
        start, end = sorted(rng.sample(day.edges, 2))
        if rng.random() < 0.1:
            start, end = end, start
        found.append(f"{start // 60}:{start % 60:02}-{end // 60:02}:{end % 60:02}")
    return tuple(found)


# pairs

Sort = Callable[[Random, Day, Universe], Pair]


def _pair_of_lists(rng: Random, day: Day, universe: Universe) -> Pair:
    dual_stack = rng.random() < 0.6
    peers = universe.peers(rng, dual_stack=dual_stack)
    rules = _lists(rng, peers, dual_stack=dual_stack)
    return Pair(rules, _one_a_round(rng, day, peers, 4, stay=0.0))


def _pair_of_times(rng: Random, day: Day, universe: Universe) -> Pair:
    peers = universe.peers(rng, dual_stack=False)
    rules = Rules(access_times=_times(rng, day))
    return Pair(rules, _one_a_round(rng, day, peers, 8, stay=0.0))


def _pair_of_instances(rng: Random, day: Day, universe: Universe) -> Pair:
    dual_stack = rng.random() < 0.5
    peers = universe.peers(rng, dual_stack=dual_stack)
    rules = Rules(dual_stack=dual_stack, instances=rng.choice((0, 1, 1, 2, 3, 4)))
    return Pair(rules, _one_a_round(rng, day, peers, 12, stay=0.8))


def _pair_of_per_source(rng: Random, day: Day, universe: Universe) -> Pair:
    dual_stack = rng.random() < 0.7
    peers = universe.peers(rng, dual_stack=dual_stack)
    rules = Rules(dual_stack=dual_stack, per_source=rng.choice((0, 1, 1, 2, 3)))
    return Pair(rules, _one_a_round(rng, day, peers[:2], 12, stay=0.8))


def _pair_of_cps(rng: Random, day: Day, universe: Universe) -> Pair:
    peers = universe.peers(rng, dual_stack=False)
    rules = Rules(cps=_cps(rng))
    return Pair(rules, _burst(rng, day, peers, rules, stay=False))


def _pair_of_limits(rng: Random, day: Day, universe: Universe) -> Pair:
    """Return limits and lists and times together."""
    dual_stack = rng.random() < 0.5
    peers = universe.peers(rng, dual_stack=dual_stack)
    rules = replace(
        _lists(rng, peers[1:], dual_stack=dual_stack),
        instances=rng.choice((None, 2, 3)),
        per_source=rng.choice((None, 1, 2)),
        access_times=_times(rng, day) if rng.random() < 0.5 else (),
    )
    return Pair(rules, _one_a_round(rng, day, peers[:3], 14, stay=0.8))


def _pair_of_burst_and_limits(rng: Random, day: Day, universe: Universe) -> Pair:
    peers = universe.peers(rng, dual_stack=False)
    rules = Rules(cps=_cps(rng), instances=rng.randint(1, 3), per_source=rng.choice((None, 1, 2)))
    return Pair(rules, _burst(rng, day, peers, rules, stay=True))


def _pair_of_burst_and_lists(rng: Random, day: Day, universe: Universe) -> Pair:
    peers = universe.peers(rng, dual_stack=False)
    rules = replace(_lists(rng, peers[:2], dual_stack=False), cps=_cps(rng))
    return Pair(rules, _burst(rng, day, peers, rules, stay=False))


SORTS: tuple[Sort, ...] = (
    *[_pair_of_lists] * 7,
    *[_pair_of_times] * 4,
    *[_pair_of_instances] * 2,
    *[_pair_of_per_source] * 3,
    *[_pair_of_cps] * 2,
    *[_pair_of_limits] * 4,
    _pair_of_burst_and_limits,
    _pair_of_burst_and_lists,
)
"""A generator for each sort of pair, often those with most forms."""


def _cps(rng: Random) -> Cps:
    return Cps(rng.randint(1, 6), rng.choice((1, 2, 5)))


# visits


def _one_a_round(
    rng: Random, day: Day, peers: Sequence[Source], count: int, stay: float
) -> tuple[Visits, ...]:
    """Return ``count`` arrivals in as many rounds. ``stay``: the part of the clients
    that stays; in each round one of these may leave.
    """
    rounds = [Visits()] * len(day.moments)
    staying: list[int] = []
    chosen = sorted(rng.sample(range(len(rounds)), min(count, len(rounds))))
    for number, at in enumerate(chosen):
        leaves: tuple[int, ...] = ()
        if staying and rng.random() < 0.5:
            leaves = (staying.pop(rng.randrange(len(staying))),)
        arrival = Arrival(rng.choice(peers), rng.random() < stay)
        if arrival.stays:
            staying.append(number)
        rounds[at] = Visits(leaves, (arrival,))
    return tuple(rounds)


def _burst(
    rng: Random, day: Day, peers: Sequence[Source], rules: Rules, *, stay: bool
) -> tuple[Visits, ...]:
    """Return as many arrivals in one round as ``cps`` allows, or a few more or fewer,
    and two single ones much later.
    """
    assert rules.cps is not None
    rounds = [Visits()] * len(day.moments)
    count = rules.cps.count + rng.randint(-1, 3)
    arrivals = tuple(Arrival(rng.choice(peers), stay) for _ in range(count))
    rounds[rng.randrange(LAST_BURST)] = Visits(arrivals=arrivals)
    first, second = sorted(rng.sample(range(LAST_BURST, len(rounds)), 2))
    leaves = tuple(range(count)) if rng.random() < 0.5 else ()
    rounds[first] = Visits(leaves, (Arrival(rng.choice(peers), stay),))
    if rules.cps.count > 1:  # both may come within a second of the real clock
        rounds[second] = Visits(arrivals=(Arrival(rng.choice(peers)),))
    return tuple(rounds)
