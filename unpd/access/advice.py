"""Advice about a text that is no address and no network, or not the one that was meant:
what was meant, and how to write it here.

The forms come from the lists that people bring along: hosts_access(5), xinetd.conf(5),
nginx, and tables of firewalls.

Owns the sentences. Called by :mod:`unpd.access.network` when a text is refused, and by
the checks of the configuration and ``unpd deny`` about one that is not. Calls
unpd.errors to quote. Raises nothing.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from types import MappingProxyType

from unpd.errors import MAX_CHARACTERS, quoted

_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("all", "any", "*", "0/0", "world", "everyone"), "all"),
        **dict.fromkeys(("private", "rfc1918", "lan"), "private"),
        **dict.fromkeys(("loopback", "local", "localhost", "localhost.localdomain"), "loopback"),
        "unix": "unix",
    }
)
"""The words of other programs, in lower case, and the word that means the same here."""
_NOBODY = ("none", "nobody", "never", "no", "false", "nil", "null", "off")
_EXCLUDED = re.compile(r"(?:!|-|~|\^|not\s|except\s)\s*([0-9A-Fa-f][0-9A-Fa-f.:/]*)", re.IGNORECASE)
"""An address or a network with a sign that takes it out of a list."""
MAX_SHOWN = 8
"""How many entries a sentence proposes at most."""

_LIKE_A_NETWORK = re.compile(r"[0-9.]+\.0")
"""An address of IPv4 that ends as the address of a network does."""
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_PARTIAL = re.compile(rf"({_OCTET}(?:\.{_OCTET}){{0,2}})(?:(?:\.\*){{1,3}}|\.?)(?:/([0-9]+))?")
_FACTORISED = re.compile(
    rf"((?:{_OCTET}\.){{0,3}})\{{({_OCTET}(?: *, *{_OCTET})*)\}}(?:\.0){{0,2}}"
)
_NAME = re.compile(r"[*.]{0,2}(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")


def advice(text: str, forms: str) -> str:
    """A sentence about ``text``, which is no address and no network. ``forms``: what
    would be right there.
    """
    if len(text) <= MAX_CHARACTERS:
        if meant := _word(text, forms):
            return f"{quoted(text)} {meant}"
        for check in _CHECKS:
            if meant := check(text):
                return f"{quoted(text)} {meant}"
    return f"{quoted(text)} must be {forms}"


def doubt(text: str) -> str:
    """A sentence about an address that another program would read as a network: to
    xinetd and others, zeros at its end mean any number. "" about any other text.
    """
    if not _LIKE_A_NETWORK.fullmatch(text):
        return ""
    octets = text.split(".")
    while octets and octets[-1] == "0":
        octets.pop()
    network = quoted(f"{text}/{8 * len(octets)}" if octets else "all")
    return (
        f"{quoted(text)} is one address, and no network: for the network write {network}, for the"
        f" address {quoted(f'{text}/32')}"
    )


def _several(text: str) -> str:
    if ";" in text:
        return 'is no entry: a comment begins with "#"'
    if re.search(r"[^\s,][\s,]+[^\s,]", text) and "{" not in text:
        return "has several entries: write each as an entry of its own"
    stripped = text.strip(" \t\r\n,")
    if text != stripped:
        return f"has a space or a comma too many: write {quoted(stripped)}"
    return ""


def _word(text: str, forms: str) -> str:
    """Advice about a word; none that is not among the ``forms``."""
    word = _SYNONYMS.get(text.lower())
    if word == text or text.startswith(("uid:", "gid:")):
        return "is no address and no network"
    if word and quoted(word) in forms:
        return f"is not known here: write {quoted(word)}"
    if text.lower().startswith("unix:") and quoted("unix") in forms:
        return 'is no entry, because UNIX peers have no address: write "unix" for all of them'
    account = re.fullmatch(r"(uid|gid|user|group)[:=] *(\S+)", text, re.IGNORECASE)
    kind = "uid" if account and account[1].lower() in ("uid", "user") else "gid"
    if account and quoted(f"{kind}:NAME") in forms:
        return f"is not known here: write {quoted(f'{kind}:{account[2]}')}"
    if text.startswith("file:") and quoted("all") in forms:
        return "names a file: only the configuration does, a list file has no other in it"
    return _of_lists(text) if quoted("all") in forms else ""


def _of_lists(text: str) -> str:
    """Advice about what other programs have in a list, and about a path."""
    if re.fullmatch(r"/\S*", text):
        file = quoted(f"file:{text}")
        return f"is a path: in the configuration write {file} for the entries of that file"
    if text.lower() in _NOBODY:
        return 'is no entry: an empty list, [], has none; everybody is refused by deny = ["all"]'
    if excluded := _EXCLUDED.fullmatch(text):
        return (
            f"is an exception, which no list has: put {quoted(excluded[1])} into deny, which"
            " refuses whatever allow says"
        )
    return ""


def _interface(text: str) -> str:
    host, percent, interface = text.partition("%")
    _, slash, length = interface.partition("/")
    if not percent or not _is_address(host):
        return ""
    plain = quoted(f"{host}{slash}{length}")
    return f"names an interface: write {plain}, which holds on every interface"


def _port(text: str) -> str:
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](/[0-9]+)?(:[0-9]+)?", text) or re.fullmatch(
        r"([0-9.]+)()(:[0-9]+)", text
    )
    if not match or not _is_address(match[1]):
        return ""
    part = "a port" if match[3] else "brackets"
    return f'has {part}: write "{match[1]}{match[2] or ""}"'


def _length(text: str) -> str:
    host, slash, length = text.partition("/")
    if not slash or not _is_address(host):
        return ""
    most = ip_address(host).max_prefixlen
    try:
        network = ip_network(f"{host}/{length}", strict=False)
    except ValueError:
        return f'must have a number from 0 to {most} after the slash, such as "{host}/{most}"'
    return f'has a netmask after the slash: write "{network}"'


def _factorised(text: str) -> str:
    match = _FACTORISED.fullmatch(text)
    if not match:
        return ""
    numbers = [number.strip() for number in match[2].split(",")]
    return _each(_network_of(f"{match[1]}{number}") for number in numbers)


def _partial(text: str) -> str:
    match = _PARTIAL.fullmatch(text)
    if not match:
        return ""
    return f'is no whole address: write the network, "{_network_of(match[1], match[2])}"'


def _range(text: str) -> str:
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash or not _is_address(first) or not _is_address(last):
        return ""
    try:
        return _each(map(_shown, summarize_address_range(ip_address(first), ip_address(last))))
    except (TypeError, ValueError):
        return "is no range: it must go up from one address to another of the same family"


def _zeros(text: str) -> str:
    plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", text)
    if plain == text or not _is_network(plain):
        return ""
    return f"has a zero before a number, which some read as octal: write {quoted(plain)}"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or not re.search("[A-Za-z]", text):
        return ""
    return "is a name, and names are not looked up: write the address or the network"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _network_of(octets: str, length: str | None = None) -> str:
    """The network of an IPv4 address whose last octets are missing. ``length``: the
    length that was given; by default, that of the octets.
    """
    given = octets.split(".")
    bits = 8 * len(given) if length is None else min(int(length), 32)
    address = ".".join((given + ["0", "0", "0"])[:4])
    return _shown(IPv4Network(f"{address}/{bits}", strict=False))


def _shown(network: IPv4Network | IPv6Network) -> str:
    """The network, or the one address that it is."""
    one = network.prefixlen == network.max_prefixlen
    return str(network.network_address if one else network)


def _each(networks: Iterable[str]) -> str:
    """Propose the networks as entries, the first of them if there are many."""
    shown = [quoted(network) for network in itertools.islice(networks, MAX_SHOWN + 1)]
    if len(shown) == 1:
        return f"is not known here: write {shown[0]}"
    more = ", ..." * (len(shown) > MAX_SHOWN)
    return f"has several networks: write them as {', '.join(shown[:MAX_SHOWN])}{more}"


_CHECKS: tuple[Callable[[str], str], ...] = (
    _range,
    _several,
    _interface,
    _port,
    _length,
    _factorised,
    _partial,
    _zeros,
    _name,
)
