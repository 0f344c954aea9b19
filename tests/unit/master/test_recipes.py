"""A recipe changes with every value of the configuration that a child is born with."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from unpd.access.rules import Origin
from unpd.config.access import Access, MaxPressure
from unpd.config.access_lists import KeyOrigins, list_of
from unpd.config.addresses import TcpAddress, UdpAddress
from unpd.config.control import Control, ReadGroup
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.config.schema import Config, Daemon, LogConfig, Metrics, Pool, ServiceConfig
from unpd.core.model import PoolKey, Recipe
from unpd.libraries import BaseModel
from unpd.master.children.kinds import wanted_children
from unpd.master.listening.listener import OpenListener
from unpd.master.listening.sources import ListenerSources
from unpd.master.listening.table import Listeners
from unpd.master.runtime import Deployment
from unpd.names import ChildKind
from unpd.services.program import ProgramLimits
from unpd.services.table import SERVICES

TEXT = """
[daemon]
user = "nobody"

[metrics]
listen = "tcp://127.0.0.1:9867"

[pools.slow]
workers = 1

[services.echo]
listen = ["tcp://127.0.0.1:7007"]

[services.daytime]
listen = ["tcp://127.0.0.1:7013"]
pool = "slow"

[services.qotd]
listen = ["tcp://127.0.0.1:7017"]
pool = "slow"

[services.sensor]
listen = ["tcp://127.0.0.1:7023"]
pool = "slow"

[services.forked]
type = "discard"
model = "fork"
listen = ["tcp://127.0.0.1:7009"]
pool = "slow"

[services.exec]
listen = ["tcp://127.0.0.1:9200"]
pool = "slow"
command = ["/bin/sh"]

[services.redirect]
listen = ["tcp://127.0.0.1:7080"]
to = ["tcp://127.0.0.1:80"]
pool = "slow"

[services.tcpmux]
listen = ["tcp://127.0.0.1:7001"]
pool = "slow"
services = ["qotd"]
"""

WORKERS = (ChildKind.WORKER, "default")
SLOW = (ChildKind.WORKER, "slow")
EXPORTER = (ChildKind.EXPORTER, "exporter")
DISPATCHER = (ChildKind.DISPATCHER, "slow")
LAUNCHER = (ChildKind.LAUNCHER, "slow")
EVERY = {WORKERS, SLOW, DISPATCHER, LAUNCHER, EXPORTER}

TABLES: dict[str, type[BaseModel]] = {
    "daemon": Daemon,
    "control": Control,
    "log": LogConfig,
    "metrics": Metrics,
    "access": Access,
    "pools.default": Pool,
    "services.echo": ServiceConfig,
    "services.daytime.options": SERVICES["daytime"].options,
    "services.exec.options": SERVICES["exec"].options,
    "services.qotd.options": SERVICES["qotd"].options,
    "services.redirect.options": SERVICES["redirect"].options,
    "services.sensor.options": SERVICES["sensor"].options,
    "services.tcpmux.options": SERVICES["tcpmux"].options,
}
"""A table of each model of the configuration."""

CHANGES: dict[tuple[str, str], tuple[Any, set[PoolKey]]] = {
    ("daemon", "grace_s"): (11.0, EVERY),
    ("log", "level"): ("error", EVERY),
    ("log", "format"): ("json", EVERY),
    ("log", "file"): ("/other.log", EVERY),
    ("metrics", "allow"): (list_of("private"), {EXPORTER}),
    ("log", "connections"): (True, EVERY),
    ("metrics", "listen"): (TcpAddress("127.0.0.1", 1), {EXPORTER}),
    # The exporter looks for a ready child of another kind.
    ("services.echo", "model"): (
        "iterative",
        {WORKERS, (ChildKind.ITERATIVE, "default"), EXPORTER},
    ),
    ("services.echo", "max_connections"): (11, {WORKERS}),
    ("pools.default", "max_connections_per_worker"): (11, {WORKERS}),
    ("services.echo", "name"): ("other", {WORKERS}),
    ("services.echo", "type"): ("daytime", {WORKERS}),
    ("services.echo", "listen"): ((TcpAddress("127.0.0.1", 1),), {WORKERS, EXPORTER}),
    ("services.echo", "pool"): ("slow", {WORKERS, SLOW, EXPORTER}),
    ("services.echo", "backlog"): (11, {WORKERS}),
    ("services.echo", "idle_timeout_s"): (11.0, {WORKERS}),
    ("services.echo", "session_timeout_s"): (11.0, {WORKERS}),
    ("services.echo", "keepalive"): (False, {WORKERS}),
    ("services.echo", "user_timeout_s"): (11.0, {WORKERS}),
    ("services.echo", "ipv6_only"): (True, {WORKERS}),
    ("services.echo", "socket_mode"): (0o600, {WORKERS}),
    ("services.echo", "amplification"): (2.0, {WORKERS}),
    ("services.echo", "datagram_rate"): (11, {WORKERS}),
    ("services.echo", "datagram_total_rate"): (11, {WORKERS}),
    ("services.echo", "proxy_protocol"): (list_of("private"), {WORKERS}),
    ("services.echo", "allow"): (list_of("private"), {WORKERS}),
    ("services.echo", "deny"): (list_of("private"), {WORKERS}),
    ("services.echo", "max_per_source"): (11, {WORKERS}),
    ("services.echo", "source_prefix_v4"): (11, {WORKERS}),
    ("services.echo", "source_prefix_v6"): (11, {WORKERS}),
    ("services.echo", "accept_rate"): ("11/s", {WORKERS}),
    ("services.echo", "accept_rate_per_source"): ("11/s", {WORKERS}),
    ("services.echo", "access_times"): (("08:00-18:00",), {WORKERS}),
    ("services.echo", "times_zone"): ("UTC", {WORKERS}),
    ("services.echo", "max_pressure"): (MaxPressure(cpu=11.0), {WORKERS}),
    ("services.echo", "max_load"): (11.0, {WORKERS}),
    ("services.echo", "on_limit"): ("refuse", {WORKERS}),
    ("services.echo", "banner_refused"): ("no", {WORKERS}),
    ("services.echo", "banner_accepted"): ("yes", {WORKERS}),
    ("services.echo", "mode"): ("observe", {WORKERS}),
    ("services.echo", "observe"): (("deny",), {WORKERS}),
    ("services.echo", "never_deny"): (list_of("private"), {WORKERS}),
    # A key that only moved is the same; children name its old line until they change.
    ("services.echo", "origins"): (KeyOrigins({"deny": Origin("other.toml", 7)}), set()),
    ("services.echo", "served_by"): (
        ChildKind.LAUNCHER,
        {WORKERS, (ChildKind.LAUNCHER, "default"), EXPORTER},
    ),
    ("services.echo", "options"): (SERVICES["daytime"].options(), {WORKERS}),
    ("services.daytime.options", "format"): ("iso8601", {SLOW}),
    ("services.daytime.options", "timezone"): ("UTC", {SLOW}),
    ("services.exec.options", "command"): (("/bin/cat",), {LAUNCHER}),
    ("services.exec.options", "user"): ("daemon", {LAUNCHER}),
    ("services.exec.options", "group"): ("daemon", {LAUNCHER}),
    ("services.exec.options", "groups"): (("daemon",), {LAUNCHER}),
    ("services.exec.options", "umask"): ("0027", {LAUNCHER}),
    ("services.exec.options", "nice"): (11, {LAUNCHER}),
    ("services.exec.options", "directory"): ("/tmp", {LAUNCHER}),  # noqa: S108 - only compared
    ("services.exec.options", "limits"): (ProgramLimits(nofile=11), {LAUNCHER}),
    ("services.exec.options", "environment"): ({"LANG": "C"}, {LAUNCHER}),
    ("services.exec.options", "pass_environment"): (("LANG",), {LAUNCHER}),
    ("services.exec.options", "stderr"): ("log", {LAUNCHER}),
    ("services.exec.options", "kill_after_s"): (11.0, {LAUNCHER}),
    ("services.exec.options", "wait"): (True, {LAUNCHER}),
    ("services.exec.options", "pass"): ("systemd", {LAUNCHER}),
    ("services.exec.options", "keep"): (1, {LAUNCHER}),
    ("services.qotd.options", "text"): ("another", {SLOW}),
    ("services.qotd.options", "file"): ("/fortunes", {SLOW}),
    # The exporter has a series for each target.
    ("services.redirect.options", "to"): (("tcp://app.example:80",), {SLOW, EXPORTER}),
    ("services.redirect.options", "connect_timeout_s"): (11.0, {SLOW}),
    ("services.redirect.options", "retry_s"): (11.0, {SLOW}),
    ("services.redirect.options", "resolve_s"): (11.0, {SLOW}),
    ("services.redirect.options", "send_proxy"): (2, {SLOW}),
    ("services.sensor.options", "deny_time_s"): (11.0, {SLOW}),
    ("services.tcpmux.options", "services"): (("qotd", "daytime"), {SLOW}),
}
"""Another value for a key, and the pools whose recipes it changes."""

MASTER_ONLY: dict[tuple[str, str], Any] = {
    # A reload cannot change these; the children read what the master made of them.
    ("daemon", "user"): "daemon",
    ("daemon", "group"): "daemon",
    ("daemon", "pid_file"): Path("/other.pid"),
    ("daemon", "control"): Path("/other.sock"),
    # Only the master watches how long its children take, and how long it is lame.
    ("daemon", "lame_duck_s"): 11.0,
    ("daemon", "reload_grace_s"): 11.0,
    ("daemon", "start_timeout_s"): 11.0,
    ("daemon", "heartbeat_timeout_s"): 11.0,
    # Only the master listens for control.
    ("control", "read_group"): ReadGroup("7", 7),
    # The master alone saves live denials.
    ("access", "state_file"): "/other.json",
    # Sensors have it as a value of their own.
    ("access", "never_deny"): list_of("private"),
    # Whether there is an exporter; the exporter itself does not read it.
    ("metrics", "required"): False,
    # The number of children; no child reads it.
    ("pools.default", "workers"): 7,
}
"""Another value for a key that no child reads, with the reason before it."""


class FakeSocket:
    """As much of a listening socket as a recipe reads: a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd


@pytest.fixture(scope="module")
def fds() -> Iterator[tuple[int, int]]:
    """Two descriptors of different files."""
    found = os.pipe()[0], os.open("/dev/null", os.O_RDONLY)
    yield found
    for fd in found:
        os.close(fd)


def recipes(config: Config, fd: int) -> dict[PoolKey, tuple[Recipe, Recipe]]:
    """Return the recipes and rules of a configuration whose listeners have the
    descriptor ``fd``.
    """
    sources = ListenerSources()
    sock = cast(socket.socket, FakeSocket(fd))
    opened = {
        wanted.key: OpenListener(wanted, sock, cast(TcpAddress, wanted.address))
        for wanted in sources.wanted_listeners(config)
    }
    wanted = wanted_children(Deployment(config, Listeners(sources, opened)))
    return {key: (pool.recipe, pool.rules) for key, pool in wanted.pools.items()}


def changed_pools(before: Config, after: Config, fds: tuple[int, int]) -> set[PoolKey]:
    """Return the pools whose recipes or rules differ between two configurations."""
    old, new = recipes(before, fds[0]), recipes(after, fds[1])
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def changed(config: Config, table: str, key: str, value: Any) -> Config:
    """Return ``config`` with another value of one key."""

    def replaced(model: Any, path: list[str]) -> Any:
        if not path:
            return model.model_copy(update={key: value})
        first, *rest = path
        if isinstance(model, BaseModel):
            return model.model_copy(update={first: replaced(getattr(model, first), rest)})
        return {**model, first: replaced(model[first], rest)}

    result = replaced(config, table.split("."))
    assert isinstance(result, Config)
    return result


@pytest.fixture(scope="module")
def config() -> Config:
    """Return the configuration that each test changes."""
    return loads(TEXT, this_host()).config


def test_every_key_of_the_configuration_is_known_here() -> None:
    """A new key of the configuration stands in one of the two tables above: either it
    changes a recipe, or there is a reason why no child reads it.
    """
    keys = {(table, key) for table, model in TABLES.items() for key in model.model_fields}
    assert CHANGES.keys() | MASTER_ONLY.keys() == keys
    assert set(Config.model_fields) == {table.partition(".")[0] for table in TABLES}
    options = {
        row.options
        for row in SERVICES.values()
        # A reload replaces python dispatchers, whatever it changes.
        if row.options.model_fields and row.served_by is not ChildKind.PYTHON
    }
    assert options <= set(TABLES.values())


@pytest.mark.parametrize(("table", "key"), CHANGES)
def test_a_key_that_children_read_changes_their_recipes(
    config: Config, fds: tuple[int, int], table: str, key: str
) -> None:
    """A key that children read changes the recipes of exactly these children."""
    value, pools = CHANGES[table, key]
    assert changed_pools(config, changed(config, table, key, value), (fds[0], fds[0])) == pools


@pytest.mark.parametrize(
    ("service", "key", "value", "in_recipe"),
    [
        ("echo", "allow", list_of("10.0.0.0/8"), False),
        ("echo", "max_per_source", 3, False),
        ("echo", "max_connections", 3, False),
        ("forked", "allow", list_of("10.0.0.0/8"), False),
        ("forked", "max_connections", 3, True),
        ("exec", "allow", list_of("10.0.0.0/8"), False),
        ("exec", "max_connections", 3, True),
        ("echo", "idle_timeout_s", 3.0, True),
    ],
)
def test_rules_are_apart_from_the_recipe(
    config: Config, fds: tuple[int, int], service: str, key: str, value: Any, *, in_recipe: bool
) -> None:
    """A reload that changes only who may come in lets the connections last; the table
    of sessions has room for as many as there may be.
    """
    before = recipes(config, fds[0])
    after = recipes(changed(config, f"services.{service}", key, value), fds[0])
    (pool,) = (pool for pool in before if before[pool] != after[pool])
    recipe, rules = (old == new for old, new in zip(before[pool], after[pool], strict=True))
    assert (recipe, rules) == (not in_recipe, in_recipe)


@pytest.mark.parametrize(("table", "key"), MASTER_ONLY)
def test_a_key_that_no_child_reads_changes_no_recipe(
    config: Config, fds: tuple[int, int], table: str, key: str
) -> None:
    """A key that no child reads changes no recipe, so that a reload which changes it
    touches no connection.
    """
    other = changed(config, table, key, MASTER_ONLY[table, key])
    assert other != config
    assert changed_pools(config, other, (fds[0], fds[0])) == set()


def test_a_python_dispatcher_has_another_recipe_each_time(fds: tuple[int, int]) -> None:
    """Its function may have changed, although the configuration has not."""
    text = '[services.python]\nlisten = ["tcp://127.0.0.1:0"]\nhandler = "module:function"\n'
    config = loads(text, this_host()).config
    assert changed_pools(config, config, (fds[0], fds[0])) == {(ChildKind.PYTHON, "default")}


def test_a_listener_that_was_opened_again_changes_the_recipes(
    config: Config, fds: tuple[int, int]
) -> None:
    """Another socket at the same address changes the recipes: the children that have
    the old one must be replaced.
    """
    assert changed_pools(config, config, fds) == EVERY


def test_the_same_file_gives_the_same_recipes(config: Config, fds: tuple[int, int]) -> None:
    """A file that is loaded again gives equal recipes, also when its tables stand in
    another order, and although a record was computed from the first one meanwhile.
    """
    assert config.services["echo"].times.idle_timeout_s == 600.0
    first, second = TEXT.index("[pools.slow]"), TEXT.index("[services.echo]")
    third = TEXT.index("[services.daytime]")
    moved = TEXT[third:] + TEXT[second:third] + TEXT[first:second] + TEXT[:first]
    for text in (TEXT, moved):
        again = loads(text, this_host()).config
        assert changed_pools(config, again, (fds[0], fds[0])) == set()


def test_a_port_of_another_pool_changes_no_recipe_of_datagrams(
    config: Config, fds: tuple[int, int]
) -> None:
    """Workers that answer datagrams answer no port of unpd, but the master sends them
    the ports: they keep their connections.
    """
    listen = (TcpAddress("127.0.0.1", 7007), UdpAddress("127.0.0.1", 7007))
    before = changed(config, "services.echo", "listen", listen)
    metrics = changed(before, "metrics", "listen", TcpAddress("127.0.0.1", 1))
    assert changed_pools(before, metrics, (fds[0], fds[0])) == {EXPORTER}
    daytime = changed(before, "services.daytime", "listen", (TcpAddress("127.0.0.1", 1),))
    assert changed_pools(before, daytime, (fds[0], fds[0])) == {SLOW, EXPORTER}
