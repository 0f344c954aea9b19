"""The live denials: which networks may not connect, since when, until when, and why.

An operator adds denials and takes them back (``unpd deny``, ``unpd undeny``); a sensor
adds the addresses that connect to it. The master keeps the list, shares its ranges with
the children (:mod:`unpd.board.denied`), and stores it
(:mod:`unpd.access.stored_denials`).

At most MAX_DENIALS are live. If one more comes, a sensor's oldest goes. A sensor cannot
change what an operator denied, or a client could shorten that by connecting to it.

Pure. Times are seconds of one clock, that of the caller. Errors: DenialError, one
sentence for the operator.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from unpd.access.network import Network
from unpd.access.ranges import Ranges
from unpd.names import MAX_DENIALS

MAX_REASON_CHARACTERS = 200
BULK = 512
"""To drop more denials at once, the ranges are made anew: that takes 0.1 s with 65,536,
but 0.1 ms for each that is dropped alone.
"""


class DenialError(Exception):
    """The list cannot be changed as asked. The text says why, and what would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One denial. ``until``: None for one that holds until it is taken back.
    ``reason``: the operator's words, or "". ``uid``: the user that asked for it; None
    for that of a sensor, which has the name of the ``service``.
    """

    network: Network
    since: float
    until: float | None
    reason: str = ""
    uid: int | None = None
    service: str = ""

    @property
    def of_sensor(self) -> bool:
        """Whether a sensor denied it, and not an operator."""
        return self.uid is None


def checked_reason(text: str) -> str:
    """Return the text if it can be a reason. ValueError."""
    if len(text) > MAX_REASON_CHARACTERS:
        raise ValueError(f"the reason is longer than {MAX_REASON_CHARACTERS} characters")
    if not text.isprintable():
        raise ValueError("the reason must be one line without control characters")
    return text


class Denials:
    """The list. ``limit``: the most denials."""

    def __init__(self, limit: int = MAX_DENIALS) -> None:
        self.ranges = {4: Ranges(4), 6: Ranges(6)}
        self._limit = limit
        self._live: dict[Network, Denial] = {}
        self._of_sensors: OrderedDict[Network, None] = OrderedDict()  # the oldest first
        self._ends: list[tuple[float, Network]] = []  # sorted

    def __len__(self) -> int:
        """How many denials are live."""
        return len(self._live)

    def __iter__(self) -> Iterator[Denial]:
        """The denials, in no order that means anything."""
        return iter(self._live.values())

    def find(self, network: Network) -> Denial | None:
        """The denial of exactly this network."""
        return self._live.get(network)

    def after(self, network: Network | None, limit: int) -> list[Denial]:
        """The denials in the order of their networks: those after ``network`` (None:
        from the first one on), at most ``limit``.
        """
        found: list[Network] = []
        if network is None or network.family == 4:
            found += self.ranges[4].after(network, limit)
            network = None
        found += self.ranges[6].after(network, limit - len(found))
        return [self._live[each] for each in found]

    def add(self, denial: Denial) -> bool:
        """Add a denial, or put it in the place of the one of the same network. False if
        that stays, because it is an operator's, and this one a sensor's.

        DenialError if the list is full of denials of operators.
        """
        network, before = denial.network, self._live.get(denial.network)
        if before is not None:
            if denial.of_sensor and not before.of_sensor:
                return False
            self._forget(before)
        else:
            self._make_room()
            self.ranges[network.family].add(network)
        self._live[network] = denial
        if denial.of_sensor:
            self._of_sensors[network] = None
        if denial.until is not None:
            insort(self._ends, (denial.until, network))
        return True

    def _make_room(self) -> None:
        if len(self._live) < self._limit:
            return
        if not self._of_sensors:
            raise DenialError(
                f"{self._limit} networks are denied, as many as can be, and a sensor denied none of"
                " them: take one back with unpd undeny, or deny a wider network in their place"
            )
        self._drop(self._live[next(iter(self._of_sensors))])

    def remove(self, network: Network) -> Denial:
        """Take back the denial of exactly this network. DenialError, with the nearest
        network around it that is denied, if there is none.
        """
        denial = self._live.get(network)
        if denial is None:
            raise DenialError(self._why_not_listed(network))
        self._drop(denial)
        return denial

    def _why_not_listed(self, network: Network) -> str:
        around = self.around(network)
        if around is None:
            return f"{network} is not denied: unpd denied lists the networks that are"
        return (
            f"{network} is not denied itself, but lies in {around.network}, which is: unpd undeny"
            f" {around.network} takes that back"
        )

    def around(self, network: Network) -> Denial | None:
        """The denial of the smallest network that contains this one and is wider."""
        wider = (
            Network.around(network.family, network.first, bits)
            for bits in range(network.bits - 1, -1, -1)
        )
        return next((self._live[each] for each in wider if each in self._live), None)

    def holding(self, network: Network) -> Denial | None:
        """The denial of the widest network that is this one or contains it, as long as
        it is denied: until the last of all such denials ends. That is the network that
        :attr:`ranges` have.
        """
        widening = (
            Network.around(network.family, network.first, bits) for bits in range(network.bits + 1)
        )
        found = [self._live[each] for each in widening if each in self._live]
        if not found:
            return None
        ends = [each.until for each in found if each.until is not None]
        return replace(found[0], until=max(ends) if len(ends) == len(found) else None)

    @property
    def next_end(self) -> float | None:
        """When the next denial is over; None if none ever is."""
        return self._ends[0][0] if self._ends else None

    def expire(self, now: float) -> list[Denial]:
        """Drop the denials whose time is over, and return them."""
        count = bisect_right(self._ends, now, key=lambda end: end[0])
        over = [self._live[network] for _, network in self._ends[:count]]
        if count > BULK:
            self._drop_many(over)
        else:
            for denial in over:
                self._drop(denial)
        return over

    def _drop_many(self, denials: Iterable[Denial]) -> None:
        """Drop many denials, and make the ranges anew."""
        for denial in denials:
            del self._live[denial.network]
            self._of_sensors.pop(denial.network, None)
        self._ends = [end for end in self._ends if end[1] in self._live]
        self.ranges = {
            family: Ranges(family, (each for each in self._live if each.family == family))
            for family in self.ranges
        }

    def _drop(self, denial: Denial) -> None:
        self._forget(denial)
        del self._live[denial.network]
        self.ranges[denial.network.family].remove(denial.network)

    def _forget(self, denial: Denial) -> None:
        """Take a denial out of the indexes by age and by end."""
        if denial.of_sensor:
            del self._of_sensors[denial.network]
        if denial.until is not None:
            del self._ends[bisect_left(self._ends, (denial.until, denial.network))]
