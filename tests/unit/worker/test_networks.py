"""How much a source network may be sent, by a clock of the test."""

import random

import pytest

from tests.support.clock import ManualClock
from unpd.names import Unanswered
from unpd.worker.networks import MAX_NETWORKS, OTHERS, Networks

A, B = b"\xc0\x00\x02", b"\xc6\x33\x64"


def table(
    *, amplification: float = 3.0, rate: int = 0, total_rate: int = 0
) -> tuple[Networks, ManualClock]:
    """A table and its clock."""
    clock = ManualClock()
    return Networks(amplification, rate, clock.now, total_rate=total_rate), clock


def test_an_empty_datagram_may_be_answered_with_56_bytes() -> None:
    """With the default, 28 bytes of headers let 84 bytes go back: 56 and the headers;
    one byte more is too much.
    """
    networks, clock = table()
    assert not networks.spend(networks.received(A, 28, clock.now), 28 + 57)
    networks, clock = table()
    network = networks.received(A, 28, clock.now)
    assert networks.spend(network, 28 + 56)
    assert not networks.spend(network, 1)


def test_each_network_has_a_credit_of_its_own() -> None:
    """The bytes that came from one network let nothing go to another."""
    networks, clock = table()
    networks.received(A, 1000, clock.now)
    assert not networks.spend(networks.received(B, 28, clock.now), 85)


@pytest.mark.parametrize("amplification", [1.0, 1.5, 3.0])
def test_never_more_than_the_amplification_goes_out(
    rng: random.Random, amplification: float
) -> None:
    """Whatever comes and whenever, the bytes that were sent to a network are at no
    moment more than the amplification times those that came from it.
    """
    networks, clock = table(amplification=amplification)
    came = dict.fromkeys((A, B), 0)
    went = dict.fromkeys((A, B), 0)
    for _ in range(5000):
        clock.advance(rng.choice((0.0, 0.001, 0.4, 2.5)))
        key, size, answer = rng.choice((A, B)), rng.randint(28, 600), rng.randint(28, 2000)
        came[key] += size
        if networks.spend(networks.received(key, size, clock.now), answer):
            went[key] += answer
        assert went[key] <= amplification * came[key]
    assert all(went.values())


def answers(networks: Networks, clock: ManualClock, asked: int, key: bytes = A) -> int:
    """How many of so many datagrams at this moment are answered."""
    found = 0
    for _ in range(asked):
        network = networks.received(key, 28, clock.now)
        found += not networks.refusal(network, clock.now) and networks.spend(network, 28)
    return found


def test_the_rate_bounds_the_answers_of_a_second() -> None:
    """A network gets ``rate`` answers at once and then none until they are a second
    old; another network gets its own.
    """
    networks, clock = table(rate=10)
    assert answers(networks, clock, 30) == 10
    assert answers(networks, clock, 30, B) == 10
    clock.advance(0.99)
    assert answers(networks, clock, 30) == 0
    clock.advance(2.01)
    assert answers(networks, clock, 30) == 10


def test_the_window_slides() -> None:
    """Half a second into the next window, half of the answers of the last one count."""
    networks, clock = table(rate=10)
    assert answers(networks, clock, 10) == 10
    clock.advance(1.5)
    assert answers(networks, clock, 30) == 5


def test_a_rate_of_zero_is_no_limit() -> None:
    """A rate of 0 lets any number of answers go."""
    networks, clock = table()
    assert answers(networks, clock, 10_000) == 10_000


def test_the_total_rate_bounds_the_answers_to_all_networks() -> None:
    """However many networks ask, and though each asks little: at once so many answers
    go out, then as many a second. What is not answered costs no token.
    """
    networks, clock = table(rate=10, total_rate=100)
    keys = [number.to_bytes(3, "big") for number in range(1000)]
    assert sum(answers(networks, clock, 1, key) for key in keys) == 100
    network = networks.received(A, 28, clock.now)
    assert networks.refusal(network, clock.now) is Unanswered.TOTAL_RATE
    clock.advance(0.25)
    assert answers(networks, clock, 30) == 10
    assert networks.refusal(network, clock.now) is Unanswered.RATE
    assert sum(answers(networks, clock, 1, key) for key in keys) == 15
    clock.advance(60.0)
    assert sum(answers(networks, clock, 1, key) for key in keys) == 100


def test_a_flood_of_random_sources_does_not_grow_the_table() -> None:
    """However many networks come within some seconds, the table holds no more than two
    windows of them, and those without room share one rate.
    """
    networks, clock = table(rate=10)
    answered = 0
    for number in range(10 * MAX_NETWORKS):
        answered += answers(networks, clock, 1, number.to_bytes(7, "big"))
        assert len(networks) <= 2 * (MAX_NETWORKS + 1)
    assert answered == MAX_NETWORKS + 10
    clock.advance(1.0)
    answers(networks, clock, 1)
    clock.advance(1.0)
    answers(networks, clock, 1)
    assert len(networks) == 1


def test_a_flood_pushes_no_network_out() -> None:
    """A network that has used up its rate stays so, whatever comes from others."""
    networks, clock = table(rate=10)
    assert answers(networks, clock, 10) == 10
    for number in range(3 * MAX_NETWORKS):
        answers(networks, clock, 1, number.to_bytes(7, "big"))
    assert answers(networks, clock, 10) == 0
    clock.advance(1.0)
    assert answers(networks, clock, 10) == 0


def test_networks_without_room_share_no_credit() -> None:
    """A network that shares the last entry is sent no more for what others sent."""
    networks, clock = table()
    for number in range(MAX_NETWORKS):
        networks.received(number.to_bytes(7, "big"), 28, clock.now)
    for _ in range(10):
        networks.received(A, 1000, clock.now)
    network = networks.received(B, 28, clock.now)
    assert network is networks.received(OTHERS, 0, clock.now)
    assert not networks.spend(networks.received(B, 28, clock.now), 85)
