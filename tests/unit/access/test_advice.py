"""Entries as other programs have them: what was meant, and how to write it here."""

import pytest

from tests.support.accounts import ACCOUNTS
from unpd.access.network import Network
from unpd.access.rules import BadEntries, Entry, Rules
from unpd.errors import MAX_CHARACTERS

PREFIX_32 = 'must have a number from 0 to 32 after the slash, such as "10.0.0.0/32"'
ALL_FORMS = (
    'must be an address such as "192.0.2.1", a network such as "192.0.2.0/24" or "2001:db8::/32",'
    ' "all", "private", "loopback", "unix", "uid:NAME" or "gid:NAME", and in the configuration'
    ' "file:/PATH"'
)
NOBODY = 'is no entry: an empty list, [], has none; everybody is refused by deny = ["all"]'
PATH = 'is a path: in the configuration write "file:/etc/hosts.allow" for the entries of that file'


def exception(text: str) -> str:
    """The sentence about an address that a sign takes out of the list."""
    return (
        f'is an exception, which no list has: put "{text}" into deny, which refuses whatever allow'
        " says"
    )


NAMES = "is a name, and names are not looked up: write the address or the network"
BACKWARDS = "is no range: it must go up from one address to another of the same family"


def beyond(network: str, address: str) -> str:
    """The sentence about an address that has a prefix length."""
    return (
        f'has bits beyond its prefix length: write "{network}" for the network, or "{address}" for'
        " the address"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("10.0.0.1/8", beyond("10.0.0.0/8", "10.0.0.1")),
        ("::ffff:10.0.0.1/104", beyond("10.0.0.0/8", "10.0.0.1")),
        ("2001:db8::1/32", beyond("2001:db8::/32", "2001:db8::1")),
        ("10.0.0.0/255.0.0.0", 'has a netmask after the slash: write "10.0.0.0/8"'),
        ("10.0.0.9/255.255.255.0", 'has a netmask after the slash: write "10.0.0.0/24"'),
        ("10.0.0.0/0.255.255.255", 'has a netmask after the slash: write "10.0.0.0/8"'),
        ("10.0.0.0/255.0.255.0", PREFIX_32),
        ("10.0.0.0/33", PREFIX_32),
        ("10.0.0.0/-1", PREFIX_32),
        ("10.0.0.0/", PREFIX_32),
        ("10.0.0.0/8/8", PREFIX_32),
        ("10.0.0.0/\u0668", PREFIX_32),
        ("::/129", 'must have a number from 0 to 128 after the slash, such as "::/128"'),
        ("10.0.{1,2}.0", 'has several networks: write them as "10.0.1.0/24", "10.0.2.0/24"'),
        ("10.0.{1, 2}", 'has several networks: write them as "10.0.1.0/24", "10.0.2.0/24"'),
        ("10.0.0.{1,2}", 'has several networks: write them as "10.0.0.1", "10.0.0.2"'),
        ("10.{7}.0.0", 'is not known here: write "10.7.0.0/16"'),
        ("10.{1,300}", ALL_FORMS),
        ("10.1.", 'is no whole address: write the network, "10.1.0.0/16"'),
        ("10.1", 'is no whole address: write the network, "10.1.0.0/16"'),
        ("10", 'is no whole address: write the network, "10.0.0.0/8"'),
        ("10.1.2.*", 'is no whole address: write the network, "10.1.2.0/24"'),
        ("10.*.*.*", 'is no whole address: write the network, "10.0.0.0/8"'),
        ("10.1/16", 'is no whole address: write the network, "10.1.0.0/16"'),
        ("10.1/12", 'is no whole address: write the network, "10.0.0.0/12"'),
        ("10.1/99", 'is no whole address: write the network, "10.1.0.0"'),
        ("mail.example.org", NAMES),
        (".example.org", NAMES),
        ("*.example.org", NAMES),
        ("my-host", NAMES),
        ("EXCEPT", NAMES),
        ("localhost", 'is not known here: write "loopback"'),
        ("ALL", 'is not known here: write "all"'),
        ("any", 'is not known here: write "all"'),
        ("*", 'is not known here: write "all"'),
        ("Private", 'is not known here: write "private"'),
        ("user:root", 'is not known here: write "uid:root"'),
        ("GID:staff", 'is not known here: write "gid:staff"'),
        ("group=staff", 'is not known here: write "gid:staff"'),
        ("uid:", "must have the name of a user after the colon"),
        ("gid:", "must have the name of a group after the colon"),
        ("uid:carol", 'is not known: this host has no user "carol"'),
        ("gid:bob", 'is not known: this host has no group "bob"'),
        ("uid:4294967295", "is not known: the number of a user is at most 4294967294"),
        ("gid:" + "9" * 30, "is not known: the number of a group is at most 4294967294"),
        ("fe80::1%eth0", 'names an interface: write "fe80::1", which holds on every interface'),
        ("fe80::%2/10", 'names an interface: write "fe80::/10", which holds on every interface'),
        ("[::1]", 'has brackets: write "::1"'),
        ("[2001:db8::]/32", 'has brackets: write "2001:db8::/32"'),
        ("[::1]:80", 'has a port: write "::1"'),
        ("10.0.0.1:80", 'has a port: write "10.0.0.1"'),
        ("010.0.0.1", 'has a zero before a number, which some read as octal: write "10.0.0.1"'),
        (
            "10.0.0.1-10.0.0.4",
            'has several networks: write them as "10.0.0.1", "10.0.0.2/31", "10.0.0.4"',
        ),
        ("10.0.0.0 - 10.0.0.255", 'is not known here: write "10.0.0.0/24"'),
        (
            "0.0.0.0-255.255.255.254",
            (
                'has several networks: write them as "0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3",'
                ' "224.0.0.0/4", "240.0.0.0/5", "248.0.0.0/6", "252.0.0.0/7", "254.0.0.0/8", ...'
            ),
        ),
        ("10.0.0.9-10.0.0.1", BACKWARDS),
        ("::1-10.0.0.1", BACKWARDS),
        ("10.0.0.1 10.0.0.2", "has several entries: write each as an entry of its own"),
        ("10.0.0.1, 10.0.0.2", "has several entries: write each as an entry of its own"),
        ("10.0.0.0/8 ; spam", 'is no entry: a comment begins with "#"'),
        (" 10.0.0.1", 'has a space or a comma too many: write "10.0.0.1"'),
        ("10.0.0.1,", 'has a space or a comma too many: write "10.0.0.1"'),
        ("file:x", "names a file: only the configuration does, a list file has no other in it"),
        (
            "unix:/run/x",
            'is no entry, because UNIX peers have no address: write "unix" for all of them',
        ),
        ("/etc/hosts.allow", PATH),
        ("none", NOBODY),
        ("Nobody", NOBODY),
        ("!10.1.2.3", exception("10.1.2.3")),
        ("! 2001:db8::/32", exception("2001:db8::/32")),
        ("-10.0.0.0/8", exception("10.0.0.0/8")),
        ("EXCEPT 10.1.", exception("10.1.")),
        ("", ALL_FORMS),
        ("300.1.1.1", ALL_FORMS),
        ("2001:db8", ALL_FORMS),
        ("1.2.3.4.5", ALL_FORMS),
        ("-", ALL_FORMS),
    ],
)
def test_a_bad_entry_has_its_advice(text: str, sentence: str) -> None:
    """One sentence quotes the entry, and says what is wrong and what would be right."""
    with pytest.raises(BadEntries) as refused:
        Rules.of([Entry(text)], ACCOUNTS)
    assert str(refused.value) == f'"{text}" {sentence}'.replace("\u0668", "\\u0668")


@pytest.mark.parametrize(
    "text",
    ["x" * 5000, "10.1/" + "9" * 5000, "10.0.0.0/" + "9" * 5000, "uid:" + "9" * 5000, "1." * 3000],
)
def test_a_long_entry_is_cut(text: str) -> None:
    """The sentence is still one of ours, and can be read."""
    with pytest.raises(BadEntries) as refused:
        Rules.of([Entry(text)], ACCOUNTS)
    assert str(refused.value).startswith(f'"{text[:MAX_CHARACTERS]}..." ')
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("text", ["a\x00b", "uid:a\x00b", "10.0.0.1\x1b[0m", "\ud800", "::1\n::2"])
def test_a_sentence_has_no_control_character(text: str) -> None:
    """Whatever a file has, the terminal that shows the sentence is safe."""
    with pytest.raises(BadEntries) as refused:
        Rules.of([Entry(text)], ACCOUNTS)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["all", "private", "unix", "uid:alice"])
def test_a_word_of_rules_is_no_network(text: str) -> None:
    """Where only a network is right, the sentence does not recommend the same word."""
    with pytest.raises(ValueError, match=f'^"{text}" is no address and no network$'):
        Network.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("localhost", NAMES),
        ("all", "is no address and no network"),
        ("lan", NAMES),
        ("unix:/run/x.sock", "must be"),
        ("user:joe", "must be"),
        ("file:/etc/deny.list", "must be"),
        ("/etc/deny.list", "must be"),
        ("none", NAMES),
        ("!10.0.0.1", "must be"),
    ],
)
def test_nothing_is_advised_that_would_be_refused(text: str, sentence: str) -> None:
    """Where only addresses and networks are right, as in ``unpd deny``, no word is."""
    with pytest.raises(ValueError, match=sentence):
        Network.parse(text)
