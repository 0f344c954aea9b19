"""Which keys differ between two configurations, with both values as TOML.

Called by the master for ``unpd reload --dry-run``. Calls :mod:`unpd.config.plan` and
:mod:`unpd.config.writing`. Raises nothing.

A service, or a pool, that only one of the two has is no difference of keys. Values of
``environment`` are not shown: they may be secrets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unpd.config.plan import values_of
from unpd.config.schema import COMMON_KEYS, Config, ServiceConfig
from unpd.config.section import Section
from unpd.config.writing import written
from unpd.errors import MAX_CHARACTERS

TABLES = ("daemon", "control", "log", "metrics", "access")
"""The tables without a name, in the order of the file."""
HIDDEN = "environment"
NOT_SHOWN = "(not shown)"
OF_FILE = "(the content of a file)"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key. ``before``, ``after``: its values as TOML, the beginning of a long one;
    "" for a value that TOML cannot express, such as no value.
    """

    key: str
    before: str
    after: str


def changed_keys(old: Config, new: Config) -> tuple[KeyChange, ...]:
    """Return the keys that differ, in the order of the file."""
    return tuple(_changes(old, new))


def _changes(old: Config, new: Config) -> Iterator[KeyChange]:
    for table in TABLES:
        yield from _in_section(table, getattr(old, table), getattr(new, table))
    for name, pool in new.pools.items():
        if name in old.pools:
            yield from _in_section(f"pools.{name}", old.pools[name], pool)
    for name, service in new.services.items():
        if name in old.services:
            yield from _in_service(name, old.services[name], service)


def _in_section(table: str, old: Section, new: Section) -> Iterator[KeyChange]:
    for key in type(new).model_fields:
        yield from _at(f"{table}.{key}", key, getattr(old, key), getattr(new, key))


def _in_service(name: str, old: ServiceConfig, new: ServiceConfig) -> Iterator[KeyChange]:
    """The common keys, then those of the type."""
    table = f"services.{name}"
    for key in COMMON_KEYS:
        yield from _at(f"{table}.{key}", key, getattr(old, key), getattr(new, key))
    before, after = values_of(old.options), values_of(new.options)
    of_files = False
    for key in {**after, **before}:
        if key.startswith("_"):
            of_files |= before.get(key) != after.get(key)
        else:
            yield from _at(f"{table}.{key}", key, before.get(key), after.get(key))
    if of_files:
        yield KeyChange(table, OF_FILE, OF_FILE)


def _at(path: str, key: str, before: Any, after: Any) -> Iterator[KeyChange]:
    if before == after:
        return
    if key == HIDDEN:
        yield KeyChange(path, NOT_SHOWN, NOT_SHOWN)
        return
    shown = _shown(key, before), _shown(key, after)
    # The texts of two lists are the same where one of their files has changed.
    yield KeyChange(path, *(shown if shown[0] != shown[1] else (OF_FILE, OF_FILE)))


def _shown(key: str, value: Any) -> str:
    if value is None:
        return ""
    try:
        text = written(f"{value:04o}" if key == "socket_mode" else value)
    except TypeError:
        return ""
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
