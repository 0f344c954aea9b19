"""Listen addresses: parses the text of the configuration once; each address then has
one canonical form.

Owns the forms of a listen address: ``tcp://127.0.0.1:7``, ``udp://[::]:7``,
``tcp://[fe80::1%eth0]:7``, ``unix:///run/x``, ``unixgram:///run/x.dgram``,
``systemd:echo``. Hosts are numeric, because the master never waits for DNS.

Called by the schema while pydantic validates; the master uses the parsed addresses.
Calls unpd.config.wording to quote. Raises ValueError with one sentence.

Known gap: it does not ask the system whether an address exists; bind(2) finds out.
"""

import ipaddress
import os
import posixpath
import re
from dataclasses import dataclass
from typing import ClassVar

from unpd.errors import quoted

MAX_PORT = 65535
MAX_UNIX_PATH_BYTES = 107
"""sun_path has 108 bytes, including the final zero byte (unix(7))."""

MAX_PATH_BYTES = 4095
"""PATH_MAX is 4096, including the final zero byte (limits.h)."""

MAX_INTERFACE_BYTES = 15
"""IFNAMSIZ is 16, including the final zero byte (netdevice(7))."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no path may have: the control characters of ASCII and Latin-1, Unicode's two
separators of lines, and halves of characters. They would break a line of output.
"""

MAX_SYSTEMD_NAME_BYTES = 100
"""A limit of unpd; systemd itself accepts 255."""

FORMS = (
    'an address such as "tcp://127.0.0.1:7", "tcp://[::]:7", "udp://[::]:7",'
    ' "unix:///run/unpd/echo.sock" or "systemd:echo"'
)


@dataclass(frozen=True, slots=True)
class InternetAddress:
    """A host and a port of one transport. A TCP and a UDP address are never equal.

    ``host``: numeric, in canonical form, without brackets; a scope id follows ``%``.
    ``port``: 0 to 65535; for 0 the kernel chooses a free port.
    """

    scheme: ClassVar[str]
    host: str
    port: int

    @property
    def text(self) -> str:
        """The address as the configuration writes it."""
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    @property
    def is_wildcard(self) -> bool:
        """Whether the host means every address of this machine."""
        return self.host in ("::", "0.0.0.0")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the host."""
        return self.host == "::1" or self.host.startswith("127.")

    @property
    def interface(self) -> str:
        """The interface of a link-local address, by name or number; otherwise ""."""
        return self.host.partition("%")[2]


@dataclass(frozen=True, slots=True)
class TcpAddress(InternetAddress):
    """A TCP address."""

    scheme: ClassVar[str] = "tcp"


@dataclass(frozen=True, slots=True)
class UdpAddress(InternetAddress):
    """A UDP address."""

    scheme: ClassVar[str] = "udp"


@dataclass(frozen=True, slots=True)
class FileAddress:
    """A UNIX socket of one type; its ``path`` is absolute, normal and at most 107
    bytes.
    """

    scheme: ClassVar[str]
    path: str

    @property
    def text(self) -> str:
        """The address as the configuration writes it. The kernel may have bytes in the
        path that are not UTF-8: they are escaped.
        """
        return f"{self.scheme}://{self.path}".encode("utf-8", "backslashreplace").decode()

    @property
    def kernel_path(self) -> bytes:
        """The path as the kernel has it: an abstract one, which is shown with an at
        sign, begins with a zero (unix(7)).
        """
        path = os.fsencode(self.path)
        return b"\0" + path[1:] if path.startswith(b"@") else path


@dataclass(frozen=True, slots=True)
class UnixAddress(FileAddress):
    """A UNIX stream socket."""

    scheme: ClassVar[str] = "unix"


@dataclass(frozen=True, slots=True)
class UnixgramAddress(FileAddress):
    """A UNIX datagram socket."""

    scheme: ClassVar[str] = "unixgram"


@dataclass(frozen=True, slots=True)
class SystemdAddress:
    """The listeners that the service manager passes under ``name``.

    ``name``: FileDescriptorName= of a socket unit (systemd.socket(5)), 1 to 100
    printable ASCII characters without a colon.
    """

    name: str

    @property
    def text(self) -> str:
        """The address as the configuration writes it."""
        return f"systemd:{self.name}"


BoundAddress = TcpAddress | UdpAddress | UnixAddress | UnixgramAddress
"""The address of a listener itself: the service manager passes such addresses too."""
Address = BoundAddress | SystemdAddress


def takes_datagrams(address: Address) -> bool:
    """Whether datagrams come to this address. That of the service manager does not
    tell.
    """
    return isinstance(address, UdpAddress | UnixgramAddress)


def parse_address(text: str, forms: str = FORMS) -> Address:
    """Parse a listen address. ValueError with one sentence if ``text`` is none;
    ``forms``: the addresses that are right, for that sentence.
    """
    if _are_several(text):
        raise ValueError(f"{quoted(text)} has several addresses: put each in quotes of its own")
    for of_file in (UnixAddress, UnixgramAddress):
        if text.startswith(f"{of_file.scheme}://"):
            return of_file(_path_of(of_file.scheme, text.removeprefix(f"{of_file.scheme}://")))
    if re.search(r"\s", text) or CONTROL.search(text):
        raise ValueError(f"{quoted(text)} must be {forms}, without spaces and control characters")
    if text.startswith("systemd:"):
        return _systemd(text.removeprefix("systemd:"))
    scheme, separator, rest = text.partition("://")
    for of_port in (TcpAddress, UdpAddress):
        if separator and scheme == of_port.scheme:
            return of_port(*_host_and_port(text, rest, forms))
    raise ValueError(_meant(text) or f"{quoted(text)} must be {forms}")


def _are_several(text: str) -> bool:
    """Whether commas, semicolons or spaces separate several addresses. A path may hold
    such characters, but no ``//``.
    """
    of_file = text.startswith(("unix://", "unixgram://"))
    words: list[str] = re.split(r"[\s,;]+", text)
    return sum("://" in word or (word.startswith("systemd:") and not of_file) for word in words) > 1


def _meant(text: str) -> str:
    """A sentence about the address that was meant; "" if there is no telling."""
    port = re.fullmatch(r"(?:\*?:)?([0-9]{1,5})", text)
    if port and int(port[1]) <= MAX_PORT:
        return (
            f'{quoted(text)} is no address: for every address of this host write "tcp://[::]:'
            f'{port[1]}", for clients on this host only "tcp://127.0.0.1:{port[1]}"'
        )
    scheme = re.fullmatch(r"(tcp|udp|unix|unixgram)[46]?:(?://)?(.*)", text, re.IGNORECASE)
    if scheme:
        guess = f"{scheme[1].lower()}://{scheme[2]}"
    else:
        guess = f"unix://{text}" if text.startswith("/") else f"tcp://{text}"
    try:
        parse_address(guess)
    except ValueError:
        return ""
    return f"{quoted(text)} is no address; did you mean {quoted(guess)}?"


def refuse_path(path: str) -> None:
    """Check a path. ValueError with one sentence unless it is absolute, normal (no
    ``.``, ``..``, double slashes or trailing slash), at most 4095 bytes long and free
    of control characters, and the locale can write it.
    """
    if CONTROL.search(path):
        raise ValueError("a path must not contain control characters")
    if not path.startswith("/"):
        raise ValueError(f'{quoted(path)} is not an absolute path: it must begin with "/"')
    if bytes_of_path(path) > MAX_PATH_BYTES:
        raise ValueError(f"a path has at most {MAX_PATH_BYTES} bytes")
    if path == "/" or path.startswith("//") or posixpath.normpath(path) != path:
        raise ValueError(
            f'{quoted(path)} must name a file, without ".", "..", double slashes or a trailing'
            " slash"
        )


def bytes_of_path(path: str) -> int:
    """How many bytes the path has for the kernel. ValueError with one sentence if it
    has a character that the locale lacks, as Latin-1 lacks the euro sign.
    """
    try:
        return len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ValueError(
            f"{quoted(path)} has a character that this locale lacks: run unpd with LC_ALL=C.UTF-8"
        ) from None


def _host_and_port(text: str, rest: str, forms: str) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]:([^:\[\]]*)", rest)
    plain = re.fullmatch(r"([^:\[\]]*):([^:\[\]]*)", rest)
    match = bracketed or plain
    if not match:
        raise ValueError(_form_fault(text, rest, forms))
    host, port = match.groups()
    return _ipv6(text, host) if bracketed else _ipv4(text, host), _port(text, port)


def _form_fault(text: str, rest: str, forms: str) -> str:
    scheme = text.partition(":")[0]
    if rest.count(":") > 1 and "[" not in rest:
        return f"{quoted(text)}: an IPv6 address must be in brackets, such as {scheme}://[::1]:7"
    if rest.isdecimal():
        return f"{quoted(text)} lacks a host, such as {scheme}://[::]:7 for every address"
    if ":" not in rest or rest.endswith("]"):
        return f"{quoted(text)} lacks a port, such as {scheme}://127.0.0.1:7"
    return f"{quoted(text)} must be {forms}"


def _port(text: str, port: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError(f"{quoted(text)}: the port must be a number from 0 to {MAX_PORT}")
    return int(port)


def _ipv4(text: str, host: str) -> str:
    if host in ("", "*"):
        raise ValueError(f"{quoted(text)}: every address is written as [::] or 0.0.0.0")
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(
            f"{quoted(text)}: the host must be a numeric address such as 127.0.0.1, 0.0.0.0 or"
            " [::]; names are not looked up"
        ) from None
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError(f"{quoted(text)}: nothing can listen on a multicast or broadcast address")
    return str(address)


def _ipv6(text: str, host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"{quoted(text)}: this is not an IPv6 address such as [::1]") from None
    if address.is_multicast:
        raise ValueError(f"{quoted(text)}: nothing can listen on a multicast or broadcast address")
    if address.ipv4_mapped:
        raise ValueError(
            f"{quoted(text)}: write an IPv4 address plainly, as"
            f" {text.partition(':')[0]}://{address.ipv4_mapped}:PORT"
        )
    _refuse_scope(text, address)
    return str(address)


def _refuse_scope(text: str, address: ipaddress.IPv6Address) -> None:
    """Refuse a missing or wrong interface.

    A link-local address is ambiguous without one (RFC 4007 section 6), and bind(2)
    ignores or refuses an interface with any other address.
    """
    scope = address.scope_id
    if address.is_link_local and scope is None:
        raise ValueError(
            f"{quoted(text)}: a link-local address needs its interface, such as [fe80::1%eth0]"
        )
    if scope is not None and not address.is_link_local:
        raise ValueError(f"{quoted(text)}: only a link-local address (fe80::) takes an interface")
    if scope is not None and not _is_interface_name(scope):
        raise ValueError(
            f"{quoted(text)}: the name of an interface has at most {MAX_INTERFACE_BYTES} bytes,"
            " without slashes and colons"
        )


def _is_interface_name(text: str) -> bool:
    """Whether the kernel could have an interface of this name (dev_valid_name() in
    net/core/dev.c). :func:`parse_address` has refused spaces.
    """
    return (
        text not in (".", "..")
        and not set(text) & set("/:")
        and len(text.encode()) <= MAX_INTERFACE_BYTES
    )


def _path_of(scheme: str, path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(
            f"{quoted(f'{scheme}://{path}')}: the path must be absolute, such as"
            f" {scheme}:///run/unpd/echo.sock"
        )
    refuse_path(path)
    # The scoreboard has the path in UTF-8, which may be longer than in the locale.
    if max(bytes_of_path(path), len(path.encode())) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of a UNIX socket has at most {MAX_UNIX_PATH_BYTES} bytes")
    return path


def _systemd(name: str) -> SystemdAddress:
    if name.startswith("//"):
        raise ValueError(
            f"{quoted(f'systemd:{name}')}: a name follows the colon, such as systemd:echo"
        )
    if not name or not name.isascii() or ":" in name or len(name) > MAX_SYSTEMD_NAME_BYTES:
        raise ValueError(
            f"{quoted(f'systemd:{name}')}: the name must have 1 to {MAX_SYSTEMD_NAME_BYTES}"
            " printable ASCII characters and no colon, as in FileDescriptorName="
        )
    return SystemdAddress(name)
