"""The ranges that some networks cover: disjoint and sorted, as shared memory has them.

Two networks are disjoint, or one contains the other. So the ranges are those networks
that lie in no other. They are kept up to date with each network that comes or goes, and
not computed when they are needed: with 65,536 networks that would take 20 ms (IPv4) or
36 ms (IPv6), but a change takes 0.1 ms.

Used by :mod:`unpd.access.denials`; :mod:`unpd.board.denied` copies the words. Pure.
Raises nothing for networks that come once and go once.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

from unpd.access.network import Network

_WORD = (1 << 64) - 1


class Ranges:
    """The ranges of one family, 4 or 6.

    ``words``: the ranges by column, as :class:`unpd.board.layout.DeniedHalf` names
    them. A range of IPv4 is one word, its first address and its last; one of IPv6 has a
    column for each half of its first and of its last address.
    """

    def __init__(self, family: int, networks: Iterable[Network] = ()) -> None:
        self._family = family
        self._width = 32 if family == 4 else 128
        self._mask = (1 << self._width) - 1
        # A network is one number here, by which they sort: its first address, and the
        # complement of its last, so that the widest comes first.
        self._all = sorted(map(self._key, networks))
        self._widest: list[int] = []
        columns = 1 if family == 4 else 4
        self.words: tuple[array[int], ...] = tuple(array("Q") for _ in range(columns))
        self._replace(0, 0, self._widest_of(self._all))

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._widest)

    def add(self, network: Network) -> None:
        """Take a network that is not among ours."""
        key = self._key(network)
        insort(self._all, key)
        at = bisect_left(self._widest, key)
        if at and self._last(self._widest[at - 1]) >= network.last:
            return  # it lies in a wider one
        self._replace(at, self._end_of(self._widest, key), (key,))

    def remove(self, network: Network) -> None:
        """Give up a network of ours. Those that it covered stand for themselves."""
        key = self._key(network)
        del self._all[bisect_left(self._all, key)]
        at = bisect_left(self._widest, key)
        if at == len(self._widest) or self._widest[at] != key:
            return
        inner = self._all[bisect_left(self._all, key) : self._end_of(self._all, key)]
        self._replace(at, at + 1, self._widest_of(inner))

    def after(self, network: Network | None, limit: int) -> list[Network]:
        """The networks that sort after ``network`` (None: all), at most ``limit``."""
        start = 0 if network is None else bisect_right(self._all, self._key(network))
        return [self._network(key) for key in self._all[start : start + limit]]

    def _key(self, network: Network) -> int:
        return network.first << self._width | (network.last ^ self._mask)

    def _network(self, key: int) -> Network:
        first, host_bits = key >> self._width, (self._last(key) ^ (key >> self._width)).bit_length()
        return Network(self._family, first, self._width - host_bits)

    def _last(self, key: int) -> int:
        return (key & self._mask) ^ self._mask

    def _end_of(self, keys: Sequence[int], key: int) -> int:
        """Where the networks that lie in that of ``key`` end among sorted ``keys``."""
        return bisect_right(keys, self._last(key) << self._width | self._mask)

    def _widest_of(self, keys: Iterable[int]) -> list[int]:
        """Those of some sorted networks that lie in no other."""
        found: list[int] = []
        last = -1
        for key in keys:
            if key >> self._width > last:
                last = self._last(key)
                found.append(key)
        return found

    def _replace(self, start: int, stop: int, keys: Sequence[int]) -> None:
        """Put the ranges of ``keys`` in the place of some."""
        self._widest[start:stop] = keys
        rows = [self._row(key >> self._width, self._last(key)) for key in keys]
        for column, words in enumerate(self.words):
            words[start:stop] = array("Q", [row[column] for row in rows])

    def _row(self, first: int, last: int) -> tuple[int, ...]:
        """The words of a range."""
        if self._family == 4:
            return (first << 32 | last,)
        return (first >> 64, first & _WORD, last >> 64, last & _WORD)
