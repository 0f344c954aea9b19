"""The interface of a listener: found by name or number, and refused as a system error,
whatever its name.
"""

import pytest

from unpd.kernel.interfaces import interface_index, same_host
from unpd.kernel.sockets import ListenOptions, listen_tcp

OPTIONS = ListenOptions(backlog=1, ipv6_only=False, keepalive=True, user_timeout_s=60.0, mode=0o666)
NOT_THERE = ["eth0..1", "..", "", "a" * 64, "\u00e9", "-1", "0", "9" * 20, "4294967297", "\ud800"]


@pytest.mark.parametrize("name", ["lo", "1"])
def test_the_loopback_interface_is_there(name: str) -> None:
    """An interface is found by its name and by its number."""
    assert interface_index(name)


@pytest.mark.parametrize("name", NOT_THERE)
def test_any_other_word_is_no_interface(name: str) -> None:
    """A word that names no interface is none, however odd it is."""
    assert not interface_index(name)


@pytest.mark.parametrize("name", [name for name in NOT_THERE if name.isprintable()])
def test_no_name_of_an_interface_breaks_a_listener(name: str) -> None:
    """A listener on a missing interface fails with an OSError, which has a sentence;
    the codec of domain names never sees the interface.
    """
    with pytest.raises(OSError, match=r"\w"):
        listen_tcp(f"fe80::1%{name}", 0, OPTIONS)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("fe80::1", "fe80::1", True),
        ("fe80::1%lo", "fe80::1%1", True),
        ("fe80::1%1", "fe80::1%lo", True),
        ("fe80::1%lo", "fe80::2%1", False),
        ("fe80::1%lo", "fe80::1%99999", False),
        ("fe80::1%gone", "fe80::1%gone", True),
        ("fe80::1%gone", "fe80::1%away", False),
    ],
)
def test_an_interface_has_a_name_and_a_number(one: str, other: str, same: bool) -> None:
    """Two hosts are the same if their interface is. Interfaces that are not there are
    compared by what they are called.
    """
    assert same_host(one, other) is same
