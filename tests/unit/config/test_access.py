"""The keys about access: their values, and the sentence about each bad one."""

from collections.abc import Callable

import pytest

from unpd.access.rate import MAX_COUNT
from unpd.config.access import OBSERVABLE, AccessKeys, MaxPressure
from unpd.config.access_lists import EXAMPLE
from unpd.config.load import Loaded
from unpd.config.plan import effective
from unpd.names import ORDERED, RefusalReason

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
EVERY_KEY = """
proxy_protocol = ["10.0.0.0/8", "2001:db8::9"]
allow = ["private", "192.0.2.0/24", "2001:db8::/32", "unix", "uid:0"]
deny = ["198.51.100.7", "loopback", "gid:0"]
max_per_source = 10
source_prefix_v4 = 24
source_prefix_v6 = 56
accept_rate = "100/s burst 200"
accept_rate_per_source = "600/min"
access_times = ["Mon-Fri 08:00-18:00", "22:00-06:00"]
times_zone = "Europe/Berlin"
max_pressure = { cpu = 80, memory = 20.5 }
max_load = 8.5
on_limit = "banner"
banner_refused = "busy\\r\\n"
banner_accepted = "Gr\u00fc\u00dfe\\r\\n"
mode = "observe"
observe = ["max_per_source", "deny"]
"""
PRESSURE = (
    "must be a table such as { cpu = 80, memory = 20 }, with per cents from 0 (no limit) to 100 of"
    " cpu, memory and io"
)
RATE = 'a rate such as "100/s", "600/min", "10/h" or "100/s burst 200"'
RANGES = "'00:00-01:00'," * 65
LONG = "\u00e9" * 2049
BAD = [
    ("allow = 'all'", f"must be {EXAMPLE}"),
    ("deny = [1]", f"must be {EXAMPLE}"),
    ("proxy_protocol = true", f"must be {EXAMPLE}"),
    (
        "proxy_protocol = ['lb.example']",
        ('"lb.example" is a name, and names are not looked up: write the address or the network'),
    ),
    ("deny = [['all']]", f"must be {EXAMPLE}"),
    (
        "deny = ['10.0.0.1/8']",
        (
            '"10.0.0.1/8" has bits beyond its prefix length: write "10.0.0.0/8" for the network, or'
            ' "10.0.0.1" for the address'
        ),
    ),
    (
        "allow = ['uid:no-such-user']",
        '"uid:no-such-user" is not known: this host has no user "no-such-user"',
    ),
    ("max_per_source = -1", "must be a whole number from 0 (no limit) to 1000000"),
    ("max_per_source = 1.5", "must be a whole number from 0 (no limit) to 1000000"),
    ("source_prefix_v4 = 0", "must be a whole number from 1 to 32"),
    ("source_prefix_v4 = 33", "must be a whole number from 1 to 32"),
    ("source_prefix_v6 = 129", "must be a whole number from 1 to 128"),
    ("accept_rate = 100", f'must be {RATE}, or "" for none'),
    ("accept_rate = '100'", f'"100" must be {RATE}'),
    ("accept_rate = '0/s'", f'"0/s" must have numbers from 1 to {MAX_COUNT}'),
    ("accept_rate_per_source = '1/day'", '"1/day" has the unit "day"; use "s", "min" or "h"'),
    (
        "access_times = '08:00-18:00'",
        'must be a list of at most 64 ranges of times, such as ["Mon-Fri 08:00-18:00"]',
    ),
    (
        "access_times = ['Mon 08:00']",
        (
            '"Mon 08:00" must be a range of times such as "08:00-18:00", "Mon-Fri 08:00-18:00" or'
            ' "Sat,Sun 22:00-06:00"'
        ),
    ),
    (
        f"access_times = [{RANGES}]",
        'must be a list of at most 64 ranges of times, such as ["Mon-Fri 08:00-18:00"]',
    ),
    ("times_zone = 'Berlin'", 'there is no time zone "Berlin"; did you mean "Europe/Berlin"?'),
    ("times_zone = 1", 'must be "local", "UTC" or an IANA name such as "Europe/Berlin"'),
    ("max_pressure = 80", PRESSURE),
    ("max_pressure = { disk = 1 }", f'{PRESSURE}: "disk" is none of these'),
    ("max_pressure = { cpu = 101 }", f'{PRESSURE}: "cpu" has another value'),
    ("max_pressure = { cpu = '80' }", f'{PRESSURE}: "cpu" has another value'),
    ('max_pressure = { "a b" = 1, io = -1 }', f'{PRESSURE}: "io" has another value'),
    ("max_load = -1", "must be a number from 0 (no limit) to 10000"),
    ("on_limit = 'drop'", 'must be "queue", "refuse" or "banner"'),
    ("banner_refused = 1", "must be a text of at most 4096 bytes in UTF-8"),
    (f"banner_refused = '{LONG}'", "has 4098 bytes, but may have at most 4096"),
    (f"banner_accepted = '{'x' * 4097}'", "has 4097 bytes, but may have at most 4096"),
    ("mode = 'off'", 'must be "enforce" or "observe"'),
    (
        "mode = '0660'",
        'must be "enforce" or "observe"; the mode of a UNIX socket is socket_mode',
    ),
    (
        "observe = 'deny'",
        'must be a list of keys that refuse clients, such as ["max_per_source"]',
    ),
    (
        "observe = ['max_per_sorce']",
        'no key "max_per_sorce" refuses clients; did you mean "max_per_source"?',
    ),
    (
        "observe = ['denied']",
        (
            'no key "denied" refuses clients; known are "deny", "allow", "access_times",'
            ' "max_pressure", "max_load", "max_connections", "max_per_source", "accept_rate",'
            ' "accept_rate_per_source"'
        ),
    ),
]


def test_without_a_key_there_is_no_limit(accept: Accept) -> None:
    """The defaults let everybody in."""
    service = accept(ECHO).config.services["echo"]
    assert not service.allow
    assert not service.deny
    assert (service.max_per_source, service.accept_rate, service.accept_rate_per_source) == (
        0,
        "",
        "",
    )
    assert (service.access_times, service.max_pressure, service.max_load) == ((), MaxPressure(), 0)
    assert (service.on_limit, service.mode, service.observe) == (None, "enforce", ())


@pytest.mark.parametrize("table", ["services.echo", "defaults"])
def test_every_key_has_its_value(accept: Accept, table: str) -> None:
    """In a service and in [defaults]. What check --show prints loads as the same."""
    text = f"[{table}]\n{EVERY_KEY}"
    loaded = accept(text if table == "services.echo" else f"{text}{ECHO}")
    service = loaded.config.services["echo"]
    assert loaded.warnings == ()
    assert service.model_fields_set >= AccessKeys.model_fields.keys()
    assert service.allow.texts[:2] == ("private", "192.0.2.0/24")
    assert service.max_pressure == MaxPressure(cpu=80.0, memory=20.5)
    assert service.banner_refused == "busy\r\n"
    assert service.banner_accepted == "Gr\u00fc\u00dfe\r\n"
    assert service.access_times == ("Mon-Fri 08:00-18:00", "22:00-06:00")
    assert accept(effective(loaded.config)).config == loaded.config


@pytest.mark.parametrize(("line", "sentence"), BAD)
@pytest.mark.parametrize("table", ["services.echo", "defaults"])
def test_a_bad_value_is_refused_at_its_key(
    refuse: Refuse, table: str, line: str, sentence: str
) -> None:
    """The sentence says what would be right, at the table in which the key stands."""
    key = line.partition(" ")[0]
    text = f"[{table}]\n{line}\n" + (ECHO if table == "defaults" else "")
    assert refuse(text) == [f"unpd.toml:2: {table}.{key}: {sentence}"]


def test_a_bad_item_has_its_own_line(refuse: Refuse) -> None:
    """Each bad item of a list is reported where it stands."""
    assert [
        line.partition(" is ")[0].partition(" must")[0]
        for line in refuse(
            f"{ECHO}deny = [\n'all',\n'x',\n'y']\naccess_times = [\n'00:00-01:00',\n'z']\n"
        )
    ] == [
        'unpd.toml:4: services.echo.deny: "x"',
        'unpd.toml:5: services.echo.deny: "y"',
        'unpd.toml:8: services.echo.access_times: "z"',
    ]


def test_an_empty_value_lifts_a_limit_of_the_defaults(accept: Accept) -> None:
    """Each limit of [defaults] has a value by which a service has none."""
    service = accept(
        "[defaults]\nmax_per_source = 1\naccept_rate = '1/s'\naccess_times = ['00:00-01:00']\n"
        "max_pressure = { cpu = 1 }\nmax_load = 1\ndeny = ['all']\nmax_connections = 1\n"
        f"{ECHO}max_per_source = 0\naccept_rate = ''\naccess_times = []\n"
        "max_pressure = {}\nmax_load = 0\ndeny = []\nmax_connections = 0\n"
    ).config.services["echo"]
    bare = accept(ECHO).config.services["echo"]
    assert service == bare


def test_every_reason_but_a_live_denial_is_a_key() -> None:
    """So a service can observe each of its rules and limits."""
    assert set(RefusalReason) - set(OBSERVABLE) == set(ORDERED)
    keys = {*AccessKeys.model_fields, "max_connections"}
    assert {str(reason) for reason in OBSERVABLE} <= keys


def test_the_table_of_live_denials(accept: Accept, refuse: Refuse) -> None:
    """[access] has a file for them, and the sources that are never among them."""
    access = accept(ECHO).config.access
    assert (access.state_file, access.never_deny.texts) == ("", ("loopback",))
    text = "[access]\nstate_file = '/var/lib/unpd/denied.json'\nnever_deny = ['private']\n"
    loaded = accept(text + ECHO)
    assert loaded.config.access.state_file == "/var/lib/unpd/denied.json"
    assert loaded.config.access.never_deny.texts == ("private",)
    assert accept(effective(loaded.config)).config == loaded.config
    assert refuse(f"[access]\nstate_file = 'x'\nnever_deny = ['y']\ndeny = []\n{ECHO}") == [
        'unpd.toml:2: access.state_file: "x" is not an absolute path: it must begin with "/"',
        (
            'unpd.toml:3: access.never_deny: "y" is a name, and names are not looked up: write the'
            " address or the network"
        ),
        "unpd.toml:4: access.deny: unknown key; it belongs in [services.NAME]",
    ]
    (line,) = refuse(f"[metrics]\ndeny = []\n{ECHO}")
    assert line.endswith("[metrics] has only allow, a list of the sources that may ask there")


def test_the_state_file_has_a_path_of_its_own(refuse: Refuse) -> None:
    """It is written, so it is no other file."""
    text = f"[log]\nfile = '/x'\n[access]\nstate_file = '/x'\n{ECHO}"
    assert refuse(text) == ['unpd.toml:4: access.state_file: "/x" is also the path of log.file']


def test_the_metrics_and_the_log(accept: Accept, refuse: Refuse) -> None:
    """[metrics] has a list of its own, and [log] a key for connections."""
    text = f"[metrics]\nallow = ['loopback']\n[log]\nconnections = true\n{ECHO}"
    config = accept(text).config
    assert (config.metrics.allow.texts, config.log.connections) == (("loopback",), True)
    assert accept(effective(config)).config == config
    assert refuse(f"[log]\nconnections = 1\n[metrics]\nallow = ['%']\n{ECHO}")[0] == (
        "unpd.toml:2: log.connections: must be true or false"
    )
