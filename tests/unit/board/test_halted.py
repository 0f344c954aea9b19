"""The services that are halted, as children see them."""

import pytest

from unpd.board.halted import Halted, HaltedWriter
from unpd.board.layout import MAX_SERVICES
from unpd.board.sealed import make_sealed
from unpd.names import Halt


def test_each_halt_is_seen_until_it_is_taken_back() -> None:
    """Of its own service alone."""
    writer = HaltedWriter()
    for halt in Halt:
        writer.show({7: halt})
        assert [writer.halted.of(column) for column in (6, 7, 8)] == [None, halt, None]
    writer.show({0: Halt.PAUSED, MAX_SERVICES - 1: Halt.DRAINING})
    assert writer.halted.of(0) is Halt.PAUSED
    assert writer.halted.of(7) is None
    assert writer.halted.of(MAX_SERVICES - 1) is Halt.DRAINING


def test_no_child_can_halt_a_service() -> None:
    """The memory that children have is for reading."""
    _, shown = make_sealed("unpd-test", 8)
    with pytest.raises(TypeError, match="read-only"):
        shown[7] = 1


@pytest.mark.parametrize("word", [len(Halt) + 1, (1 << 64) - 1])
def test_a_word_without_a_meaning_halts_nothing(word: int) -> None:
    """A reader trusts no word."""
    assert Halted([word] * MAX_SERVICES).of(7) is None
