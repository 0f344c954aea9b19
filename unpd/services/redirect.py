"""A redirect: unpd connects each client with one of several targets, and relays the
bytes in both directions.

A redirect is no pure service, because the other end of its bytes is a socket. So this
module has only its options, which the configuration validates, and its targets as they
are written: ``tcp://HOST:PORT`` with a numeric host or a name, ``unix:///PATH``.
:mod:`unpd.worker.redirect` serves it.

Called by the table of services, the configuration and the worker. Calls unpd.errors.
Raises ValueError with one sentence, while the options are validated.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any

from unpd.errors import quoted
from unpd.libraries import AfterValidator, BeforeValidator, Field
from unpd.services.base import Options

MAX_TARGETS = 16
"""The most targets of one redirect."""
MAX_PORT = 65535
MAX_NAME_CHARACTERS = 253
"""The longest domain name (RFC 1035 section 2.3.4), without the final dot."""
MAX_UNIX_PATH_BYTES = 107
"""sun_path has 108 bytes, including the final zero byte (unix(7))."""
MAX_TIMEOUT_S = 3600
MAX_PAUSE_S = 7 * 24 * 3600
FORMS = (
    'a target such as "tcp://10.0.0.5:80", "tcp://[2001:db8::5]:80", "tcp://app.example:80" or'
    ' "unix:///run/app.sock"'
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class TcpTarget:
    """A host and a port. ``host``: numeric in canonical form, without brackets, a scope
    id after ``%``; or a name in lower case, if ``is_name``.
    """

    host: str
    port: int
    is_name: bool = False

    @property
    def text(self) -> str:
        """The target as the configuration writes it."""
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else self._plain

    @property
    def _plain(self) -> str:
        return f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixTarget:
    """A UNIX stream socket at an absolute ``path``."""

    path: str

    @property
    def text(self) -> str:
        """The target as the configuration writes it."""
        return f"unix://{self.path}"


Target = TcpTarget | UnixTarget


def parse_target(text: str) -> Target:
    """Parse a target. ValueError with one sentence if ``text`` is none."""
    if _CONTROL.search(text):
        raise ValueError(f"{quoted(text)} must be {FORMS}, without control characters")
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix":
        return _unix(text, rest)
    if separator and scheme == "tcp":
        return _tcp(text, rest)
    raise ValueError(_meant(text) or f"{quoted(text)} must be {FORMS}")


def _meant(text: str) -> str:
    """A sentence about the target that was meant; "" if there is no telling."""
    guess = f"unix://{text}" if text.startswith("/") else f"tcp://{text}"
    try:
        parse_target(guess)
    except ValueError:
        return ""
    return f"{quoted(text)} is no target; did you mean {quoted(guess)}?"


def _unix(text: str, path: str) -> UnixTarget:
    if not path.startswith("/"):
        raise ValueError(f"{quoted(text)}: the path must be absolute, such as unix:///run/app.sock")
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of a UNIX socket has at most {MAX_UNIX_PATH_BYTES} bytes")
    return UnixTarget(path)


def _tcp(text: str, rest: str) -> TcpTarget:
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]:([^:\[\]]*)", rest)
    match = bracketed or re.fullmatch(r"([^:\[\]]*):([^:\[\]]*)", rest)
    if not match:
        raise ValueError(_form_fault(text, rest))
    host, port = match.groups()
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= MAX_PORT:
        raise ValueError(f"{quoted(text)}: the port must be a number from 1 to {MAX_PORT}")
    if bracketed:
        return TcpTarget(_ipv6(text, host), int(port))
    if re.fullmatch(r"[0-9]*", host.removesuffix(".").rpartition(".")[2]):
        return TcpTarget(_ipv4(text, host), int(port))
    return TcpTarget(_name(text, host), int(port), is_name=True)


def _form_fault(text: str, rest: str) -> str:
    if rest.count(":") > 1 and "[" not in rest:
        return f"{quoted(text)}: an IPv6 address must be in brackets, such as tcp://[::1]:80"
    if ":" not in rest or rest.endswith("]"):
        return f"{quoted(text)} lacks a port, such as tcp://127.0.0.1:80"
    return f"{quoted(text)} must be {FORMS}"


def _ipv4(text: str, host: str) -> str:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(
            f"{quoted(text)}: this is neither an IPv4 address such as 127.0.0.1 nor a name"
        ) from None
    _refuse_no_host(text, address)
    return str(address)


def _ipv6(text: str, host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"{quoted(text)}: this is not an IPv6 address such as [::1]") from None
    _refuse_no_host(text, address)
    if address.ipv4_mapped:
        raise ValueError(
            f"{quoted(text)}: write an IPv4 address plainly, as tcp://{address.ipv4_mapped}:PORT"
        )
    if address.is_link_local and address.scope_id is None:
        raise ValueError(
            f"{quoted(text)}: a link-local address needs its interface, such as [fe80::1%eth0]"
        )
    if address.scope_id is not None and not address.is_link_local:
        raise ValueError(f"{quoted(text)}: only a link-local address (fe80::) takes an interface")
    return str(address)


def _refuse_no_host(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Refuse an address that is of no single host."""
    if address.is_unspecified:
        raise ValueError(
            f"{quoted(text)}: nothing can be reached at {address}; this host is 127.0.0.1 or [::1]"
        )
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError(f"{quoted(text)}: a multicast or broadcast address takes no connection")


def _name(text: str, host: str) -> str:
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)) or len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(
            f"{quoted(text)}: a name has labels of letters, digits and hyphens, separated by dots,"
            " such as app.example"
        )
    return host.lower()


def _canonical(text: str) -> str:
    return parse_target(text).text


def _listed(value: object) -> object:
    """A TOML array as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _different(texts: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise ValueError(f"{quoted(twice)} is listed twice: remove one of the two")
    return texts


def _seconds(default: float, lowest: float, highest: int) -> Any:
    return Field(
        default,
        strict=True,
        allow_inf_nan=False,
        ge=lowest,
        le=highest,
        description=f"a number of seconds from {lowest:g} to {highest}",
    )


class RedirectOptions(Options):
    """The keys that only redirects have. ``to``: the targets in canonical form; none is
    an error, which unpd.config.redirects finds.
    ``send_proxy``: the version of the PROXY protocol's header; 0 for none.
    """

    to: Annotated[
        tuple[Annotated[str, Field(strict=True), AfterValidator(_canonical)], ...],
        BeforeValidator(_listed),
        AfterValidator(_different),
    ] = Field(
        (),
        max_length=MAX_TARGETS,
        description=f'a list of 1 to {MAX_TARGETS} targets, such as ["tcp://10.0.0.5:80"]',
    )
    connect_timeout_s: float = _seconds(5.0, 0.1, MAX_TIMEOUT_S)
    retry_s: float = _seconds(10.0, 0.1, MAX_PAUSE_S)
    resolve_s: float = _seconds(60.0, 1, MAX_PAUSE_S)
    send_proxy: int = Field(
        0, strict=True, ge=0, le=2, description="1 or 2, the version of the header, or 0 for none"
    )

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of ``to``."""
        return tuple(map(parse_target, self.to))


@dataclass(frozen=True, slots=True)
class Redirect:
    """A configured redirect. A worker serves it."""

    options: RedirectOptions
