"""The server that the user named: HOST and PORT, a path, or an address as ``unpd
status`` prints it.

Called by ``command``; ``connect`` turns a target into addresses of the kernel. Pure: no
name is looked up and no socket opened. Errors: UsageError with one sentence.

Known gap: a path that is no UTF-8 is printed by the status with escapes, and such a
text is taken as it stands.
"""

import os
import re
import socket
from dataclasses import dataclass

UNIX_PATH_BYTES = 107
MAX_UDP_BYTES = 65_507
"""What one datagram carries over IPv4: 65,535 bytes less its headers (RFC 791, 768)."""

FILE_SCHEMES = ("unix", "unixgram")
DATAGRAM_SCHEMES = ("udp", "unixgram")
SCHEMES = ("tcp", "udp", *FILE_SCHEMES)


class UsageError(ValueError):
    """The user asked for what makes no sense. Its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server that the user named. ``port`` is None if ``host`` is the path of a
    UNIX socket; an abstract one begins with an at sign. ``datagrams``: whether the
    client talks over UDP or a UNIX datagram socket.
    """

    host: str
    port: int | None
    datagrams: bool = False

    @property
    def text(self) -> str:
        """The target as a message names it."""
        if self.port is None:
            return self.host
        return f"{self.host} port {self.port}" + (" over UDP" if self.datagrams else "")

    @property
    def transport(self) -> str:
        """The scheme of the target's address, such as udp."""
        return SCHEMES[2 * (self.port is None) + self.datagrams]


@dataclass(frozen=True, slots=True)
class Words:
    """The user's words: ADDRESS or HOST, PORT if there is one, --udp, and the port of
    the service.
    """

    text: str
    port: int | None
    udp: bool
    default_port: int


def target_of(words: Words) -> Target:
    """Return the target that the words name. UsageError."""
    scheme, separator, rest = words.text.partition("://")
    if words.text.startswith("systemd:"):
        raise UsageError(
            f"{words.text} is a name between unpd and systemd; give the address that status shows"
            " below it"
        )
    if separator and scheme in SCHEMES:
        return _of_address(words, scheme, rest)
    if separator and scheme.isalnum():
        raise UsageError(f"{words.text} must begin with one of {', '.join(SCHEMES)} and ://")
    if "/" in words.text:
        return _of_path(words, words.text, datagrams=words.udp)
    _refuse_no_host(words)
    host = _host_of(words.text)
    return Target(host, words.port or words.default_port, words.udp)


def _refuse_no_host(words: Words) -> None:
    """Refuse an empty host, and one with its port behind a colon: no host has a colon
    but an IPv6 address, which has two.
    """
    if not words.text:
        raise UsageError("HOST is empty: give a name, an address or a path")
    host, colon, port = words.text.rpartition(":")
    bare = ":" not in host or (host.startswith("[") and host.endswith("]"))
    if colon and bare:
        shown = f"{host} {port}" if host and port else "HOST PORT"
        raise UsageError(
            f"{words.text}: the port is an argument of its own: write {shown}, or an address such"
            f" as tcp://{host or 'HOST'}:{port or 'PORT'}"
        )


def _of_address(words: Words, scheme: str, rest: str) -> Target:
    datagrams = scheme in DATAGRAM_SCHEMES
    if words.udp and not datagrams:
        raise UsageError(f"{words.text} is a stream, which contradicts --udp")
    if scheme in FILE_SCHEMES:
        if not rest.startswith(("/", "@")):
            raise UsageError(f"{words.text}: the path must be absolute, such as {scheme}:///run/x")
        return _of_path(words, rest, datagrams=datagrams)
    if words.port is not None:
        raise UsageError(f"{words.text} and a port: write the port in the address only")
    host, port = _host_and_port(words, rest)
    return Target(_host_of(host), port, datagrams)


def _of_path(words: Words, path: str, *, datagrams: bool) -> Target:
    if words.port is not None:
        raise UsageError(f"{words.text} is the path of a UNIX socket, which has no port")
    if len(os.fsencode(path)) > UNIX_PATH_BYTES:
        raise UsageError(
            f"{words.text} is too long for the path of a UNIX socket: at most {UNIX_PATH_BYTES}"
            " bytes"
        )
    return Target(path, None, datagrams)


def _host_and_port(words: Words, rest: str) -> tuple[str, int]:
    """Return both parts of an address; the port may be missing."""
    match = re.fullmatch(r"(\[[^\[\]]+\]|[^:\[\]]+)(?::([^:]*))?", rest)
    if match is None:
        raise UsageError(
            f"{words.text} must be like tcp://HOST:PORT, with brackets around an IPv6 address"
        )
    host, port = match.groups()
    if port is None:
        return host, words.default_port
    if port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535:
        return host, int(port)
    raise UsageError(f"{words.text}: the port must be a number from 1 to 65535")


def _host_of(text: str) -> str:
    """Return a host without the brackets of an IPv6 address. UsageError if an interface
    is missing or has no use (RFC 4007 section 6).
    """
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    address, percent, interface = host.partition("%")
    try:
        packed = socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return text  # a name, or IPv4: the look-up says whether it exists
    link_local = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    if link_local and not interface:
        raise UsageError(f"{host} needs its interface, such as {address}%eth0")
    if percent and not (link_local or packed[0] == 0xFF):
        raise UsageError(f"{host}: only a link-local address (fe80::) takes an interface")
    return text
