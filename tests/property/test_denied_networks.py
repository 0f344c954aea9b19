"""A reader of the denied networks while they change: in the middle of a look, and again
and again.
"""

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from unpd.access.network import Network
from unpd.access.ranges import Ranges
from unpd.board.denied import TRIES, Denied, DeniedWriter
from unpd.board.layout import Denied as Words
from unpd.board.layout import DeniedHalf
from unpd.names import MAX_DENIALS

VALUES = (0, 1, 2, 1 << 32, MAX_DENIALS, (1 << 63) - 1, (1 << 64) - 1)
MOST_READS = TRIES * (3 * 17 + 7)
"""A look reads no more words than this: in each try up to 17 for each search (log2 of
65,536, and one), two for the version, one for a count, four for a range.
"""


class Contested:
    """The shared words, of which some may change before each access."""

    def __init__(self, words: list[int], change: Callable[[], None]) -> None:
        self.words = words
        self.accesses = 0
        self._change = change

    def __getitem__(self, at: int) -> int:
        self.accesses += 1
        self._change()
        return self.words[at]

    def __len__(self) -> int:
        return len(self.words)


class Memory(DeniedWriter):
    """A writer whose memory is a list."""

    def __init__(self) -> None:
        self._words = memoryview(bytearray(8 * Words.size)).cast("Q")
        self._version = 0

    @property
    def words(self) -> memoryview:
        """The memory."""
        return self._words

    @property
    def spare(self) -> int:
        """Where the half begins that does not hold now."""
        return Words.HALVES + DeniedHalf.size * ((self._version + 1) & 1)


NUMBERS = {4: (0, 5, 1 << 31, (1 << 32) - 1), 6: (0, 5, 5 << 64, 5 << 64 | 5, (1 << 128) - 1)}
FAMILIES = st.sampled_from([4, 6])
MEMORY = Memory()


EVERYTHING = {
    DeniedHalf.V4_COUNT: 1,
    DeniedHalf.V6_COUNT: 1,
    DeniedHalf.V4: (1 << 32) - 1,
    DeniedHalf.V6_FIRST_HIGH: 0,
    DeniedHalf.V6_FIRST_LOW: 0,
    DeniedHalf.V6_LAST_HIGH: (1 << 64) - 1,
    DeniedHalf.V6_LAST_LOW: (1 << 64) - 1,
}
"""The words of a half in which every address is denied."""


def state(rng: random.Random) -> frozenset[Network]:
    """Some networks, of which many begin alike."""
    found = set()
    for _ in range(rng.randrange(4)):
        family = rng.choice((4, 6))
        width = 32 if family == 4 else 128
        bits = rng.choice((0, width // 2, width - 1, width))
        found.add(Network.around(family, rng.choice(NUMBERS[family]), bits))
    return frozenset(found)


def publish(memory: Memory, networks: frozenset[Network]) -> None:
    """Show these networks."""
    v4, v6 = (
        Ranges(family, (each for each in networks if each.family == family)) for family in (4, 6)
    )
    memory.publish(v4.words, v6.words)


@settings(max_examples=1000)
@given(st.integers(0, 1 << 32), FAMILIES)
def test_a_look_finds_a_state_of_its_time(seed: int, family: int) -> None:
    """Before every access the master may have written any part of a new state, or have
    published whole ones. The answer is that of a state that held at some time during
    the look, unless more changes than TRIES came meanwhile. It never raises, and it
    ends.
    """
    memory, rng = MEMORY, random.Random(seed)
    held = [state(rng)]
    publish(memory, held[0])
    often = rng.choice((3, 10, 30))
    number = rng.choice(NUMBERS[family])

    def change() -> None:
        if not rng.randrange(often):
            for _ in range(rng.choice((1, 1, 1, 2))):
                held.append(state(rng))
                publish(memory, held[-1])
        if rng.randrange(2):  # a part of the next state, in the half that does not hold
            for word, value in EVERYTHING.items():
                if rng.randrange(8):
                    memory.words[memory.spare + word] = rng.choice((0, value, value))

    contested = Contested(memory.words, change)  # type: ignore[arg-type]
    answer = Denied(contested).find(family, number) is not None  # type: ignore[arg-type]
    assert contested.accesses <= MOST_READS
    true = {any(each.holds(family, number) for each in networks) for networks in held}
    assert answer in true or (len(held) > TRIES and not answer)


@given(st.integers(0, 1 << 32), FAMILIES)
def test_no_number_in_the_memory_is_a_failure(seed: int, family: int) -> None:
    """Whatever stands in the words, also in the counts and in the version, and whatever
    is written there meanwhile, a look ends and answers.
    """
    words, rng = MEMORY.words, random.Random(seed)

    def change() -> None:
        for word in DeniedHalf.words:
            half = Words.HALVES + DeniedHalf.size * rng.randrange(2)
            at = min(word.count - 1, rng.choice((0, 1, MAX_DENIALS // 2, MAX_DENIALS - 1)))
            words[half + word.offset + at] = rng.choice(VALUES)
        if rng.randrange(2):
            words[Words.VERSION] = rng.choice(VALUES)

    contested = Contested(words, change)  # type: ignore[arg-type]
    number = rng.choice(NUMBERS[family])
    found = Denied(contested).find(family, number)  # type: ignore[arg-type]
    assert found is None or found[0] <= number <= found[1]
    assert contested.accesses <= MOST_READS
