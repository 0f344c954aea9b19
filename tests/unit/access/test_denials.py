"""The list of live denials."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.access.denials import BULK, Denial, DenialError, Denials, checked_reason
from unpd.access.network import Network
from unpd.access.ranges import Ranges

WIDTHS = {4: 32, 6: 128}


def operators(text: str, until: float | None = None, since: float = 0.0) -> Denial:
    """A denial that an operator asked for."""
    return Denial(network=Network.parse(text), since=since, until=until, reason="why", uid=0)


def sensors(text: str, until: float | None = 600.0, since: float = 0.0) -> Denial:
    """A denial of a sensor."""
    return Denial(network=Network.parse(text), since=since, until=until, service="trap")


def listed(denials: Denials) -> list[str]:
    """The networks of the list, in its order."""
    return [str(denial.network) for denial in denials.after(None, 1000)]


def test_the_same_network_again_replaces() -> None:
    """The new denial holds with all of its own, and the old one does not end it."""
    denials = Denials()
    assert denials.add(operators("192.0.2.0/24", until=10.0))
    again = operators("192.0.2.0/24", until=20.0, since=5.0)
    assert denials.add(again)
    assert len(denials) == 1
    assert denials.find(again.network) is again
    assert denials.expire(10.0) == []
    assert denials.expire(20.0) == [again]
    assert len(denials) == 0


def test_a_sensor_does_not_change_what_an_operator_denied() -> None:
    """A client could otherwise shorten its denial. The operator takes that of a sensor
    over.
    """
    denials = Denials(limit=1)
    denials.add(operators("192.0.2.7"))
    assert not denials.add(sensors("192.0.2.7"))
    assert denials.find(Network.parse("192.0.2.7")) == operators("192.0.2.7")
    other = Denials(limit=1)
    other.add(sensors("192.0.2.7"))
    assert other.add(operators("192.0.2.7"))
    with pytest.raises(DenialError):  # it is no sensor's any more
        other.add(sensors("192.0.2.8"))


@pytest.mark.parametrize(
    ("ends", "end"),
    [((10.0, 30.0, 20.0), 30.0), ((30.0, 20.0, 10.0), 30.0), ((10.0, None, 20.0), None)],
)
def test_an_address_is_denied_until_the_last_of_its_denials_ends(
    ends: tuple[float | None, ...], end: float | None
) -> None:
    """The widest is named, as by the worker that refuses the address."""
    denials = Denials()
    for text, until in zip(("192.0.2.0/24", "192.0.2.0/28", "192.0.2.7"), ends, strict=True):
        denials.add(operators(text, until=until))
    denials.add(operators("192.0.2.8/29", until=None))
    address = Network.parse("192.0.2.7")
    assert denials.holding(address) == operators("192.0.2.0/24", until=end)
    assert denials.holding(Network.parse("192.0.3.7")) is None
    last = 30.0 if end is None else end
    denials.expire(last - 0.1)
    assert denials.holding(address) is not None
    denials.expire(last)
    assert (denials.holding(address) is None) == (end is not None)


def test_of_a_full_list_the_oldest_denial_of_a_sensor_goes() -> None:
    """One that a sensor renewed is not old. An operator's never goes."""
    denials = Denials(limit=3)
    for denial in (operators("192.0.2.1"), sensors("192.0.2.2"), sensors("192.0.2.3")):
        denials.add(denial)
    denials.add(sensors("192.0.2.2", since=1.0))
    denials.add(operators("192.0.2.4"))
    assert listed(denials) == ["192.0.2.1", "192.0.2.2", "192.0.2.4"]
    denials.add(sensors("2001:db8::1"))
    assert listed(denials) == ["192.0.2.1", "192.0.2.4", "2001:db8::1"]


def test_a_list_full_of_denials_of_operators_takes_no_other() -> None:
    """The sentence says what would do. One in the place of another is taken."""
    denials = Denials(limit=2)
    denials.add(operators("192.0.2.1"))
    denials.add(operators("192.0.2.2"))
    for denial in (operators("192.0.2.3"), sensors("192.0.2.3")):
        with pytest.raises(
            DenialError, match=r"^2 networks are denied, as many as can be.*: take one back with"
        ):
            denials.add(denial)
    assert denials.add(operators("192.0.2.2", until=3.0))
    assert listed(denials) == ["192.0.2.1", "192.0.2.2"]


def test_what_is_taken_back_is_denied_no_more() -> None:
    """Within a wider denial too: the wider one stays."""
    denials = Denials()
    denials.add(operators("192.0.2.0/24"))
    denials.add(operators("192.0.2.7", until=5.0))
    assert denials.remove(Network.parse("192.0.2.7")) == operators("192.0.2.7", until=5.0)
    assert listed(denials) == ["192.0.2.0/24"]
    assert denials.expire(5.0) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "10.1.2.3",
            (
                "10.1.2.3 is not denied itself, but lies in 10.1.0.0/16, which is: unpd undeny"
                " 10.1.0.0/16 takes that back"
            ),
        ),
        (
            "10.2.0.0/16",
            (
                "10.2.0.0/16 is not denied itself, but lies in 10.0.0.0/8, which is: unpd undeny"
                " 10.0.0.0/8 takes that back"
            ),
        ),
        ("192.0.2.7", "192.0.2.7 is not denied: unpd denied lists the networks that are"),
        ("::a01:203", "::a01:203 is not denied: unpd denied lists the networks that are"),
    ],
)
def test_the_nearest_denial_around_is_named(text: str, sentence: str) -> None:
    """An operator who takes back an address learns which denial holds it."""
    denials = Denials()
    for each in ("10.0.0.0/8", "10.1.0.0/16", "10.1.3.0/24"):
        denials.add(operators(each))
    with pytest.raises(DenialError) as refused:
        denials.remove(Network.parse(text))
    assert str(refused.value) == sentence
    assert len(denials) == 3


def test_denials_end_at_their_times() -> None:
    """At the time itself a denial is over. One without an end stays."""
    denials = Denials()
    for denial in (sensors("192.0.2.1", 5.0), sensors("192.0.2.2", 5.5), operators("192.0.2.3")):
        denials.add(denial)
    assert denials.expire(4.9) == []
    assert denials.expire(5.0) == [sensors("192.0.2.1", 5.0)]
    assert denials.expire(1e9) == [sensors("192.0.2.2", 5.5)]
    assert listed(denials) == ["192.0.2.3"]


def test_many_denials_that_end_at_once_leave_the_others() -> None:
    """What is left works on: its ranges, its ends, and the age of a sensor's."""
    count = BULK + 2
    denials = Denials(limit=count + 3)
    for number in range(count):
        denials.add(sensors(f"10.0.{number >> 8}.{number & 255}", until=1.0))
    kept = (operators("10.0.0.0/24", until=2.0), sensors("10.0.0.8", 3.0), sensors("10.9.0.1", 3.0))
    for denial in kept:
        denials.add(denial)
    assert len(denials.expire(1.0)) == count - 1
    assert listed(denials) == ["10.0.0.0/24", "10.0.0.8", "10.9.0.1"]
    assert len(denials.ranges[4]) == 2
    for number in range(count):
        denials.add(operators(f"10.1.{number >> 8}.{number & 255}", until=2.0))
    denials.add(operators("10.2.0.0"))  # there is room only in the place of a sensor's
    assert denials.find(kept[1].network) is None
    denials.remove(Network.parse("10.2.0.0"))
    denials.add(kept[1])
    assert len(denials.expire(2.0)) == count + 1
    assert len(denials.ranges[4]) == 2
    assert denials.expire(3.0) == [*kept[1:]]
    assert (len(denials), len(denials.ranges[4])) == (0, 0)


def test_the_list_is_read_page_by_page() -> None:
    """Each page goes on after the last network of the one before, also if that one is
    no longer listed, and from IPv4 to IPv6.
    """
    denials = Denials()
    texts = ["10.0.0.0/8", "10.0.0.0/16", "10.0.0.1", "192.0.2.1", "::/0", "::1"]
    for text in reversed(texts):
        denials.add(operators(text))
    found: list[str] = []
    last = None
    while page := denials.after(last, 2):
        found += [str(denial.network) for denial in page]
        last = page[-1].network
        denials.remove(last)
    assert found == texts


def test_a_reason_is_one_line() -> None:
    """A longer text, or one that would control a terminal, is refused."""
    assert checked_reason("a scan, söfort") == "a scan, söfort"
    assert checked_reason("x" * 200) == "x" * 200
    with pytest.raises(ValueError, match=r"^the reason is longer than 200 characters$"):
        checked_reason("x" * 201)
    for text in ("a\nb", "\x1b[2J", "\x7f", "\udc80"):
        with pytest.raises(ValueError, match=r"^the reason must be one line without control"):
            checked_reason(text)


@st.composite
def networks(draw: st.DrawFn, family: int) -> Network:
    """A network of a small space, so that many contain others."""
    width = WIDTHS[family]
    bits = draw(st.sampled_from([0, 1, 2, width // 2, width - 2, width - 1, width]))
    return Network.around(family, draw(st.integers(0, 3)) << draw(st.integers(0, width - 2)), bits)


def covered(words: tuple[list[int], ...], family: int) -> list[tuple[int, int]]:
    """The ranges that the words hold."""
    if family == 4:
        return [(word >> 32, word & 0xFFFFFFFF) for word in words[0]]
    return [(a << 64 | b, c << 64 | d) for a, b, c, d in zip(*words, strict=True)]


@given(st.data(), st.sampled_from([4, 6]))
def test_the_ranges_are_the_widest_networks(data: st.DataObject, family: int) -> None:
    """After any number of networks that came and went, the ranges are those networks
    that lie in no other, sorted; and they are the same as if only those had come that
    are left.
    """
    ranges, present = Ranges(family), set[Network]()
    for network in data.draw(st.lists(networks(family), max_size=20)):
        if network in present:
            present.remove(network)
            ranges.remove(network)
        else:
            present.add(network)
            ranges.add(network)
        widest = [
            each
            for each in sorted(present)
            if not any(
                other.holds(family, each.first) for other in present if other.bits < each.bits
            )
        ]
        words = tuple(column.tolist() for column in ranges.words)
        assert covered(words, family) == [(each.first, each.last) for each in widest]
        assert len(ranges) == len(widest)
        assert ranges.words == Ranges(family, present).words
        assert ranges.after(None, 100) == sorted(present)


class Model:
    """A list of at most four denials, in the order in which they were made."""

    def __init__(self) -> None:
        self.live: list[Denial] = []

    def add(self, denial: Denial) -> bool | None:
        """Whether it holds now; None if there is no room."""
        same = [each for each in self.live if each.network == denial.network]
        if same and denial.of_sensor and not same[0].of_sensor:
            return False
        if not same and len(self.live) == 4:
            sensors = [each for each in self.live if each.of_sensor]
            if not sensors:
                return None
            self.live.remove(sensors[0])
        self.live = [each for each in self.live if each not in same] + [denial]
        return True


NETWORKS = [
    Network.parse(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "::/0", "::1")
]
STEPS = st.tuples(
    st.sampled_from(["operator", "sensor", "remove", "expire"]),
    st.sampled_from(NETWORKS),
    st.none() | st.integers(0, 20).map(float),
)


@given(st.lists(STEPS, max_size=40))
def test_the_list_does_what_a_simple_one_does(
    steps: list[tuple[str, Network, float | None]],
) -> None:
    """Whatever operators, sensors and the clock do, in any order."""
    denials, model = Denials(limit=4), Model()
    for now, (act, network, span) in enumerate(steps):
        if act == "expire":
            over = [each for each in model.live if each.until is not None and each.until <= now]
            model.live = [each for each in model.live if each not in over]
            assert sorted(denials.expire(now), key=id) == sorted(over, key=id)
        elif act == "remove":
            gone = [each for each in model.live if each.network == network]
            model.live = [each for each in model.live if each not in gone]
            if gone:
                assert denials.remove(network) is gone[0]
            else:
                with pytest.raises(DenialError):
                    denials.remove(network)
        else:
            denial = Denial(
                network=network,
                since=float(now),
                until=None if span is None else now + span,
                uid=0 if act == "operator" else None,
            )
            expected = model.add(denial)
            if expected is None:
                with pytest.raises(DenialError):
                    denials.add(denial)
            else:
                assert denials.add(denial) is expected
        assert denials.after(None, 9) == sorted(model.live, key=lambda each: each.network)
        ends = [each.until for each in model.live if each.until is not None]
        assert denials.next_end == min(ends, default=None)
        for family in (4, 6):
            live = {each.network for each in model.live if each.network.family == family}
            assert denials.ranges[family].words == Ranges(family, live).words
