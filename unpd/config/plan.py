"""Derives from a configuration what others need: which keys a reload may not change,
how many workers a pool wants, values to compare, and the whole configuration as TOML.

Called by the master and the command line. Calls unpd.kernel.cpus. Raises TypeError for
an option that TOML cannot express: a fault of the service type.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unpd.config.access_lists import AccessList
from unpd.config.addresses import FileAddress, InternetAddress, SystemdAddress
from unpd.config.checks import wanted_workers
from unpd.config.schema import COMMON_KEYS, DEFAULT_POOL, Config, Pool, ServiceConfig
from unpd.config.section import Section
from unpd.kernel.cpus import usable_cpus
from unpd.libraries import BaseModel

RESTART_KEYS: tuple[tuple[str, str], ...] = (
    ("daemon", "user"),
    ("daemon", "group"),
    ("daemon", "pid_file"),
    ("daemon", "control"),
    ("log", "format"),
    ("log", "file"),
)
"""The keys that are fixed for the life of a master."""


def restart_needed(old: Config, new: Config) -> tuple[str, ...]:
    """The dotted keys that differ between ``old`` and ``new`` although only a restart
    can change them; a reload that changes one is refused.
    """
    return tuple(
        f"{table}.{key}"
        for table, key in RESTART_KEYS
        if getattr(getattr(old, table), key) != getattr(getattr(new, table), key)
    )


def values_of(section: BaseModel) -> dict[str, Any]:
    """The values of a table of the configuration, by key, down to those of its own
    models, and what their private attributes hold, such as the content of a file. Two
    tables that mean the same have equal values.
    """
    found = {key: getattr(section, key) for key in type(section).model_fields}
    found |= section.__pydantic_private__ or {}
    return {
        key: values_of(value) if isinstance(value, BaseModel) else value
        for key, value in found.items()
    }


def worker_count(pool: Pool, cpus: int | None = None) -> int:
    """How many workers ``pool`` wants, 1 to 512; "auto" means one for each CPU.

    ``cpus``: by default the CPUs that this process may use.
    """
    return wanted_workers(pool, usable_cpus() if cpus is None else cpus)


def effective(config: Config) -> str:
    """``config`` as TOML with every key, including defaults; loading it gives an equal
    configuration.
    """
    tables = [*_tables(config)]
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        for name, table in tables
    )


def _tables(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "daemon", _fields(config.daemon)
    yield "log", _fields(config.log)
    yield "metrics", {"listen": False, **_fields(config.metrics)}
    yield "access", _fields(config.access)
    used = {service.pool for service in config.services.values()}
    for name, pool in config.pools.items():
        # An unused default pool is left out: loading it would give a warning.
        if name in used or name != DEFAULT_POOL or pool != Pool():
            yield f"pools.{name}", _fields(pool)
    for name, service in config.services.items():
        yield f"services.{name}", _service_fields(service)


def _fields(section: Section) -> dict[str, Any]:
    """The keys with their values. TOML has no null: a key whose value is None, such as
    a group, is left out.
    """
    values = {key: getattr(section, key) for key in type(section).model_fields}
    return {key: value for key, value in values.items() if value is not None}


def _service_fields(service: ServiceConfig) -> dict[str, Any]:
    common = _fields(service)
    return {
        **{key: common[key] for key in COMMON_KEYS if key in common},
        "socket_mode": f"{service.socket_mode:04o}",
        **service.options.model_dump(mode="json"),
    }


def _toml(value: Any) -> str:
    """One value as TOML; TypeError for a type that TOML cannot express."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Path():
            return _toml(str(value))
        case InternetAddress() | FileAddress() | SystemdAddress():
            return _toml(value.text)
        case AccessList():
            return _toml(value.texts)
        case Section():
            pairs = (f"{key} = {_toml(item)}" for key, item in _fields(value).items())
            return f"{{ {', '.join(pairs)} }}"
        case tuple() | list():
            return f"[{', '.join(_toml(item) for item in value)}]"
    raise TypeError(f"an option of type {type(value).__name__} cannot be written as TOML")
