"""A list of access rules, compiled: ``allow``, ``deny``, ``never_deny`` and
``proxy_protocol``.

A list holds networks, so two ranges of addresses are either disjoint or nested. Of
nested ones the widest is kept, and of equal ones the first. The ranges of each family
are then disjoint and sorted, and one binary search finds the entry of a peer. A list of
100,000 entries is compiled in about half a second.

Owns the meaning of an entry, and the form of a list file. Compiled by the
configuration, asked at each accept. Calls unpd.access.network and unpd.access.accounts.
Raises :class:`BadEntries`, a ValueError.

Known gap: a user or a group keeps the number that it had when the list was compiled.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from unpd.access.accounts import Accounts, parse_gid, parse_uid
from unpd.access.network import V4, V6, Network
from unpd.access.peer import UNIX, Peer

FORMS = (
    'an address such as "192.0.2.1", a network such as "192.0.2.0/24" or "2001:db8::/32", "all",'
    ' "private", "loopback", "unix", "uid:NAME" or "gid:NAME", and in the'
    ' configuration "file:/PATH"'
)
WORDS: Mapping[str, tuple[Network, ...]] = MappingProxyType(
    {
        "all": (Network(V4, 0, 0), Network(V6, 0, 0)),
        # RFC 1918 and RFC 4193. Link-local addresses are not among them: each host has
        # one, whatever network it is in, and hosts of other people may share the link.
        "private": tuple(
            Network.parse(text)
            for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
        ),
        "loopback": (Network.parse("127.0.0.0/8"), Network.parse("::1")),
        "unix": (),
    }
)
"""The networks of each word; "all" and "unix" hold for every UNIX peer as well."""


MAX_FAULTS = 100
"""More than an operator reads."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry stands. ``file``: "" if it is unknown. ``line``: 1-based, 0 if it
    is unknown.
    """

    file: str = ""
    line: int = 0


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list as it was written."""

    text: str
    origin: Origin = NOWHERE


class BadEntries(ValueError):
    """Some entries of a list mean nothing. ``faults``: each with its sentence. Its text
    is the sentence about the first.
    """

    def __init__(self, faults: tuple[tuple[Entry, str], ...]) -> None:
        self.faults = faults
        super().__init__(faults[0][1])


def _order(pair: tuple[Network, Entry]) -> int:
    """Sorts networks by their first address, the widest first."""
    return pair[0].first << 8 | pair[0].bits


@dataclass(frozen=True, slots=True)
class EntryRanges:
    """Disjoint ranges of addresses in ascending order: the first and the last number of
    each, and its entry.
    """

    firsts: tuple[int, ...] = ()
    lasts: tuple[int, ...] = ()
    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, networks: list[tuple[Network, Entry]]) -> Self:
        """Keep the widest of nested networks, and the first of equal ones."""
        firsts: list[int] = []
        lasts: list[int] = []
        entries: list[Entry] = []
        last = -1
        # The sort is stable: equal networks stay in the order of the list.
        for network, entry in sorted(networks, key=_order):
            if network.first > last:
                last = network.last
                firsts.append(network.first)
                lasts.append(last)
                entries.append(entry)
        return cls(tuple(firsts), tuple(lasts), tuple(entries))

    def covering(self, first: int, last: int) -> Entry | None:
        """The entry of the range that has all addresses from ``first`` to ``last``."""
        at = bisect_right(self.firsts, first) - 1
        return self.entries[at] if at >= 0 and last <= self.lasts[at] else None

    def overlap(self, first: int, last: int) -> bool:
        """Whether a range has any address from ``first`` to ``last``."""
        at = bisect_right(self.firsts, last) - 1
        return at >= 0 and first <= self.lasts[at]


@dataclass(frozen=True, slots=True)
class Rules:
    """A compiled list; an empty one is false. ``count``: how many entries it was given.
    ``every_unix``: the entry that holds for all UNIX peers. ``users``, ``groups``: the
    entries that name one, by number.
    """

    count: int = 0
    v4: EntryRanges = EntryRanges()
    v6: EntryRanges = EntryRanges()
    every_unix: Entry | None = None
    users: Mapping[int, Entry] = field(default_factory=dict)
    groups: Mapping[int, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Sequence[Entry], accounts: Accounts) -> Self:
        """Compile a list. BadEntries about the first MAX_FAULTS that mean nothing: the
        sentences take longer than the entries.
        """
        draft = _Draft()
        faults: list[tuple[Entry, str]] = []
        for entry in entries:
            try:
                draft.add(entry, accounts)
            except ValueError as error:
                faults.append((entry, str(error)))
                if len(faults) == MAX_FAULTS:
                    break
        if faults:
            raise BadEntries(tuple(faults))
        return cls(
            count=len(entries),
            v4=EntryRanges.of(draft.networks[V4]),
            v6=EntryRanges.of(draft.networks[V6]),
            every_unix=draft.every_unix,
            users=draft.users,
            groups=draft.groups,
        )

    def __len__(self) -> int:
        return self.count

    def overlaps(self, network: Network) -> bool:
        """Whether an entry holds for any address of a network."""
        ranges = self.v4 if network.family == V4 else self.v6
        return ranges.overlap(network.first, network.last)

    def find(self, peer: Peer) -> Entry | None:
        """The entry that holds for a peer, of several the widest; None if none does.

        Of a UNIX peer, an entry for all of them is the widest, then that of its user,
        then those of its groups in their order.
        """
        family, number, _, _ = peer
        if family == UNIX:
            return self.every_unix or self._find_account(peer)
        ranges = self.v4 if family == V4 else self.v6
        at = bisect_right(ranges.firsts, number) - 1
        return ranges.entries[at] if at >= 0 and number <= ranges.lasts[at] else None

    def covered_by(self, other: "Rules") -> tuple[tuple[Entry, Entry], ...]:
        """The entries of which ``other`` has every peer, each with the entry there that
        has some of them. Of nested entries only the widest is looked at.
        """
        found: dict[int, tuple[Entry, Entry | None]] = {}
        for entry, by in self._met_by(other):
            before = found.get(id(entry), (entry, by))[1]
            found[id(entry)] = (entry, by and before)
        return tuple((entry, by) for entry, by in found.values() if by is not None)

    def first_beside(self, networks: Sequence[Network]) -> Entry | None:
        """The entry with the lowest address, of those with none of these networks."""
        ranges = [
            (family, *range_)
            for family, own in ((V4, self.v4), (V6, self.v6))
            for range_ in zip(own.firsts, own.lasts, own.entries, strict=True)
        ]
        near = {
            id(entry)
            for family, first, last, entry in ranges
            if any(
                family == network.family and first <= network.last and network.first <= last
                for network in networks
            )
        }
        return next((entry for *_, entry in ranges if id(entry) not in near), None)

    def _met_by(self, other: "Rules") -> Iterator[tuple[Entry, Entry | None]]:
        """Each entry with the one of ``other`` that covers it; an entry with several
        ranges comes several times.
        """
        for own, others in ((self.v4, other.v4), (self.v6, other.v6)):
            for first, last, entry in zip(own.firsts, own.lasts, own.entries, strict=True):
                yield entry, others.covering(first, last)
        if self.every_unix is not None:
            yield self.every_unix, other.every_unix
        for uid, entry in self.users.items():
            yield entry, other.every_unix or other.users.get(uid)
        for gid, entry in self.groups.items():
            yield entry, other.every_unix or other.groups.get(gid)

    def _find_account(self, peer: Peer) -> Entry | None:
        if peer.uid is not None and peer.uid in self.users:
            return self.users[peer.uid]
        return next((self.groups[gid] for gid in peer.gids if gid in self.groups), None)


@dataclass(slots=True)
class _Draft:
    """What the entries of a list mean, while they are read."""

    networks: Mapping[int, list[tuple[Network, Entry]]] = field(
        default_factory=lambda: {V4: [], V6: []}
    )
    every_unix: Entry | None = None
    users: dict[int, Entry] = field(default_factory=dict)
    groups: dict[int, Entry] = field(default_factory=dict)

    def add(self, entry: Entry, accounts: Accounts) -> None:
        """Note an entry. ValueError with one sentence."""
        text = entry.text
        if text.startswith("uid:"):
            self.users.setdefault(parse_uid(text, accounts), entry)
        elif text.startswith("gid:"):
            self.groups.setdefault(parse_gid(text, accounts), entry)
        elif text in WORDS:
            for network in WORDS[text]:
                self.networks[network.family].append((network, entry))
            if text in ("all", "unix"):
                self.every_unix = self.every_unix or entry
        else:
            network = Network.parse(text, FORMS)
            self.networks[network.family].append((network, entry))


def entries_of(text: str, file: str) -> list[Entry]:
    """The entries of a list file: one a line, without comments (from # on) and blank
    lines. ``file``: how the file is named in messages.
    """
    return [
        Entry(stripped, Origin(file, number))
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1)
        if (stripped := line.partition("#")[0].strip())
    ]
