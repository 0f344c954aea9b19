"""Builds the models of the schema from the merged tables, without stopping at the first
fault.

Each table is validated on its own. A faulty key becomes a finding and is replaced by
its default, so that it hides no other fault: the cross-checks then see all the other
keys. The keys of a service are split here into those that every service has and the
options of its type.

``[defaults]`` is validated once, as a table of its own. A service without one of its
keys gets the value as it is, and a finding about that key names ``[defaults]``.

Called by unpd.config.load, between merge and checks. Calls the schema and the models of
the service types. Raises nothing: every fault goes to the findings.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from unpd.board import layout
from unpd.config.access import OBSERVABLE, Access
from unpd.config.access_lists import AccessList, KeyOrigins, ListContext, ListReader
from unpd.config.control import Control
from unpd.config.files import LISTS, NamedFiles
from unpd.config.findings import NO_ADVICE, Findings
from unpd.config.foreign import ACCOUNT, INSTEAD, LIMIT, PATH
from unpd.config.host import Host
from unpd.config.lines import KeyPath
from unpd.config.origins import Place
from unpd.config.schema import (
    COMMON_KEYS,
    DEFAULT_POOL,
    CommonKeys,
    Config,
    Daemon,
    LogConfig,
    Metrics,
    Pool,
    ServiceConfig,
)
from unpd.config.service_types import (
    UnusableTypeError,
    check_service,
    closed_packages,
    options_of,
    service_type,
)
from unpd.config.wording import key_shown, name_suggestion, nearest, quoted_list
from unpd.errors import quoted
from unpd.kernel.privileges import Identity, identify
from unpd.libraries import BaseModel, ValidationError
from unpd.names import METRICS, NAME_RULE, is_name
from unpd.services.base import Options, ServiceType
from unpd.services.sensor import SensorOptions
from unpd.services.table import SERVICES

Table = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)

DEFAULTS = "defaults"
SECTIONS = (*Config.model_fields, DEFAULTS)
Tables = tuple[tuple[str, tuple[str, ...]], ...]
KEYS_OF_TABLES: Tables = (
    ("daemon", tuple(Daemon.model_fields)),
    ("control", tuple(Control.model_fields)),
    ("log", tuple(LogConfig.model_fields)),
    ("metrics", tuple(Metrics.model_fields)),
    ("access", tuple(Access.model_fields)),
    ("pools.NAME", tuple(Pool.model_fields)),
    ("services.NAME", COMMON_KEYS),
)
"""Which table each key belongs to, for the advice about a key in the wrong table."""

ELSEWHERE: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("pools", "max_connections"): (
            "the limit of a pool is max_connections_per_worker; max_connections is of a service"
        ),
        ("services", "connections"): LIMIT,
        ("services", "user"): ACCOUNT,
        ("services", "group"): ACCOUNT,
        ("services", "path"): PATH,
        ("services", "umask"): (
            'only services of type "exec" and "python" have it; the key for a UNIX socket is'
            " socket_mode"
        ),
        (DEFAULTS, "connections"): LIMIT,
        ("metrics", "deny"): "[metrics] has only allow, a list of the sources that may ask there",
        (DEFAULTS, "listen"): (
            "each service has addresses of its own: it belongs in [services.NAME]"
        ),
        (DEFAULTS, "type"): "each service has a protocol of its own: it belongs in [services.NAME]",
        (DEFAULTS, "name"): "the name of a service is that of its table: [services.NAME]",
    }
)
"""The advice about a key of another table, by section, where its table alone would not
tell enough.
"""

DEFAULT_POOLS: Mapping[str, dict[str, Any]] = MappingProxyType({DEFAULT_POOL: {}})
"""The pools that exist without being configured."""


@dataclass(frozen=True, slots=True)
class _Load:
    """What the tables of one load share: the findings, and the readers of files that
    options name and of lists of access rules.
    """

    findings: Findings
    files: NamedFiles
    lists: ListReader


def build(raw: Table, place: Callable[[KeyPath], Place], host: Host, findings: Findings) -> Config:
    """Build the configuration from the merged table ``raw``. ``place``: where a key of
    it stands.

    Use the result only if ``findings`` holds no error afterwards.
    """

    def reader() -> Identity | None:
        """The user with whose rights root reads a file that others may have replaced by
        a link; None for any other user, who reads with their own. KeyError for an
        unknown account.
        """
        return None if host.uid != 0 else host.children or identify(daemon.user, daemon.group)

    lists = ListReader(NamedFiles(reader, LISTS), place)
    load = _Load(findings, NamedFiles(reader), lists)
    _refuse_unknown((), raw, SECTIONS, findings)
    pools = _named_tables("pools", raw, layout.MAX_POOLS, findings)
    if len(pools) == layout.MAX_POOLS and DEFAULT_POOL not in pools:
        findings.error(
            ("pools",),
            f"{layout.MAX_POOLS + 1} pools are configured, including {quoted(DEFAULT_POOL)}, but at"
            f" most {layout.MAX_POOLS} are allowed",
        )
    services = _named_tables("services", raw, layout.MAX_SERVICES, findings)
    # An unknown table was meant to be one of services, more likely than not.
    if raw.get("services", {}) == {} and not _unknown_tables(raw):
        findings.error((), "no service is configured: add a table such as [services.echo]")
    daemon = _section("daemon", Daemon, raw, load, host.daemon_defaults())
    access = _section("access", Access, raw, load, {})
    defaults = _section(DEFAULTS, CommonKeys, raw, load, {})
    return Config(
        daemon=daemon,
        control=_section("control", Control, raw, load, {}),
        log=_section("log", LogConfig, raw, load, {}),
        metrics=_section("metrics", Metrics, raw, load, {}),
        access=access,
        pools={
            name: _validate(("pools", name), Pool, table, load, {})
            for name, table in {**DEFAULT_POOLS, **pools}.items()
        },
        services={
            name: _service(name, table, load, defaults, access) for name, table in services.items()
        },
    )


def _unknown_tables(raw: Table) -> list[str]:
    return [key for key, value in raw.items() if isinstance(value, dict) and key not in SECTIONS]


def _section(name: str, model: type[Model], raw: Table, load: _Load, defaults: Table) -> Model:
    table = _table((name,), raw.get(name, {}), load.findings)
    return _validate((name,), model, table or {}, load, defaults)


def _validate(
    path: KeyPath, model: type[Model], table: Table, load: _Load, defaults: Table
) -> Model:
    """Validate ``table`` as ``model``; unknown and faulty keys become findings.
    ``defaults`` replace those of the model.
    """
    _refuse_unknown(path, table, tuple(model.model_fields), load.findings)
    return _validate_known(
        path,
        model,
        {key: value for key, value in table.items() if key in model.model_fields},
        load,
        defaults,
    )


def _validate_known(
    path: KeyPath, model: type[Model], table: Table, load: _Load, defaults: Table
) -> Model:
    """Validate ``table``, whose keys are all known; a faulty key becomes a finding and
    gets its default.
    """
    context = ListContext(load.lists, path)
    try:
        return model.model_validate({**defaults, **table}, context=context)
    except ValidationError as failure:
        load.findings.refuse(path, model, failure)
        faulty = {
            detail["loc"][0] for detail in failure.errors(include_input=False, include_url=False)
        }
        sound = {key: value for key, value in {**defaults, **table}.items() if key not in faulty}
        needed = {
            key: value
            for key, value in defaults.items()
            if key in faulty and model.model_fields[key].is_required()
        }
        return model.model_validate({**needed, **sound}, context=context)


def _table(path: KeyPath, value: Any, findings: Findings) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    findings.error(path, f"must be a table, written as [{'.'.join(str(key) for key in path)}]")
    return None


def _named_tables(
    section: str, raw: Table, limit: int, findings: Findings
) -> dict[str, dict[str, Any]]:
    """The entries of ``raw[section]`` that are tables with valid names; if there are
    more than ``limit``, only the first ones.
    """
    tables = _table((section,), raw.get(section, {}), findings) or {}
    if len(tables) > limit:
        findings.error(
            (section,),
            f"{len(tables)} {section} are configured, but at most {limit} are allowed",
        )
    found = {}
    for name in list(tables)[:limit]:
        if not is_name(name):
            rule = f"the name of a {section[:-1]} {NAME_RULE}{name_suggestion(name, tables)}"
            findings.error((section, name), rule)
        elif (section, name) == ("services", METRICS):
            rule = "no service may have this name: the exporter, whose table is [metrics], has it"
            findings.error((section, name), rule)
        elif (table := _table((section, name), tables[name], findings)) is not None:
            found[name] = table
    return found


def _service(
    name: str, table: Table, load: _Load, defaults: CommonKeys, access: Access
) -> ServiceConfig:
    path: KeyPath = ("services", name)
    row = _service_type(path, table.get("type", name), load.findings)
    inherited = {
        key: getattr(defaults, key) for key in defaults.model_fields_set if key not in table
    }
    load.findings.inherit(name, inherited)
    common = {key: value for key, value in table.items() if key in COMMON_KEYS}
    common |= {
        "name": name,
        "type": row.name if row else name,
        "options": _options(path, row, table, load),
    }
    if row is not None and not row.port and "listen" not in table:
        load.findings.error(
            (*path, "listen"),
            f"is missing: the type {quoted(row.name)} has no port of its own, and no port is"
            ' looked up by the name of a service; write addresses, such as ["tcp://[::]:9200"]',
        )
    service = _validate_known(
        path,
        ServiceConfig,
        common,
        load,
        {"listen": [f"tcp://[::]:{row.port if row else 0}"]},
    )
    origins = {
        key: load.lists.origin((*path, key) if key in table else (DEFAULTS, key))
        for key in map(str, OBSERVABLE)
        if key in table or key in inherited
    }
    never_deny = access.never_deny if isinstance(service.options, SensorOptions) else AccessList()
    placed = {
        "origins": KeyOrigins(origins),
        "never_deny": never_deny,
        "served_by": row.served_by if row else None,
    }
    return _bounded(service.model_copy(update=inherited | placed))


def _bounded(service: ServiceConfig) -> ServiceConfig:
    """``service`` with its limit: a number of processes is never without one."""
    if not service.forks or "max_connections" in service.model_fields_set:
        return service
    return service.model_copy(update={"max_connections": service.default_limit})


def _options(path: KeyPath, row: ServiceType | None, table: Table, load: _Load) -> Options:
    """The options in a service's table that only its type has. A faulty key becomes a
    finding and gets its default; a placeholder if it has none, or if the type itself is
    unknown or of another package.
    """
    if row is None:
        return Options()
    findings = load.findings
    known = tuple(row.options.model_fields)
    _refuse_unknown(path, table, (*COMMON_KEYS, *known), findings)
    try:
        given = {key: table[key] for key in known if key in table}
        options = options_of(row, given, load.files)
        check_service(row, options)
    except ValidationError as failure:
        findings.refuse(path, row.options, failure)
        if SERVICES.get(row.name) is row:
            faulty = {detail["loc"][:1] for detail in failure.errors(include_url=False)}
            sound = {key: value for key, value in given.items() if (key,) not in faulty}
            with contextlib.suppress(ValidationError):
                return options_of(row, sound, load.files)
    except UnusableTypeError as error:
        findings.error((*path, "type"), str(error))
    else:
        return options
    return Options()


def _service_type(path: KeyPath, given: Any, findings: Findings) -> ServiceType | None:
    if not isinstance(given, str):
        findings.error((*path, "type"), f"must be one of {quoted_list(SERVICES)}")
        return None
    try:
        return service_type(given)
    except UnusableTypeError as error:
        findings.error((*path, "type"), str(error))
    except LookupError:
        advice = findings.advice(given, SERVICES, f"set type to one of {quoted_list(SERVICES)}")
        unless = f", unless it is in {closed}" if (closed := closed_packages()) else ""
        sentence = f"there is no service type {quoted(given)}{unless}{advice}"
        findings.error((*path, "type"), sentence)
    return None


def _refuse_unknown(
    path: KeyPath, table: Table, known: tuple[str, ...], findings: Findings
) -> None:
    for key, value in table.items():
        if key not in known:
            noun = "table" if isinstance(value, dict) else "key"
            anywhere = KEYS_OF_TABLES if noun == "key" else ()
            advice = _known_advice(key, value, path) or _near_advice(key, known, anywhere, findings)
            findings.error((*path, key), f"unknown {noun}; {advice}")


def _known_advice(key: str, value: Any, path: KeyPath) -> str:
    """What the operator may have meant, from the tables alone: a key of another table,
    a foreign word, or a table in the wrong place; "" if it is none of these.
    """
    if path and (str(path[0]), key) in ELSEWHERE:
        return ELSEWHERE[str(path[0]), key]
    if path[:1] in (("services",), (DEFAULTS,)) and (
        types := [row.name for row in SERVICES.values() if key in row.options.model_fields]
    ):
        return f"only services of type {quoted_list(types)} have it"
    tables = [table for table, keys in KEYS_OF_TABLES if key in keys]
    if tables and not isinstance(value, dict):
        # Where the header of a table is missing, it most likely was one of a service.
        return f"it belongs in [{tables[-1]}]"
    return _table_advice(key, value, path)


def _table_advice(key: str, value: Any, path: KeyPath) -> str:
    """Advice about a word of another program, or about a table in the wrong place; ""
    if it is neither.
    """
    if path == ("metrics",) and "switched off" in INSTEAD.get(key, ""):
        return "listen = false switches the metrics off"
    if key in INSTEAD and not isinstance(value, dict):
        return INSTEAD[key]
    if path == () and isinstance(value, dict):
        # [metrics] is the only one of the other tables that has listen.
        misspelt = "type" not in value and nearest(key, (METRICS,))
        if key in SERVICES or (value.keys() & {"listen", "type"} and not misspelt):
            return f"a service is a table [services.{key_shown(key)}]"
        if value.keys() & Pool.model_fields.keys():
            return f"a pool is a table [pools.{key_shown(key)}]"
    return ""


def _near_advice(key: str, known: tuple[str, ...], anywhere: Tables, findings: Findings) -> str:
    """The nearest key of this table, else of any table, else all keys of this table;
    for the first faults only.
    """
    if not findings.may_advise():
        return NO_ADVICE
    if near := nearest(key, known):
        return f"did you mean {quoted(near)}?"
    if near := nearest(key, (word for _, keys in anywhere for word in keys)):
        table = next(table for table, keys in anywhere if near in keys)
        return f"did you mean {quoted(near)} in [{table}]?"
    return f"known here: {quoted_list(known)}"
