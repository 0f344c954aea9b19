"""The model of xinetd. Whether xinetd agrees, the differential test finds out."""

import ipaddress
import zoneinfo
from datetime import datetime

import pytest

from tests.support.xinetd.model import UNPD, XINETD, Quirk, Service, address_passes
from tests.support.xinetd.rules import Cps, Rules

UTC = zoneinfo.ZoneInfo("UTC")
NOON = int(datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp())
A, B = map(ipaddress.ip_address, ("10.1.2.3", "10.1.2.4"))
V6 = ipaddress.ip_address("2001:db8::1")


def served(service: Service, *now: int) -> str:
    """Return y or n for a connection of A at each of the times."""
    return "".join("ny"[service.arrive(A, moment)] for moment in now)


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        (Rules(), True),
        (Rules(only_from=()), False),
        (Rules(no_access=()), True),
        (Rules(only_from=("10.1.2.3",)), True),
        (Rules(only_from=("10.1.2.4",)), False),
        (Rules(only_from=("10.1.2.3",), no_access=("10.0.0.0",)), False),
        (Rules(only_from=("10.0.0.0",), no_access=("10.1.2.3",)), False),
        (Rules(only_from=("::/0",)), False),
        (Rules(dual_stack=True, only_from=("::/0",)), True),
        (Rules(dual_stack=True, only_from=("::ffff:10.1.2.3",)), True),
        (Rules(dual_stack=True, only_from=("10.1.{2,4}",)), True),
    ],
)
def test_lists(rules: Rules, passes: bool) -> None:
    """An address in both lists is refused; on an IPv6 socket entries of both families
    match an IPv4 client.
    """
    assert address_passes(rules, A) is passes


def test_a_whole_ipv6_address_with_a_mask_matches_nobody() -> None:
    """With /128 an entry is a host name to xinetd; without, it is the address."""
    rules = Rules(dual_stack=True, only_from=("2001:db8::1/128",))
    assert not address_passes(rules, V6)
    assert address_passes(rules, V6, UNPD)
    assert address_passes(Rules(dual_stack=True, only_from=("2001:db8::1",)), V6)


def test_limits_of_open_connections() -> None:
    """Both limits count open connections only, and per_source those of one address."""
    service = Service(Rules(instances=2), UTC)
    assert [service.arrive(source, NOON) for source in (A, B, A)] == [True, True, False]
    service.leave(B)
    assert service.arrive(A, NOON)
    service = Service(Rules(per_source=1), UTC)
    assert [service.arrive(source, NOON) for source in (A, A, B)] == [True, False, True]
    service.leave(A)
    assert service.arrive(A, NOON)


def test_over_its_rate_a_service_pauses() -> None:
    """The connection over the rate and those of the next seconds are refused. Without
    the quirk, only those of the same second are.
    """
    times = (*[NOON] * 3, NOON + 9, NOON + 10)
    assert served(Service(Rules(cps=Cps(2, 10)), UTC), *times) == "yynny"
    assert served(Service(Rules(cps=Cps(2, 10)), UTC, UNPD), *times) == "yynyy"
    assert served(Service(Rules(cps=Cps(0, 1)), UTC), *[NOON] * 9) == "y" * 9


def test_the_rate_is_an_average() -> None:
    """Over as many seconds as its own number, the rate is an average."""
    times = (NOON, *[NOON + 2] * 8)
    assert served(Service(Rules(cps=Cps(3, 10)), UTC), *times) == "yyyyyyynn"
    assert served(Service(Rules(cps=Cps(3, 10)), UTC, UNPD), *times) == "yyyynnnnn"


def test_the_rate_counts_refused_connections() -> None:
    """A connection that the lists refuse counts for the rate."""
    for quirks, last in ((XINETD, False), (UNPD, True)):
        service = Service(Rules(cps=Cps(2, 10), no_access=(str(B),)), UTC, quirks)
        assert not service.arrive(B, NOON)
        assert not service.arrive(B, NOON)
        assert service.arrive(A, NOON) is last


def test_after_a_pause_the_open_connections_are_forgotten() -> None:
    """After the pause of cps, instances counts from 0."""
    for quirks, last in ((XINETD, True), (XINETD - {Quirk.FORGETS}, False)):
        service = Service(Rules(cps=Cps(1, 10), instances=1), UTC, quirks)
        assert served(service, NOON, NOON) == "yn"
        assert service.arrive(A, NOON + 10) is last


def test_times_of_day() -> None:
    """Both minutes of a range are inside, in the zone of the service."""
    noon = Rules(access_times=("12:00-12:01",))
    times = [NOON + second for second in (-1, 0, 119, 120)]
    assert served(Service(noon, UTC), *times) == "nyyn"
    assert served(Service(noon, zoneinfo.ZoneInfo("Europe/Berlin")), *times) == "nnnn"


def test_a_range_over_midnight_stops_a_service() -> None:
    """Without the quirk it is a range over midnight."""
    night = Rules(access_times=("22:00-12:00",))
    assert served(Service(night, UTC), NOON, NOON + 60) == "nn"
    assert served(Service(night, UTC, UNPD), NOON, NOON + 60) == "yn"
