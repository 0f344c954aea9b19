"""The translation of xinetd's attributes to keys of unpd."""

import ipaddress
import tomllib

import pytest

from tests.support.xinetd.rules import (
    Cps,
    Rules,
    minutes,
    networks,
    unpd_interval,
    unpd_keys,
    unpd_text,
    xinetd_text,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3", ["10.1.2.3/32"]),
        ("10.1.2.0", ["10.1.2.0/24"]),
        ("10.1.0.0", ["10.1.0.0/16"]),
        ("10.0.1.0", ["10.0.1.0/24"]),
        ("10.0.0.0", ["10.0.0.0/8"]),
        ("0.0.0.0", ["0.0.0.0/0"]),
        ("10.1", ["10.0.0.1/32"]),
        ("10.1.2", ["10.1.0.2/32"]),
        ("10.1.256", ["10.1.1.0/24"]),
        ("10", ["0.0.0.10/32"]),
        ("10.0", ["10.0.0.0/8"]),
        ("10.1.2.{3,4}", ["10.1.2.3/32", "10.1.2.4/32"]),
        ("10.1.{2,3}", ["10.1.2.0/24", "10.1.3.0/24"]),
        ("{10,11}", ["10.0.0.0/8", "11.0.0.0/8"]),
        ("10.1.2.3/16", ["10.1.0.0/16"]),
        ("10.1.2.3/0", ["0.0.0.0/0"]),
        ("2001:db8::1", ["2001:db8::1/128"]),
        ("2001:db8::", ["2001:db8::/128"]),
        ("2001:db8::1/33", ["2001:db8::/33"]),
        ("::/0", ["::/0"]),
    ],
)
def test_an_address_means_these_networks(text: str, expected: list[str]) -> None:
    """Octets of 0 at the end, braces, masks and short addresses mean what they mean to
    xinetd.
    """
    assert networks(text) == [ipaddress.ip_network(network) for network in expected]


@pytest.mark.parametrize("text", ["10.{1,2}.3", "10.1.{2,}", "1.2.3.4.{5}", "example", "10.1/40"])
def test_what_xinetd_would_not_read_is_an_error(text: str) -> None:
    """An address that xinetd would not read as one is no network."""
    with pytest.raises(ValueError, match=r"."):
        networks(text)


def test_the_end_of_a_range_is_inside() -> None:
    """The minute that ends a range of xinetd is open, so unpd's range ends a minute
    later.
    """
    assert minutes("8:00-18:30") == (480, 1110)
    assert unpd_interval("8:00-18:30") == "08:00-18:31"
    assert unpd_interval("0:00-23:59") == "00:00-24:00"
    assert unpd_interval("22:00-6:00") == "22:00-06:01"
    assert unpd_interval("3:20-3:19") == "00:00-24:00"
    with pytest.raises(ValueError, match="must be two times of day"):
        minutes("Mon 8:00-18:30")


def test_limits_are_translated() -> None:
    """Every limit gets its key. A limit refuses, and the sources of IPv6 are whole
    addresses.
    """
    rules = Rules(instances=3, per_source=2, cps=Cps(4, 10), access_times=("8:00-9:00",))
    assert unpd_keys(rules) == {
        "on_limit": "refuse",
        "max_connections": 3,
        "max_per_source": 2,
        "source_prefix_v6": 128,
        "accept_rate": "4/s",
        "access_times": ["08:00-09:01"],
    }
    assert unpd_keys(Rules()) == {"on_limit": "refuse"}


@pytest.mark.parametrize(
    "rules",
    [
        Rules(only_from=()),
        Rules(only_from=("::ffff:10.0.0.1",)),
        Rules(instances=0),
        Rules(per_source=0),
        Rules(only_from=("10.0.0.0",), instances=0),
    ],
)
def test_what_admits_nobody_denies_all(rules: Rules) -> None:
    """A list that matches nobody and a limit of 0 become deny."""
    assert unpd_keys(rules)["deny"] == ["all"]


def test_an_empty_no_access_denies_nobody() -> None:
    """An empty list of refused addresses needs no key."""
    assert unpd_keys(Rules(no_access=())) == {"on_limit": "refuse"}


def test_lists_are_translated() -> None:
    """An entry that occurs twice is written once."""
    keys = unpd_keys(Rules(only_from=("10.0.0.0", "10.1.2.3/8"), no_access=("10.1.{2,3}",)))
    assert keys["allow"] == ["10.0.0.0/8"]
    assert keys["deny"] == ["10.1.2.0/24", "10.1.3.0/24"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("::/0", ["::/0", "0.0.0.0/0"]),
        ("::/64", ["::/64", "0.0.0.0/0"]),
        ("::ffff:0:0/96", ["0.0.0.0/0"]),
        ("::ffff:10.1.0.0/112", ["10.1.0.0/16"]),
        ("::ffff:10.1.2.3", ["10.1.2.3/32"]),
        ("2001:db8::/32", ["2001:db8::/32"]),
        ("10.0.0.0", ["10.0.0.0/8"]),
    ],
)
def test_an_ipv6_socket_shows_its_ipv4_clients(entry: str, expected: list[str]) -> None:
    """On a socket for both families, an IPv6 network with mapped addresses is one of
    IPv4, too.
    """
    assert unpd_keys(Rules(dual_stack=True, only_from=(entry,)))["allow"] == expected


def test_both_texts_have_a_service_for_each_rules() -> None:
    """The services have successive ports in both configurations."""
    services = [Rules(only_from=("10.0.0.0", "::1"), cps=Cps(3, 2)), Rules(dual_stack=True)]
    tables = tomllib.loads(unpd_text(services, 3000))["services"]
    assert [table["listen"] for table in tables.values()] == [
        ["tcp://0.0.0.0:3000"],
        ["tcp://[::]:3001"],
    ]
    assert tables["echo-3000"]["allow"] == ["10.0.0.0/8", "::1/128"]
    text = xinetd_text(services, 2000)
    assert text.count("service echo\n") == 2
    assert "\tonly_from = 10.0.0.0 ::1\n" in text
    assert "\tcps = 3 2\n" in text
    assert "\tport = 2001\n\tflags = NOLIBWRAP IPv6\n\tinstances = UNLIMITED\n" in text
    assert "no_access" not in text
