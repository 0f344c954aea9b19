"""From the tables that tomllib gives to the models, without stopping at the first
fault.

Each table is validated by itself, and what is faulty in it is noted and replaced by its
default, so that a fault in one key hides none in another: the cross-checks see all the
rest. A service's keys are parted here: those that every service has, and those of its
type's own options.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from unpd.board import layout
from unpd.config.findings import Findings
from unpd.config.host import Host
from unpd.config.lines import KeyPath
from unpd.config.schema import (
    COMMON_KEYS,
    DEFAULT_POOL,
    NAME_RULE,
    Config,
    Daemon,
    LogConfig,
    Metrics,
    Pool,
    ServiceConfig,
    is_name,
)
from unpd.config.wording import choice, quoted, suggestion
from unpd.libraries import BaseModel, ValidationError
from unpd.services.base import Options, ServiceType
from unpd.services.table import SERVICES

Table = Mapping[str, Any]
Model = TypeVar("Model", bound=BaseModel)

SECTIONS = tuple(Config.model_fields)
HOMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("daemon", tuple(Daemon.model_fields)),
    ("log", tuple(LogConfig.model_fields)),
    ("metrics", tuple(Metrics.model_fields)),
    ("pools.NAME", tuple(Pool.model_fields)),
    ("services.NAME", COMMON_KEYS),
)
"""Where each key belongs, for those who wrote it elsewhere."""

NO_POOLS: Mapping[str, dict[str, Any]] = MappingProxyType({DEFAULT_POOL: {}})
"""The pools of a file that configures none."""


def build(raw: Table, host: Host, findings: Findings) -> Config:
    """The configuration in ``raw``, to be used only if ``findings`` holds no error
    afterwards.
    """
    _refuse_unknown((), raw, SECTIONS, findings)
    pools = _named("pools", raw, layout.MAX_POOLS, findings)
    if len(pools) == layout.MAX_POOLS and DEFAULT_POOL not in pools:
        findings.error(
            ("pools",),
            f"{layout.MAX_POOLS + 1} pools are configured, {quoted(DEFAULT_POOL)} among them, but"
            f" {layout.MAX_POOLS} are the most",
        )
    services = _named("services", raw, layout.MAX_SERVICES, findings)
    if raw.get("services", {}) == {}:
        findings.error((), "no service is configured: add a table such as [services.echo]")
    return Config(
        daemon=_section("daemon", Daemon, raw, findings, host.daemon_defaults()),
        log=_section("log", LogConfig, raw, findings, {}),
        metrics=_section("metrics", Metrics, raw, findings, {}),
        pools={
            name: _checked(("pools", name), Pool, table, findings, {})
            for name, table in {**NO_POOLS, **pools}.items()
        },
        services={name: _service(name, table, findings) for name, table in services.items()},
    )


def _section(
    name: str, model: type[Model], raw: Table, findings: Findings, defaults: Table
) -> Model:
    table = _table((name,), raw.get(name, {}), findings)
    return _checked((name,), model, table or {}, findings, defaults)


def _checked(
    path: KeyPath, model: type[Model], table: Table, findings: Findings, defaults: Table
) -> Model:
    """``table`` as ``model``; unknown and faulty keys go to ``findings``. ``defaults``
    stand before those of the model.
    """
    _refuse_unknown(path, table, tuple(model.model_fields), findings)
    return _model(
        path,
        model,
        {key: value for key, value in table.items() if key in model.model_fields},
        findings,
        defaults,
    )


def _model(
    path: KeyPath, model: type[Model], table: Table, findings: Findings, defaults: Table
) -> Model:
    try:
        return model.model_validate({**defaults, **table})
    except ValidationError as failure:
        findings.refuse(path, model, failure)
        faulty = {
            detail["loc"][0] for detail in failure.errors(include_input=False, include_url=False)
        }
        sound = {key: value for key, value in {**defaults, **table}.items() if key not in faulty}
        needed = {
            key: value
            for key, value in defaults.items()
            if key in faulty and model.model_fields[key].is_required()
        }
        return model.model_validate({**needed, **sound})


def _table(path: KeyPath, value: Any, findings: Findings) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    findings.error(path, f"must be a table, written as [{'.'.join(str(key) for key in path)}]")
    return None


def _named(what: str, raw: Table, limit: int, findings: Findings) -> dict[str, dict[str, Any]]:
    """The tables of ``raw[what]`` whose names and shapes are right; of more than
    ``limit`` only the first are looked at.
    """
    tables = _table((what,), raw.get(what, {}), findings) or {}
    if len(tables) > limit:
        findings.error((what,), f"{len(tables)} {what} are configured, but {limit} are the most")
    found = {}
    for name in list(tables)[:limit]:
        if not is_name(name):
            findings.error((what, name), f"the name of a {what[:-1]} {NAME_RULE}")
        elif (table := _table((what, name), tables[name], findings)) is not None:
            found[name] = table
    return found


def _service(name: str, table: Table, findings: Findings) -> ServiceConfig:
    path: KeyPath = ("services", name)
    kind = _type(path, table.get("type", name), findings)
    common = {key: value for key, value in table.items() if key in COMMON_KEYS}
    common |= {
        "name": name,
        "type": kind.name if kind else name,
        "options": _options(path, kind, table, findings),
    }
    return _model(
        path,
        ServiceConfig,
        common,
        findings,
        {"listen": [f"tcp://[::]:{kind.port if kind else 0}"]},
    )


def _options(path: KeyPath, kind: ServiceType | None, table: Table, findings: Findings) -> Options:
    """The type's own options out of a service's table; a placeholder if they are
    refused, or if the type is and with it what they would be.
    """
    if kind is None:
        return Options()
    known = tuple(kind.options.model_fields)
    _refuse_unknown(path, table, (*COMMON_KEYS, *known), findings)
    try:
        return kind.options.model_validate({key: table[key] for key in known if key in table})
    except ValidationError as failure:
        findings.refuse(path, kind.options, failure)
        return Options()


def _type(path: KeyPath, given: Any, findings: Findings) -> ServiceType | None:
    if isinstance(given, str) and given in SERVICES:
        return SERVICES[given]
    if isinstance(given, str):
        advice = suggestion(given, SERVICES) or f"; set type to one of {choice(SERVICES)}"
        findings.error((*path, "type"), f"there is no service type {quoted(given)}{advice}")
    else:
        findings.error((*path, "type"), f"must be one of {choice(SERVICES)}")
    return None


def _refuse_unknown(
    path: KeyPath, table: Table, known: tuple[str, ...], findings: Findings
) -> None:
    for key, value in table.items():
        if key not in known:
            what = "table" if isinstance(value, dict) else "key"
            findings.error((*path, key), f"unknown {what}{_advice(key, path, known)}")


def _advice(key: str, path: KeyPath, known: tuple[str, ...]) -> str:
    """What was meant: a key of another table, or one of this table that is spelled
    alike, or else any that this table may hold.
    """
    if path[:1] == ("services",) and (
        takers := [row.name for row in SERVICES.values() if key in row.options.model_fields]
    ):
        return f"; only services of type {choice(takers)} take it"
    homes = [home for home, keys in HOMES if key in keys]
    return (
        f"; it belongs in [{homes[0]}]"
        if homes
        else suggestion(key, known) or f"; known here: {choice(known)}"
    )
