"""The schema of the configuration: frozen models with their bounds and defaults.

The ``description`` of a field says what a valid value is ("a number of seconds from 0
to 60"); the message about an invalid value is "must be" and that text. config/unpd.toml
explains each key at length. The models are strict: ``"10"`` is not a number, and
``true`` is not 1.

Times are in seconds. A 0 means no limit where it is allowed.

Built by :mod:`unpd.config.build`, read everywhere in the master. Calls
unpd.config.addresses. Validators raise ValueError with one sentence, which pydantic
collects.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from unpd.access.rules import Rules
from unpd.access.terms import AccessTerms, OnLimit
from unpd.board import layout
from unpd.config.access import Access, AccessKeys
from unpd.config.access_lists import EXAMPLE, AccessList, KeyOrigins, access_list
from unpd.config.addresses import (
    FORMS,
    MAX_UNIX_PATH_BYTES,
    Address,
    FileAddress,
    InternetAddress,
    SystemdAddress,
    TcpAddress,
    bytes_of_path,
    parse_address,
    refuse_path,
    takes_datagrams,
)
from unpd.config.control import Control
from unpd.config.section import Section, array_of
from unpd.config.times import ServiceTimes
from unpd.errors import quoted
from unpd.libraries import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
)
from unpd.names import (
    FORKING_KINDS,
    KIND_OF_MODEL,
    MAX_POOL_WORKERS,
    PROGRAM_KINDS,
    ChildKind,
    Model,
    RefusalReason,
)
from unpd.services.base import Options
from unpd.services.sensor import SensorOptions

WEEK_S = 7 * 24 * 3600
HOUR_S = 3600

MAX_CONNECTIONS = 1_000_000
MAX_SESSIONS = 10_000
"""The most session processes of one service."""
DEFAULT_SESSIONS = 256
DEFAULT_PROGRAMS = 64
"""The same of a service of programs, which are larger."""
MAX_BACKLOG = 1_000_000
DEFAULT_AMPLIFICATION = 3
"""How many bytes may answer one, headers counted: as RFC 9000 section 8.1 has it."""
MAX_AMPLIFICATION = 100
MAX_DATAGRAM_RATE = 10_000_000
METRICS_FORMS = (
    'an address such as "tcp://127.0.0.1:9867", "unix:///run/unpd/metrics.sock" or'
    ' "systemd:metrics", or false for no metrics'
)
_NO_METRICS = ("", "disabled", "false", "no", "none", "null", "off")
DEFAULT_POOL = "default"


def _address(value: Any) -> Any:
    if isinstance(value, InternetAddress | FileAddress | SystemdAddress):
        return value
    if isinstance(value, str):
        return parse_address(value)
    raise ValueError(f"must be {FORMS}")


def _metrics_address(value: Any) -> Any:
    if value is None or value is False:
        return None
    if isinstance(value, InternetAddress | FileAddress | SystemdAddress):
        return value
    if isinstance(value, str):
        if value.strip().lower() in _NO_METRICS:
            raise ValueError(f"{quoted(value)} is no address; for no metrics write listen = false")
        return parse_address(value, METRICS_FORMS)
    raise ValueError(f"must be {'one address, no list: ' * isinstance(value, list)}{METRICS_FORMS}")


def _path(value: Any) -> Any:
    if isinstance(value, str):
        refuse_path(value)
        return Path(value)
    return value


def _socket_path(value: Any) -> Any:
    value = _path(value)
    if isinstance(value, Path) and bytes_of_path(str(value)) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of a UNIX socket has at most {MAX_UNIX_PATH_BYTES} bytes")
    return value


def _log_file(value: str) -> str:
    if value in ("/dev/stderr", "/dev/stdout") or value.startswith(("/dev/fd/", "/proc/self/fd/")):
        raise ValueError(
            f"{quoted(value)} is no plain file: leave log.file out, and the log goes to standard"
            " error"
        )
    if value:
        refuse_path(value)
    return value


def _mode(value: Any) -> Any:
    """A mode, from an octal string only. A number is refused, because the decimal
    number 666 looks like the mode 0666 and is another.
    """
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return int(value, 8)
    raise ValueError('must be a string of three octal digits, or of 0 and three, such as "0660"')


Account = Annotated[str, Field(pattern=r"^[^\s:/\x00-\x1f\x7f]{1,256}$")]
RuntimePath = Annotated[Path, BeforeValidator(_path)]


class Daemon(Section):
    """The table ``[daemon]``.

    ``group``: None for the user's own group. The defaults of ``user`` and the paths are
    those for root; :mod:`unpd.config.host` has those for other users.

    A child writes a heartbeat at least once a second, and the master checks it once a
    second: a heartbeat timeout below 2 s would kill idle children.
    """

    user: Account = Field("nobody", description='the name of a user, such as "unpd"')
    group: Account | None = Field(None, description='the name of a group, such as "unpd"')
    lame_duck_s: float = Field(
        0.0, ge=0, le=HOUR_S, description="a number of seconds from 0 to 3600"
    )
    grace_s: float = Field(
        10.0, ge=0.5, le=HOUR_S, description="a number of seconds from 0.5 to 3600"
    )
    reload_grace_s: float = Field(
        60.0,
        ge=0,
        le=WEEK_S,
        description="a number of seconds from 0 (no limit) to 604800",
    )
    start_timeout_s: float = Field(
        10.0, ge=0.1, le=HOUR_S, description="a number of seconds from 0.1 to 3600"
    )
    heartbeat_timeout_s: float = Field(
        30.0, ge=2, le=HOUR_S, description="a number of seconds from 2 to 3600"
    )
    pid_file: RuntimePath = Field(
        Path("/run/unpd/unpd.pid"), description='an absolute path, such as "/run/unpd/unpd.pid"'
    )
    control: Annotated[Path, BeforeValidator(_socket_path)] = Field(
        Path("/run/unpd/control.sock"),
        description='an absolute path, such as "/run/unpd/control.sock"',
    )


class LogConfig(Section):
    """The table ``[log]``. ``file``: "" for standard error. ``connections``: log the
    start and the end of each connection at "info".
    """

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description='"debug", "info", "warning" or "error"'
    )
    format: Literal["text", "json"] = Field("text", description='"text" or "json"')
    file: Annotated[str, AfterValidator(_log_file)] = Field(
        "", description='an absolute path, or "" for standard error'
    )
    connections: bool = Field(False, description="true or false")


class Metrics(Section):
    """The table ``[metrics]``. ``listen``: None (in TOML: false) for no exporter.
    ``required``: without its listener nothing starts and no reload succeeds.
    """

    listen: Annotated[Address | None, BeforeValidator(_metrics_address)] = Field(
        TcpAddress("127.0.0.1", 9867), description=METRICS_FORMS
    )
    required: bool = Field(True, description="true or false")
    allow: Annotated[AccessList, BeforeValidator(access_list)] = Field(
        AccessList(), description=EXAMPLE
    )


class Pool(Section):
    """A table ``[pools.NAME]``."""

    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=MAX_POOL_WORKERS)] = Field(
        "auto", description=f'"auto" or a whole number from 1 to {MAX_POOL_WORKERS}'
    )
    max_connections_per_worker: int = Field(
        10_000, ge=1, le=MAX_CONNECTIONS, description=f"a whole number from 1 to {MAX_CONNECTIONS}"
    )


class ServingKeys(Section):
    """The keys about how a service is served, whoever its clients are.

    ``model``: how the streams of a service are served (:class:`unpd.names.Model`).
    ``max_connections``: of all its children together, 0 for no limit; but if each
    connection is a process, it is from 1 to MAX_SESSIONS, and without the key
    :attr:`ServiceConfig.default_limit` (:mod:`unpd.config.build`).
    ``amplification`` and the two rates are of datagrams: how many bytes may answer one,
    and how many answers a second go to a source prefix, and to all of them.
    """

    pool: str = Field(DEFAULT_POOL, description="the name of a pool")
    model: Literal["event", "fork", "iterative"] = Field(
        "event", description='"event", "fork" or "iterative"'
    )
    max_connections: int = Field(
        0,
        ge=0,
        le=MAX_CONNECTIONS,
        description=f"a whole number from 0 (no limit) to {MAX_CONNECTIONS}",
    )
    backlog: int = Field(
        4096, ge=1, le=MAX_BACKLOG, description=f"a whole number from 1 to {MAX_BACKLOG}"
    )
    idle_timeout_s: float = Field(
        600.0, ge=0.1, le=WEEK_S, description="a number of seconds from 0.1 to 604800"
    )
    session_timeout_s: float = Field(
        0.0, ge=0, le=WEEK_S, description="a number of seconds from 0 (no limit) to 604800"
    )
    keepalive: bool = Field(True, description="true or false")
    user_timeout_s: float = Field(
        60.0, ge=0.1, le=WEEK_S, description="a number of seconds from 0.1 to 604800"
    )
    ipv6_only: bool = Field(False, description="true or false")
    socket_mode: Annotated[int, BeforeValidator(_mode)] = Field(
        0o666, description='a string of three octal digits, or of 0 and three, such as "0660"'
    )
    amplification: float = Field(
        float(DEFAULT_AMPLIFICATION),
        ge=1,
        le=MAX_AMPLIFICATION,
        description=f"a number from 1 to {MAX_AMPLIFICATION}",
    )
    datagram_rate: int = Field(
        1000,
        ge=0,
        le=MAX_DATAGRAM_RATE,
        description=f"a whole number from 0 (no limit) to {MAX_DATAGRAM_RATE}",
    )
    datagram_total_rate: int = Field(
        20_000,
        ge=0,
        le=MAX_DATAGRAM_RATE,
        description=f"a whole number from 0 (no limit) to {MAX_DATAGRAM_RATE}",
    )


class CommonKeys(AccessKeys, ServingKeys):
    """The keys that services have in common and that ``[defaults]`` may have too."""


DEFAULTS_KEYS: tuple[str, ...] = tuple(CommonKeys.model_fields)
"""The keys of ``[defaults]``."""


class ServiceConfig(CommonKeys):
    """A table ``[services.NAME]``: the keys that every service has.

    ``options``: the keys that only this type has, validated by the type's own model.
    ``listen``: never empty. ``never_deny``: that of ``[access]``, if the service is a
    sensor. ``origins``: where the keys stand. ``served_by``: the kind of child that
    serves every service of this type; None: its model decides.
    """

    name: str
    type: str = Field(description="the name of a service type")
    listen: Annotated[
        tuple[Annotated[Address, BeforeValidator(_address)], ...],
        BeforeValidator(array_of(layout.MAX_LISTENERS)),
    ] = Field(
        min_length=1,
        max_length=layout.MAX_LISTENERS,
        description=f'a list of 1 to {layout.MAX_LISTENERS} addresses, such as ["tcp://[::]:7"]',
    )
    options: SerializeAsAny[Options]
    never_deny: AccessList = AccessList()
    origins: KeyOrigins = KeyOrigins()
    served_by: ChildKind | None = None

    @property
    def kind(self) -> ChildKind:
        """The kind of child that serves its streams."""
        return self.served_by or KIND_OF_MODEL[Model(self.model)]

    @property
    def forks(self) -> bool:
        """Whether each of its connections is a process."""
        return self.kind in FORKING_KINDS

    @property
    def default_limit(self) -> int:
        """What ``max_connections`` is without the key."""
        if self.kind in PROGRAM_KINDS:
            return DEFAULT_PROGRAMS
        return DEFAULT_SESSIONS if self.forks else 0

    @property
    def has_default_limit(self) -> bool:
        """Whether ``max_connections`` is what it is without the key."""
        return self.max_connections == self.default_limit

    @cached_property
    def times(self) -> ServiceTimes:
        """The times of the service, as one record."""
        return ServiceTimes(
            idle_timeout_s=self.idle_timeout_s,
            session_timeout_s=self.session_timeout_s,
            user_timeout_s=self.user_timeout_s,
        )

    @cached_property
    def access(self) -> AccessTerms:
        """Who may use the streams of the service, and how much of it, as one record.
        A service that forks enforces max_connections: its sessions have places in a
        table. A sensor answers nothing, so it sends no text of [defaults] either.
        """
        terms = self.terms(self.max_connections, self.never_deny, self.origins)
        if isinstance(self.options, SensorOptions):
            terms = replace(terms, banner_refused=b"", banner_accepted=b"")
        if not self.forks:
            return terms
        return replace(terms, observe=terms.observe - {RefusalReason.MAX_CONNECTIONS})

    @property
    def main_access(self) -> AccessTerms:
        """The terms of its streams; those of its datagrams if it has no streams."""
        only_datagrams = all(map(takes_datagrams, self.listen))
        return self.datagram_access if only_datagrams else self.access

    @property
    def main_uses(self) -> str:
        """The uses of the service that ``main_access`` is about, in words."""
        kinds = {takes_datagrams(address) for address in self.listen}
        if kinds == {True}:
            return "datagrams"
        return "connections, not datagrams" if True in kinds else "connections"

    @cached_property
    def datagram_access(self) -> AccessTerms:
        """The same for its datagrams: none of them is open, waits, gets a text, or has
        a header.
        """
        return replace(
            self.access,
            max_connections=0,
            max_per_source=0,
            on_limit=OnLimit.REFUSE,
            banner_refused=b"",
            banner_accepted=b"",
            proxies=Rules(),
        )


COMMON_KEYS: tuple[str, ...] = ("type", "listen", *DEFAULTS_KEYS)
"""The keys that every service may have; all other keys belong to its type."""


class Config(Section):
    """The whole configuration.

    ``pools``: always contains ``default``, as the first. ``services``: never empty.
    Neither can be changed.
    """

    daemon: Daemon
    control: Control
    log: LogConfig
    metrics: Metrics
    access: Access
    pools: Annotated[Mapping[str, Pool], AfterValidator(MappingProxyType)]
    services: Annotated[Mapping[str, ServiceConfig], AfterValidator(MappingProxyType)]
