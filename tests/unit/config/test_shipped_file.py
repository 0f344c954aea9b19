"""config/unpd.toml, which the packages install: it is valid, complete, and says about
each key what the code does.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import annotated_types
import pytest
from pydantic.fields import FieldInfo

from unpd.config.access import Access, MaxPressure
from unpd.config.access_lists import AccessList
from unpd.config.control import Control
from unpd.config.host import Host
from unpd.config.load import loads
from unpd.config.plan import restart_needed
from unpd.config.schema import COMMON_KEYS, Daemon, LogConfig, Metrics, Pool, ServiceConfig
from unpd.services.program import ProcessOptions, ProgramLimits
from unpd.services.table import SERVICES

TEXT = (Path(__file__).parents[3] / "config/unpd.toml").read_text()
ENABLED = re.sub(r"^#(?=\[|\w+ = )", "", TEXT, flags=re.MULTILINE)
"""The file with the services that are off, as if the operator had enabled them all."""

SECTIONS = (
    ("daemon", Daemon),
    ("control", Control),
    ("log", LogConfig),
    ("metrics", Metrics),
    ("access", Access),
    ("pools.default", Pool),
)
KEYS = [
    (table, key, field) for table, model in SECTIONS for key, field in model.model_fields.items()
]
COMMON = [(key, ServiceConfig.model_fields[key]) for key in COMMON_KEYS]
FOREIGN_PORTS = {"exec": 9200, "python": 10078, "redirect": 8080, "sensor": 23}
"""The ports in the file of types that have none of their own."""
OWN = [
    (name, key)
    for name, row in SERVICES.items()
    for key in row.options.model_fields
    # The keys that two types have are explained with the first.
    if name != "python" or key not in ProcessOptions.model_fields
]


def comment_above(table: str, key: str) -> str:
    """The comment directly above ``key`` in ``[table]``, as one line."""
    body = re.split(r"^\[", ENABLED.split(f"\n[{table}]\n")[1], flags=re.MULTILINE)[0]
    found = re.search(rf"((?:^#.*\n)+){key} = ", body, flags=re.MULTILINE)
    assert found, f"[{table}] {key} has no comment right above it"
    return re.sub(r"\s*\n#\s*", " ", found.group(1))


def entry(key: str) -> str:
    """The entry of ``key`` in the list of the services' common keys, as one line."""
    found = re.search(rf"^#   {key} .*\n(?:#    .*\n)*", TEXT, flags=re.MULTILINE)
    assert found, f"the common key {key} is not in the list"
    return re.sub(r"\s*\n#\s*", " ", found.group())


def says_range(text: str, field: FieldInfo) -> bool:
    """Whether ``text`` names the bounds of ``field``, if it has any."""
    bounds: list[Any] = [rule.ge for rule in field.metadata if isinstance(rule, annotated_types.Ge)]
    bounds += [rule.le for rule in field.metadata if isinstance(rule, annotated_types.Le)]
    return all(re.search(rf"\b{re.escape(str(bound))}\b", text) for bound in bounds)


def says_default(text: str, default: object) -> bool:
    """Whether ``text`` names the default as the file would write it."""
    written = (
        {True: "true", False: "false"}.get(default)
        if isinstance(default, bool)
        else f"{default:g}"
        if isinstance(default, float)
        else json.dumps([*default])
        if isinstance(default, tuple)
        else json.dumps(default.texts)
        if isinstance(default, AccessList)
        else "{}"
        if isinstance(default, MaxPressure | ProgramLimits)
        else str(default)
    )
    return f"Default: {written}" in text or f'Default: "{written}"' in text


def test_loads(host: Host) -> None:
    """The file loads without a warning, with the values in the documentation."""
    loaded = loads(TEXT, host)
    config = loaded.config
    assert loaded.warnings == ()
    assert (config.daemon.user, config.daemon.group) == ("unpd", "unpd")
    assert {
        name: [address.text for address in service.listen]
        for name, service in config.services.items()
    } == {
        "daytime": ["tcp://[::]:13"],
        "echo": ["tcp://[::]:7"],
    }


def test_shows_the_defaults(host: Host) -> None:
    """Except for user and group, every value in the file is its default: deleting a
    line changes nothing.
    """
    shipped, bare = (
        loads(TEXT, host).config,
        loads("[services.daytime]\n[services.echo]", host).config,
    )
    assert restart_needed(bare, shipped) == ("daemon.user", "daemon.group")
    daemon = shipped.daemon.model_copy(update={"user": bare.daemon.user, "group": None})
    assert shipped.model_copy(update={"daemon": daemon}) == bare


@pytest.mark.parametrize(
    ("table", "key", "field"), KEYS, ids=[f"{table}.{key}" for table, key, _ in KEYS]
)
def test_explains_every_key(table: str, key: str, field: FieldInfo) -> None:
    """Each key is in the file below a comment with its default and its range."""
    values: Any = tomllib.loads(TEXT)
    for name in table.split("."):
        values = values[name]
    assert key in values
    comment = comment_above(table, key)
    assert "Default: " in comment
    assert says_range(comment, field)
    if key not in ("group", "listen", "read_group"):  # their defaults are not values of TOML
        assert says_default(comment, field.default)


@pytest.mark.parametrize(("key", "field"), COMMON, ids=COMMON_KEYS)
def test_explains_every_common_key(key: str, field: FieldInfo) -> None:
    """Each common key of services is in the list with its default and its range."""
    text = entry(key)
    assert "Default: " in text or key == "listen"
    assert says_range(text, field)
    if key not in ("type", "listen", "on_limit"):  # their defaults depend on the service
        assert says_default(text, "0666" if key == "socket_mode" else field.default)


def test_every_service_is_there_to_be_enabled(host: Host) -> None:
    """Each service type has its table, with its own port (those that have none have one
    of another protocol), and those that are off load once the "#" before them is
    removed (and a file of quotations is not there).
    """
    text = re.sub(r'^file = "/.*', "", ENABLED, flags=re.MULTILINE)
    loaded = loads(text, host)
    assert {
        name: [address.text for address in service.listen]
        for name, service in loaded.config.services.items()
    } == {name: [f"tcp://[::]:{row.port or FOREIGN_PORTS[name]}"] for name, row in SERVICES.items()}
    assert loaded.warnings == ()


@pytest.mark.parametrize(("service", "key"), OWN)
def test_explains_every_own_key(service: str, key: str) -> None:
    """Each key that only one service type has is in the table of that service."""
    field = SERVICES[service].options.model_fields[key]
    comment = comment_above(f"services.{service}", key)
    assert says_default(comment, field.default) or (field.is_required() and "default" in comment)


def test_marks_what_needs_a_restart() -> None:
    """The keys that a reload cannot change, and no others, are marked so."""
    marked = {
        f"{table}.{key}" for table, key, _ in KEYS if "Needs a restart" in comment_above(table, key)
    }
    assert marked == {
        "daemon.user",
        "daemon.group",
        "daemon.pid_file",
        "daemon.control",
        "log.file",
        "log.format",
    }
