"""Derives from a configuration what others need: which keys a reload may not change,
how many workers a pool wants, values to compare, and the whole configuration as TOML.

Called by the master and the command line. Calls unpd.kernel.cpus. Raises TypeError for
an option that TOML cannot express: a fault of the service type.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from unpd.config.checks import wanted_workers
from unpd.config.schema import COMMON_KEYS, DEFAULT_POOL, Config, Pool, ServiceConfig
from unpd.config.writing import fields_of, written
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


def why_restart(keys: tuple[str, ...]) -> str:
    """Why a reload that changes these keys is refused; "" for none."""
    return f"{', '.join(keys)} cannot be changed by a reload: restart unpd" if keys else ""


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
        f"[{name}]\n" + "".join(f"{key} = {written(value)}\n" for key, value in table.items())
        for name, table in tables
    )


def _tables(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "daemon", fields_of(config.daemon)
    if control := fields_of(config.control):
        yield "control", control
    yield "log", fields_of(config.log)
    yield "metrics", {"listen": False, **fields_of(config.metrics)}
    yield "access", fields_of(config.access)
    used = {service.pool for service in config.services.values()}
    for name, pool in config.pools.items():
        # An unused default pool is left out: loading it would give a warning.
        if name in used or name != DEFAULT_POOL or pool != Pool():
            yield f"pools.{name}", fields_of(pool)
    for name, service in config.services.items():
        yield f"services.{name}", _service_fields(service)


def _service_fields(service: ServiceConfig) -> dict[str, Any]:
    common = fields_of(service)
    return {
        **{key: common[key] for key in COMMON_KEYS if key in common},
        "socket_mode": f"{service.socket_mode:04o}",
        **service.options.model_dump(mode="json", exclude_none=True),
    }
