"""In which order new clients try the targets of a redirect."""

from unpd.worker.redirect.rotation import Rotation


def firsts(rotation: Rotation, now: float, count: int) -> list[int]:
    """With which targets so many clients begin."""
    return [rotation.order(now)[0] for _ in range(count)]


def test_clients_take_the_targets_in_turn() -> None:
    """Each begins behind the one before, and has all others as well."""
    rotation = Rotation(3, retry_s=10.0)
    orders = [rotation.order(0.0) for _ in range(4)]
    assert orders == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_a_target_that_failed_is_left_out_for_a_while() -> None:
    """The others are taken in turn, evenly; it comes last for ``retry_s``."""
    rotation = Rotation(3, retry_s=10.0)
    rotation.failed(1, now=100.0)
    assert firsts(rotation, 109.9, 6) == [0, 2, 0, 2, 0, 2]
    assert rotation.order(109.9) == [0, 2, 1]
    assert set(firsts(rotation, 110.0, 3)) == {0, 1, 2}


def test_a_target_that_succeeds_is_taken_in_again_at_once() -> None:
    """A client that found no other one has tried it."""
    rotation = Rotation(2, retry_s=10.0)
    rotation.failed(0, now=100.0)
    rotation.succeeded(0)
    assert firsts(rotation, 100.0, 2) == [0, 1]


def test_if_all_are_left_out_the_one_that_is_back_first_is_tried_first() -> None:
    """No client is turned away without a try: a target may be back already."""
    rotation = Rotation(3, retry_s=10.0)
    for moment, target in enumerate((2, 0, 1)):
        rotation.failed(target, now=100.0 + moment)
    assert [rotation.order(105.0) for _ in range(2)] == [[2, 0, 1], [2, 0, 1]]


def test_a_single_target_is_always_tried() -> None:
    """Leaving it out would only make an outage longer."""
    rotation = Rotation(1, retry_s=10.0)
    rotation.failed(0, now=100.0)
    assert rotation.order(100.0) == [0]
