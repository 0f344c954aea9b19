"""Properties of the configuration: round trips, files in any split, and any text or
value as input.
"""

import contextlib
import copy
import ipaddress
import json
import tomllib
from collections import ChainMap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.scale import many
from unpd.config.addresses import parse_address
from unpd.config.build import build
from unpd.config.findings import Findings, problems
from unpd.config.host import Host
from unpd.config.lines import lines_of
from unpd.config.load import load, loads
from unpd.config.merge import merge
from unpd.config.origins import Origins
from unpd.config.plan import effective, restart_needed
from unpd.config.schema import COMMON_KEYS, Config
from unpd.config.source import Source, Used, parse
from unpd.errors import ConfigError
from unpd.names import MAX_WORKERS

without_deadline = settings(
    max_examples=many(1000, at_least=50),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""No deadline: the speed of the machine is no property of the configuration."""

HOST = Host(uid=0, user="root", runtime_dir="/run/unpd", somaxconn=None, cpus=4)

names = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
file_names = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="/"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))
hosts = st.one_of(
    st.integers(0, 0xDFFF_FFFF).map(
        lambda number: str(ipaddress.IPv4Address(number))
    ),  # beyond lies multicast
    st.integers(0, (0xFE80 << 96) - 1)  # below link-local and multicast, and not IPv4-mapped
    .filter(lambda number: number >> 16 != 0xFFFF)
    .map(lambda number: f"[{ipaddress.IPv6Address(number << 16)}]"),
    st.just("[fe80::1%eth0]"),
)
addresses = st.one_of(
    st.builds("{}://{}:{}".format, st.sampled_from(("tcp", "udp")), hosts, st.integers(0, 65535)),
    st.lists(file_names, min_size=1, max_size=2)
    .map(lambda parts: "unix:///sockets/" + "/".join(parts))
    .filter(lambda text: len(text.encode()) < 107),
)
accounts = st.from_regex(r"[A-Za-z0-9_.\\@é-]{1,32}", fullmatch=True)


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    """Whole numbers and fractions from ``least`` to ``most``."""
    return st.floats(least, most) | st.integers(int(least) + 1, int(most)).map(float)


def paths(directory: str) -> st.SearchStrategy[str]:
    """Absolute paths in ``directory``."""
    return file_names.map(lambda name: f"/{directory}/{name}")


def table(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with any of these keys."""
    return st.fixed_dictionaries({}, optional=keys)


rules = st.lists(
    st.sampled_from(["all", "private", "loopback", "unix", "uid:0", "192.0.2.0/24", "2001:db8::1"]),
    max_size=3,
)
rates = st.sampled_from(["", "1/s", "600/min burst 601", "10/h"])
ACCESS_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "allow": rules,
    "deny": rules,
    "max_connections": st.integers(0, 1_000_000),
    "max_per_source": st.integers(0, 1_000_000),
    "proxy_protocol": rules,
    "accept_rate": rates,
    "accept_rate_per_source": rates,
    "access_times": st.lists(st.sampled_from(["00:00-24:00", "Mon-Fri 22:00-06:00"]), max_size=2),
    "times_zone": st.sampled_from(["local", "UTC", "Europe/Berlin"]),
    "max_pressure": table(cpu=st.integers(0, 100), memory=st.floats(0, 100)),
    "max_load": st.floats(0, 10_000),
    "banner_refused": st.text(max_size=20),
    "mode": st.sampled_from(["enforce", "observe"]),
    "observe": st.lists(st.sampled_from(["deny", "max_load"]), max_size=2),
}


def service(listen: list[str], pools: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """A service on these addresses in one of these pools."""
    common = {
        "backlog": st.integers(1, 1_000_000),
        "pool": st.sampled_from([*pools, "default"]),
        "idle_timeout_s": seconds(0.1, 604_800),
        "session_timeout_s": seconds(0, 604_800),
        "keepalive": st.booleans(),
        "user_timeout_s": seconds(0.1, 604_800),
        "socket_mode": st.from_regex(r"0?[0-7]{3}", fullmatch=True),
        **ACCESS_KEYS,
    }
    own = {
        "format": st.sampled_from(["ctime", "rfc867", "iso8601"]),
        "timezone": st.sampled_from(["local", "UTC", "Europe/Berlin"]),
    }
    fixed = {"listen": st.just(listen)}
    echo = st.fixed_dictionaries({"type": st.just("echo"), **fixed}, optional=common)
    return echo | st.fixed_dictionaries(
        {"type": st.just("daytime"), **fixed}, optional={**common, **own}
    )


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """The tables of a valid configuration, as tomllib returns them."""
    pools = draw(st.lists(names, max_size=3, unique=True))
    ports = draw(
        st.lists(addresses, min_size=1, max_size=8, unique_by=lambda text: text.rpartition(":")[2])
    )
    services = draw(st.lists(names, min_size=1, max_size=len(ports), unique=True))
    return {
        "daemon": draw(
            table(
                user=accounts,
                group=accounts,
                lame_duck_s=seconds(0, 3600),
                grace_s=seconds(0.5, 3600),
                reload_grace_s=seconds(0, 604_800),
                start_timeout_s=seconds(0.1, 3600),
                heartbeat_timeout_s=seconds(2, 3600),
                pid_file=paths("pids"),
                control=paths("control").filter(lambda path: len(path.encode()) < 107),
            )
        ),
        "log": draw(
            table(
                level=st.sampled_from(["debug", "info", "warning", "error"]),
                format=st.sampled_from(["text", "json"]),
                file=paths("log"),
            )
        ),
        "metrics": draw(
            table(listen=st.sampled_from([False, "tcp://127.0.0.1:0", "unix:///metrics"]))
        )
        or {"listen": False},
        "pools": {
            name: draw(
                table(
                    workers=st.just("auto") | st.integers(1, MAX_WORKERS // 4),
                    max_connections_per_worker=st.integers(1, 1_000_000),
                )
            )
            for name in pools
        },
        "access": draw(table(state_file=paths("state"), never_deny=rules)),
        "defaults": draw(table(**ACCESS_KEYS, backlog=st.integers(1, 1_000_000))),
        "services": {
            name: draw(service(ports[index :: len(services)], pools))
            for index, name in enumerate(services)
        },
    }


def built(raw: dict[str, Any]) -> Config:
    """Build the configuration from ``raw``, which is valid."""
    findings = Findings()
    config = build(raw, Origins([Source("unpd.toml", "")]).place, HOST, findings)
    assert not findings.errors
    return config


@without_deadline
@given(tables())
def test_effective_round_trip(raw: dict[str, Any]) -> None:
    """Every configuration that is written as TOML loads as the same configuration, and
    a reload of it needs no restart.
    """
    config = built(raw)
    loaded = loads(effective(config), HOST).config
    assert loaded == config
    assert restart_needed(config, loaded) == ()
    assert effective(loaded) == effective(config)


@st.composite
def split_tables(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A valid configuration, and the same keys split over several files; a service
    stays in one file.
    """
    raw = draw(tables())
    files: list[dict[str, Any]] = [{} for _ in range(draw(st.integers(1, 5)))]

    def some_file() -> dict[str, Any]:
        return draw(st.sampled_from(files))

    for section, keys in raw.items():
        for key, value in keys.items():
            if section != "pools":
                some_file().setdefault(section, {})[key] = value
                continue
            some_file().setdefault(section, {}).setdefault(key, {})
            for inner, number in value.items():
                some_file().setdefault(section, {}).setdefault(key, {})[inner] = number
    return raw, files


def merged(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge ``files``, in which no service occurs twice."""
    findings = Findings()
    table, _ = merge(
        [(Source(f"{rank}.toml", ""), file) for rank, file in enumerate(files)], findings
    )
    assert not findings.errors
    return table


@without_deadline
@given(split_tables())
def test_split_over_files(split: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    """Any split over files gives the same configuration, and the merge does not change
    the tables of the files.
    """
    raw, files = split
    before = copy.deepcopy(files)
    assert built(merged(files)) == built(raw)
    assert files == before


@without_deadline
@given(
    st.lists(
        tables().map(
            lambda raw: {section: keys for section, keys in raw.items() if section != "services"}
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_last_file_wins(files: list[dict[str, Any]]) -> None:
    """Each key has the value of the last file that has it, and no key is lost or
    invented.
    """
    found = merged(files)
    for section in ("daemon", "log", "metrics", "access", "defaults"):
        assert found[section] == dict(ChainMap(*(file[section] for file in reversed(files))))
    for name in {name for file in files for name in file["pools"]}:
        assert found["pools"][name] == dict(
            ChainMap(*(file["pools"].get(name, {}) for file in reversed(files)))
        )


@without_deadline
@given(addresses)
def test_address_round_trip(text: str) -> None:
    """An address parses back from its own text."""
    address = parse_address(text)
    assert parse_address(address.text) == address


@without_deadline
@given(st.text())
@example("tcp://")
@example("unix://")
@example("tcp://[]:")
@example("tcp://[%]:7")
@example("tcp://[fe80::1%eth0..1]:7")
def test_any_text_as_address(text: str) -> None:
    """Any text is an address or is refused with one printable line."""
    try:
        parse_address(text)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017  both ways out are right


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=5,
)
known = st.sampled_from(
    [
        "daemon",
        "log",
        "access",
        "defaults",
        "deny",
        "max_pressure",
        "pools",
        "services",
        "echo",
        "default",
        "listen",
        "type",
        "user",
        "workers",
        "format",
        "options",
        "name",
        "control",
    ]
)


anything = st.dictionaries(
    known,
    st.dictionaries(known, st.dictionaries(known, values, max_size=4) | values, max_size=4)
    | values,
    max_size=4,
)


@without_deadline
@given(st.lists(anything, min_size=1, max_size=3))
def test_any_values(files: list[dict[str, Any]]) -> None:
    """Any values at any places of any files give findings of one printable line, and no
    exception.
    """
    findings = Findings()
    raw, origins = merge(
        [(Source(f"{rank}.toml", ""), file) for rank, file in enumerate(files)], findings
    )
    build(raw, origins.place, HOST, findings)
    assert all(str(problem).isprintable() for problem in problems(findings.errors, origins))


def elements(value: Any) -> int:
    """How many keys, tables and items of lists ``value`` has, in any depth. The marks
    of TOML do not show the last item of a list.
    """
    if isinstance(value, dict):
        return len(value) + sum(map(elements, value.values()))
    return len(value) - 1 + sum(map(elements, value)) if isinstance(value, list) and value else 0


@without_deadline
@given(st.text(st.sampled_from("abc.=[]{}\"'#\\ \n\t,1:-"), max_size=60) | st.text(max_size=60))
@example('a = ["""x"""", 1, "", 1, 1]')
@example("a = ['''y''''', 1, 1]")
@example('a = ["\\"", 1, 1] # "')
def test_any_text(text: str) -> None:
    """Any text loads or is refused with a ConfigError, and the scanner of lines ends
    and finds every top-level key that tomllib finds. No text looks smaller to the bound
    than it is.
    """
    lines = lines_of(text)
    with contextlib.suppress(tomllib.TOMLDecodeError):
        parsed, used = tomllib.loads(text), Used()
        assert all((key,) in lines for key in parsed)
        with contextlib.suppress(ConfigError):
            parse(Source("unpd.toml", text), used)
        assert used.elements >= elements(parsed)
    try:
        loads(text, HOST)
    except ConfigError as error:
        assert error.problems  # noqa: PT017  both ways out are right


SHIPPED = (ROOT / "config/unpd.toml").read_bytes()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The shipped file, with a piece of it replaced by any bytes."""
    start = draw(st.integers(0, len(SHIPPED)))
    end = draw(st.integers(start, min(start + 40, len(SHIPPED))))
    return SHIPPED[:start] + draw(st.binary(max_size=12)) + SHIPPED[end:]


@pytest.fixture(scope="module")
def some_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file that a test may write again and again."""
    path = tmp_path_factory.mktemp("fuzz") / "unpd.toml"
    path.touch(mode=0o644)
    return path


@without_deadline
@given(content=st.binary() | damaged())
@example(content=b"\xff\xfe[\0l\0o\0g\0]\0")
@example(content=b"\xef\xbb\xbf[services.echo]\r\n")
def test_any_bytes_as_file(some_file: Path, content: bytes) -> None:
    """Any bytes in a file load or are refused with sentences of one printable line
    each. No other exception leaves the loader.
    """
    some_file.write_bytes(content)
    try:
        load(some_file, HOST)
    except ConfigError as error:
        assert all(str(problem).isprintable() for problem in error.problems)  # noqa: PT017


KEYS = [
    *(("daemon", key) for key in ("user", "group", "pid_file", "control", "grace_s")),
    *(("log", key) for key in ("level", "format", "file")),
    ("metrics", "listen"),
    *(("access", key) for key in ("state_file", "never_deny")),
    *(("defaults", key) for key in ("deny", "observe", "times_zone")),
    *(("pools.default", key) for key in ("workers", "max_connections_per_worker")),
    *(("services.daytime", key) for key in (*COMMON_KEYS, "timezone", "format")),
]
ODD_TEXTS = st.sampled_from(
    [
        "tcp://[fe80::1%eth0..1]:7777",
        "unix:///caf\u00e9 \u2028",
        "/run/\x00",
        "Europe",
        "../UTC",
        "tzdata.zi",
        "__init__.py",
        "Europe/\ud7ff",
    ]
)


@without_deadline
@given(
    place=st.sampled_from(KEYS),
    text=st.text() | st.text("/.:-%[]0123456789abcdef", max_size=40) | ODD_TEXTS | names,
    in_list=st.booleans(),
)
def test_any_text_as_value(place: tuple[str, str], text: str, in_list: bool) -> None:
    """Any text as the value of any key loads or is refused, on a host where accounts
    and interfaces are looked up.
    """
    table, key = place
    value = json.dumps(text).replace("\x7f", "\\u007f")
    host = Host(
        uid=0,
        user="root",
        runtime_dir="/run/unpd",
        somaxconn=None,
        cpus=4,
        check_accounts=True,
        check_interfaces=True,
    )
    line = f"{key} = [{value}]" if in_list else f"{key} = {value}"
    services = "" if table == "services.daytime" else "[services.daytime]\n"
    try:
        loads(f"{services}[{table}]\n{line}\n", host)
    except ConfigError as error:
        assert all(str(problem).isprintable() for problem in error.problems)  # noqa: PT017
        assert "please report it" not in str(error)  # noqa: PT017
