"""Compiled lists: which entry holds for which peer, and what it costs to find it."""

import gc
import math
import random
import time
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.support.accounts import ACCOUNTS
from unpd.access.accounts import Accounts
from unpd.access.peer import UNIX, Peer, parse_peer
from unpd.access.rules import MAX_FAULTS, BadEntries, Entry, Origin, Rules, entries_of


def rules_of(*texts: str) -> Rules:
    """The list, each entry of it in a line of its own."""
    entries = [Entry(text, Origin("deny.list", line)) for line, text in enumerate(texts, 1)]
    return Rules.of(entries, ACCOUNTS)


def found(rules: Rules, peer: str) -> str | None:
    """The text of the entry that holds for a peer."""
    entry = rules.find(parse_peer(peer, ACCOUNTS))
    return entry.text if entry else None


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("192.0.2.7", ["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.6", "192.0.2.8", "unix"]),
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0", "::a00:1"]),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::1", "unix"]),
        ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "192.0.2.1"]),
        ("::/0", ["::1", "fe80::1"], ["192.0.2.1", "::ffff:192.0.2.1", "unix"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.0.0.0"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"], ["192.0.2.8"]),
        ("all", ["192.0.2.1", "::1", "unix", "uid:alice"], []),
        (
            "private",
            ["10.0.0.1", "172.16.0.0", "172.31.255.255", "192.168.7.7", "fc00::1", "fdff::1"],
            ["172.15.0.1", "172.32.0.0", "192.169.0.0", "127.0.0.1", "::1", "fe00::1", "unix"],
        ),
        ("private", [], ["169.254.1.1", "fe80::1", "100.64.0.1", "224.0.0.1"]),
        ("loopback", ["127.0.0.1", "127.255.0.1", "::1"], ["128.0.0.1", "::2", "::", "unix"]),
        ("unix", ["unix", "uid:alice", "uid:0"], ["127.0.0.1", "::1"]),
        ("uid:alice", ["uid:alice", "uid:1000"], ["uid:bob", "unix", "127.0.0.1"]),
        ("uid:1000", ["uid:alice"], ["uid:bob"]),
        ("gid:staff", ["uid:alice", "uid:bob"], ["uid:0", "unix", "::1"]),
        ("gid:51", ["uid:alice"], ["uid:bob"]),
    ],
)
def test_an_entry_holds_for_its_peers(entry: str, inside: list[str], outside: list[str]) -> None:
    """It holds for each peer inside, and for no other."""
    rules = rules_of(entry)
    assert {peer: found(rules, peer) for peer in inside} == dict.fromkeys(inside, entry)
    assert {peer: found(rules, peer) for peer in outside} == dict.fromkeys(outside)


def test_of_nested_networks_the_widest_is_found() -> None:
    """The order of the list does not matter, and neighbours are left alone."""
    nested = ["10.1.2.3", "10.1.0.0/16", "10.0.0.0/8", "10.1.2.0/24", "11.0.0.0/8", "9.9.9.9"]
    nested += ["10.255.255.255", "10.0.0.0"]  # the last and the first address of another
    for texts in (nested, nested[::-1], sorted(nested)):
        rules = rules_of(*texts)
        for inside in ("10.0.0.0", "10.1.2.3", "10.255.255.255"):
            assert found(rules, inside) == "10.0.0.0/8"
        assert found(rules, "11.0.0.0") == "11.0.0.0/8"
        assert found(rules, "9.9.9.9") == "9.9.9.9"
        assert found(rules, "9.9.9.8") is None


def test_of_equal_networks_the_first_is_found() -> None:
    """Their texts may differ: "all" has the network 0.0.0.0/0 in it."""
    rules = rules_of("10.0.0.0/8", "::ffff:10.0.0.0/104", "10.0.0.0/8")
    entry = rules.find(Peer(4, int(IPv4Address("10.0.0.1"))))
    assert entry == Entry("10.0.0.0/8", Origin("deny.list", 1))
    assert found(rules_of("::ffff:10.0.0.0/104", "10.0.0.0/8"), "10.0.0.1") == "::ffff:10.0.0.0/104"
    assert found(rules_of("all", "0.0.0.0/0"), "10.0.0.1") == "all"
    assert found(rules_of("0.0.0.0/0", "all"), "10.0.0.1") == "0.0.0.0/0"
    assert found(rules_of("::/0", "all"), "10.0.0.1") == "all"


def test_of_unix_entries_the_widest_is_found() -> None:
    """All of them, then a user, then groups in the order of the peer's."""
    texts = ("gid:admin", "gid:staff", "uid:alice", "unix", "all")
    assert found(rules_of(*texts), "uid:alice") == "unix"
    assert found(rules_of(*texts[::-1]), "uid:alice") == "all"
    assert found(rules_of(*texts[:3]), "uid:alice") == "uid:alice"
    assert found(rules_of(*texts[:2]), "uid:alice") == "gid:staff"
    first = rules_of("uid:alice", "uid:1000", "gid:50", "gid:staff")
    assert found(first, "uid:alice") == "uid:alice"
    assert found(first, "uid:bob") == "gid:50"


def test_an_empty_list_is_false_and_finds_nothing() -> None:
    """A list of one entry is true, whatever the entry's kind."""
    assert not Rules()
    assert not Rules.of([], ACCOUNTS)
    assert Rules.of([], ACCOUNTS) == Rules()
    peers = [Peer(4), Peer(6), Peer(UNIX, uid=0, gids=(0,))]
    assert [Rules().find(peer) for peer in peers] == [None, None, None]
    assert all(rules_of(text) for text in ("unix", "uid:0", "gid:0", "10.0.0.1", "all"))


def test_lists_with_the_same_entries_are_equal() -> None:
    """A reload sees whether a list has changed, or the line of an entry."""
    assert rules_of("10.0.0.0/8", "uid:alice") == rules_of("10.0.0.0/8", "uid:alice")
    assert rules_of("10.0.0.0/8") != rules_of("10.0.0.0/9")
    assert rules_of("10.0.0.0/8", "::1") != rules_of("::1", "10.0.0.0/8")


def test_every_bad_entry_of_a_list_is_named() -> None:
    """The error has each bad entry with its sentence; its text is the first one."""
    with pytest.raises(BadEntries) as refused:
        rules_of("10.0.0.0/8", "10.1.", "all", "uid:carol")
    assert [(entry.text, entry.origin.line) for entry, _ in refused.value.faults] == [
        ("10.1.", 2),
        ("uid:carol", 4),
    ]
    assert str(refused.value) == ('"10.1." is no whole address: write the network, "10.1.0.0/16"')
    assert refused.value.faults[1][1] == '"uid:carol" is not known: this host has no user "carol"'


def test_no_list_has_endless_faults() -> None:
    """A sentence takes longer than an entry, so the first bad ones alone get one."""
    with pytest.raises(BadEntries) as refused:
        rules_of("all", *["x"] * (2 * MAX_FAULTS))
    assert [entry.origin.line for entry, _ in refused.value.faults] == [*range(2, MAX_FAULTS + 2)]


def test_a_list_file_has_an_entry_a_line() -> None:
    """Comments and blank lines count as lines. Lines may end as those of DOS do."""
    text = "\ufeff# who\r\n10.0.0.0/8\r\n\r\n  ::1\t# a host\r\n#10.0.0.1\nuid:alice"
    assert entries_of(text, "/etc/unpd/deny.list") == [
        Entry("10.0.0.0/8", Origin("/etc/unpd/deny.list", 2)),
        Entry("::1", Origin("/etc/unpd/deny.list", 4)),
        Entry("uid:alice", Origin("/etc/unpd/deny.list", 6)),
    ]
    assert entries_of("", "x") == entries_of("\n\n# none\n", "x") == []


def test_a_line_is_what_editors_count_as_one() -> None:
    """A form feed, or the separators of Unicode, begin no line, so that the number of a
    bad one is right.
    """
    entries = entries_of("10.0.0.1\x0c\x0c10.0.0.2\n10.0.0.3\u2028\n10.0.0.4", "x")
    assert [entry.origin.line for entry in entries] == [1, 2, 3]
    with pytest.raises(BadEntries, match="has several entries"):
        Rules.of(entries, ACCOUNTS)


def unknown(key: str | int) -> int:
    """A lookup that fails the test."""
    raise AssertionError(key)


def test_only_names_are_looked_up() -> None:
    """A number needs no account, so a list of numbers needs no look-up."""
    accounts = Accounts(unknown, unknown, lambda uid: (unknown(uid),))
    rules = Rules.of([Entry("uid:7"), Entry("gid:8"), Entry("10.0.0.1"), Entry("all")], accounts)
    assert rules.users.keys() == {7}
    assert rules.groups.keys() == {8}


MANY = 100_000


def many_networks(family: int) -> list[str]:
    """As many entries as the largest list has, in no order, some of them nested."""
    random_ = random.Random(family)
    if family == 4:
        return [f"{IPv4Address(random_.getrandbits(24) << 8)}/24" for _ in range(MANY)]
    return [f"{IPv6Address(random_.getrandbits(64) << 64)}/64" for _ in range(MANY)]


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
def test_a_large_list_is_soon_compiled(family: int) -> None:
    """100,000 lines cost about half a second of processor time. The bound is ten times
    as high, since other processes may share the caches.
    """
    text = "\n".join(many_networks(family))
    gc.collect()
    began_s = time.process_time()
    rules = Rules.of(entries_of(text, "x"), ACCOUNTS)
    assert time.process_time() - began_s < 5
    assert len(rules) == MANY


class Counted(int):
    """A number that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        self.compared += 1
        return int(self) < other

    def __le__(self, other: int) -> bool:
        self.compared += 1
        return int(self) <= other

    def __gt__(self, other: int) -> bool:
        self.compared += 1
        return int(self) > other

    def __ge__(self, other: int) -> bool:
        self.compared += 1
        return int(self) >= other


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
def test_a_large_list_costs_one_binary_search(family: int) -> None:
    """A peer is compared with 17 of 100,000 ranges, and once with the end of the range
    that was found, whether it is in the list or not.
    """
    texts = many_networks(family)
    rules = rules_of(*texts)
    most = math.ceil(math.log2(MANY)) + 1
    inside = [parse_peer(text.partition("/")[0], ACCOUNTS).number for text in texts[:100]]
    for number in (*inside, 0, 1, 2 ** (32 if family == 4 else 128) - 1):
        counted = Counted(number)
        rules.find(Peer(family, counted))
        assert 2 <= counted.compared <= most
