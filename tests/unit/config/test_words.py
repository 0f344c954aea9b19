"""The advice for words that unpd does not have: those of xinetd and of other daemons,
tables in the wrong place, values in quotes.
"""

from collections.abc import Callable

import pytest

from unpd.config.build import KEYS_OF_TABLES
from unpd.config.foreign import INSTEAD
from unpd.config.wording import name_suggestion, nearest, suggestion
from unpd.services.table import SERVICES

Refuse = Callable[[str], list[str]]

WORDS = {
    "port": 'address and port stand in listen, such as listen = ["tcp://[::]:7"]',
    "bind": 'address and port stand in listen, such as listen = ["tcp://[::]:7"]',
    "interface": 'address and port stand in listen, such as listen = ["tcp://[::]:7"]',
    "disable": "a service is switched off by deleting its table",
    "only_from": 'the key is allow, a list such as ["192.0.2.0/24", "uid:alice"]',
    "no_access": ("the key is deny, a list of the same forms as allow; what both match is refused"),
    "banner": (
        "the keys are banner_refused and banner_accepted, with the text itself and not the"
        " name of a file"
    ),
    "banner_fail": (
        "the key is banner_refused, with the text itself and not the name of a file; at a"
        ' limit with on_limit = "banner"'
    ),
    "banner_success": (
        "the key is banner_accepted, with the text itself and not the name of a file"
    ),
    "instances": (
        "the key is max_connections of a service; that of a worker is max_connections_per_worker"
        " in [pools.NAME]"
    ),
    "log_type": "the key is file in [log]; without it the log goes to standard error",
    "log_on_success": "the key is connections in [log]",
    "nice": 'only services of type "exec", "python" have it',
    "server": 'a service of type "exec" has the key command',
    "command": 'only services of type "exec" have it',
    "flags": (
        'the keys are keepalive and ipv6_only; for SENSOR, type = "sensor"; NODELAY and REUSE are'
        " always on, and the path in command stands for the name of NAMEINARGS"
    ),
    "wait": 'only services of type "exec" have it',
    "socket_type": (
        "each address in listen says it: streams come to tcp:// and unix://, datagrams to udp://"
        " and unixgram://"
    ),
    "protocol": (
        "each address in listen says it: streams come to tcp:// and unix://, datagrams to udp://"
        " and unixgram://"
    ),
    "path": (
        'a UNIX socket stands in listen, such as listen = ["unix:///run/unpd/echo.sock"]; the log'
        ' file is file in [log]; only services of type "python" have a path'
    ),
    "id": "the name of the service is that of its table: [services.NAME]",
    "v6only": "the key is ipv6_only",
    "cps": (
        'the key is accept_rate, such as "50/s" for "50 10"; the second number has no key: a rate'
        " never switches a service off"
    ),
    "per_source": "the key is max_per_source",
    "accept-proxy": 'the key is proxy_protocol, a list of load balancers such as ["10.0.0.9"]',
    "deny_time": (
        'the key is deny_time_s of a service with type = "sensor", in seconds and not in minutes'
    ),
    "umask": (
        'only services of type "exec" and "python" have it; the key for a UNIX socket is'
        " socket_mode"
    ),
    "user": 'it belongs in [daemon]; only services of type "exec" and "python" have their own',
    "group": 'it belongs in [daemon]; only services of type "exec" and "python" have their own',
    "timeout": (
        "the keys are idle_timeout_s, session_timeout_s and user_timeout_s in [services.NAME]"
    ),
    "threads": "the key is workers in [pools.NAME]",
    "loglevel": "the key is level in [log]",
    "logfile": "the key is file in [log]",
    "pid_file": "it belongs in [daemon]",
    "workers": "it belongs in [pools.NAME]",
    "session_timeout": 'did you mean "session_timeout_s"?',
    "keep_alive": 'did you mean "keepalive"?',
    "redirect": 'the type of the service is "redirect", with the key to',
    "env": (
        'a service of type "exec" has environment, a table such as { LANG = "C.UTF-8" };'
        " else set Environment= in the unit"
    ),
    "passenv": 'the key is pass_environment of a service of type "exec", such as ["LANG"]',
    "rlimit_as": (
        'a service of type "exec" has limits, with as_mb, cpu_s and nofile; else set it in the unit'
        " of systemd: Limit...="
    ),
}
TEXTS = [
    ("", ": no service is configured: add a table such as [services.echo]"),
    ("[Services.echo]\n", ':1: Services: unknown table; did you mean "services"?'),
    ("[service.echo]\n", ':1: service: unknown table; did you mean "services"?'),
    ("[echo]\nlisten=[]\n", ":1: echo: unknown table; a service is a table [services.echo]"),
    ("[lobby]\ntype='echo'\n", ":1: lobby: unknown table; a service is a table [services.lobby]"),
    ("[metric]\nlisten=false\n", ':1: metric: unknown table; did you mean "metrics"?'),
    ("[metrcs]\nlisten=false\n", ':1: metrcs: unknown table; did you mean "metrics"?'),
    (
        "[metric]\ntype='echo'\nlisten=[]\n",
        ":1: metric: unknown table; a service is a table [services.metric]",
    ),
    ("[pool.default]\nworkers=1\n", ':1: pool: unknown table; did you mean "pools"?'),
    ("[default]\nworkers=1\n", ":1: default: unknown table; a pool is a table [pools.default]"),
    (
        "[server]\n[services.echo]\n",
        (
            ':1: server: unknown table; known here: "daemon", "control", "log",'
            ' "metrics", "access", "pools", "services", "defaults"'
        ),
    ),
    (
        "[default]\nbacklog=1\n[services.echo]\n",
        ':1: default: unknown table; did you mean "defaults"?',
    ),
    (
        "[logging]\n[services.echo]\n",
        (
            ':1: logging: unknown table; known here: "daemon", "control", "log",'
            ' "metrics", "access", "pools", "services", "defaults"'
        ),
    ),
    (
        "pidfile='/x'\n[services.echo]\n",
        ':1: pidfile: unknown key; did you mean "pid_file" in [daemon]?',
    ),
    (
        "[metrics]\nenabled=false\n[services.echo]\n",
        ":2: metrics.enabled: unknown key; listen = false switches the metrics off",
    ),
    (
        "[metrics]\nport=9867\n[services.echo]\n",
        (
            ":2: metrics.port: unknown key; address and port stand in listen, such as"
            ' listen = ["tcp://[::]:7"]'
        ),
    ),
    ("[services.echo]\nkeepalive='yes'", ":2: services.echo.keepalive: must be true or false"),
    (
        "[services.echo]\nkeepalive='true'",
        ":2: services.echo.keepalive: must be true or false; write it without quotes",
    ),
    ("[services.echo]\nkeepalive=1", ":2: services.echo.keepalive: must be true or false"),
    (
        "[services.echo]\nbacklog='128'",
        (
            ":2: services.echo.backlog: must be a whole number from 1 to 1000000; write"
            " it without quotes"
        ),
    ),
    (
        "[services.echo]\nbacklog=1.5",
        ":2: services.echo.backlog: must be a whole number from 1 to 1000000",
    ),
    (
        "[services.echo]\nidle_timeout_s='10s'",
        ":2: services.echo.idle_timeout_s: must be a number of seconds from 0.1 to 604800",
    ),
    (
        "[services.echo]\nidle_timeout_s='10'",
        (
            ":2: services.echo.idle_timeout_s: must be a number of seconds from 0.1 to"
            " 604800; write it without quotes"
        ),
    ),
    (
        "[services.echo]\nidle_timeout_s=-1",
        ":2: services.echo.idle_timeout_s: must be a number of seconds from 0.1 to 604800",
    ),
    (
        "[services.echo]\nsocket_mode=660",
        (
            ":2: services.echo.socket_mode: must be a string of three octal digits, or of 0"
            ' and three, such as "0660"'
        ),
    ),
    (
        "[services.echo]\nsocket_mode='u=rw'",
        (
            ":2: services.echo.socket_mode: must be a string of three octal digits, or of 0"
            ' and three, such as "0660"'
        ),
    ),
    ("[services.echo]\npool=['default']", ":2: services.echo.pool: must be the name of a pool"),
    (
        "[services.echo]\ntype='finger'\n",
        (
            ':2: services.echo.type: there is no service type "finger"; set type to one of'
            ' "chargen", "daytime", "discard", "echo", "exec", "python", "qotd", "redirect",'
            ' "sensor", "tcpmux", "time"'
        ),
    ),
    (
        "[services.Echo]\n",
        (
            ":1: services.Echo: the name of a service must begin with a lower-case letter"
            ' and have at most 32 lower-case letters, digits and hyphens; did you mean "echo"?'
        ),
    ),
    (
        "[services.echo_two]\ntype='echo'\n",
        (
            ":1: services.echo_two: the name of a service must begin with a lower-case"
            " letter and have at most 32 lower-case letters, digits and hyphens; did you mean"
            ' "echo-two"?'
        ),
    ),
    (
        "[pools.default]\nworkers='4'\n[services.echo]\n",
        (
            ':2: pools.default.workers: must be "auto" or a whole number from 1 to 512;'
            " write it without quotes"
        ),
    ),
    (
        "[pools.default]\nworkers='auto '\n[services.echo]\n",
        ':2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
    ),
    (
        "[pools.default]\nworkers=0\n[services.echo]\n",
        ':2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
    ),
    (
        "[daemon]\nuser=1000\n[services.echo]\n",
        ':2: daemon.user: must be the name of a user, such as "unpd"',
    ),
    (
        "[daemon]\nuser='unpd:unpd'\n[services.echo]\n",
        ':2: daemon.user: must be the name of a user, such as "unpd"',
    ),
    (
        "[log]\nlevel='warn'\n[services.echo]\n",
        ':2: log.level: must be "debug", "info", "warning" or "error"',
    ),
    (
        "[log]\nlevel='INFO'\n[services.echo]\n",
        ':2: log.level: must be "debug", "info", "warning" or "error"',
    ),
    (
        "[log]\nfile='syslog'\n[services.echo]\n",
        ':2: log.file: "syslog" is not an absolute path: it must begin with "/"',
    ),
    (
        "[log]\nfile='~/unpd.log'\n[services.echo]\n",
        ':2: log.file: "~/unpd.log" is not an absolute path: it must begin with "/"',
    ),
    (
        "[services.daytime]\ntimezone='Berlin'\n",
        (
            ':2: services.daytime.timezone: there is no time zone "Berlin"; did you mean'
            ' "Europe/Berlin"?'
        ),
    ),
    (
        "[services.daytime]\ntimezone='CEST'\n",
        ':2: services.daytime.timezone: there is no time zone "CEST"; did you mean "EST"?',
    ),
    (
        "[services.daytime]\nformat='iso'\n",
        ':2: services.daytime.format: must be "ctime", "rfc867" or "iso8601"',
    ),
    (
        "[daemon]\ngrace_s=100000\n[services.echo]\n",
        ":2: daemon.grace_s: must be a number of seconds from 0.5 to 3600",
    ),
    ("[[services.echo]]\n", ":1: services.echo: must be a table, written as [services.echo]"),
    ("services='echo'\n", ":1: services: must be a table, written as [services]"),
    (
        "[services]\necho='tcp://[::]:7'\n",
        ":2: services.echo: must be a table, written as [services.echo]",
    ),
]
XINETD = frozenset(
    """
id type flags disable socket_type protocol wait user group instances nice server server_args
libwrap only_from no_access access_times log_type log_on_success log_on_failure rpc_version
rpc_number env passenv port redirect bind interface banner banner_success banner_fail
per_source cps max_load groups mdns umask enabled include includedir rlimit_as rlimit_cpu
rlimit_data rlimit_rss rlimit_stack rlimit_files deny_time v6only
""".split()  # noqa: SIM905  a list of strings would take a page
)
"""Every attribute in xinetd.conf(5)."""


@pytest.mark.parametrize(("word", "advice"), WORDS.items())
def test_a_word_of_another_program(refuse: Refuse, word: str, advice: str) -> None:
    """The key of a service that xinetd, another table or another daemon has is refused
    with what unpd has instead, or with the plain word that there is nothing.
    """
    assert refuse(f"[services.echo]\n{word} = 'x'\n") == [
        f"unpd.toml:2: services.echo.{word}: unknown key; {advice}"
    ]


@pytest.mark.parametrize(("text", "sentence"), TEXTS)
def test_a_mistake_of_an_administrator(refuse: Refuse, text: str, sentence: str) -> None:
    """A mistake that people make is refused in one line that says what is right."""
    assert refuse(text) == [f"unpd.toml{sentence}"]


def test_every_word_of_xinetd_has_an_answer() -> None:
    """Each attribute of xinetd is a key of unpd, or a word with advice."""
    ours = {key for _, keys in KEYS_OF_TABLES for key in keys}
    ours |= set(SERVICES["exec"].options.model_fields)
    assert XINETD - ours - INSTEAD.keys() == set()


def test_no_advice_hides_a_key() -> None:
    """No key of unpd is a foreign word."""
    assert not {key for _, keys in KEYS_OF_TABLES for key in keys} & INSTEAD.keys()


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("grase_s", "grace_s"),
        ("Grace-S", "grace_s"),
        ("access_times", ""),
        ("time", ""),
        ("", ""),
        ("berlin", "Europe/Berlin"),
    ],
)
def test_only_what_is_near_is_suggested(word: str, near: str) -> None:
    """A word is suggested for a slip of the keyboard, another case, or a missing
    directory, and not for a word that merely shares letters.
    """
    known = ("grace_s", "session_timeout_s", "daytime", "Europe/Berlin", "/")
    assert nearest(word, known) == near
    assert suggestion(word, known) == (f'; did you mean "{near}"?' if near else "")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("my_sql", "my-sql"),
        ("My SQL", "my-sql"),
        ("_x__y_", "x-y"),
        ("web.example.net", "web-example-net"),
        ("echo_two", ""),
        ("9fans", ""),
        ("\u00e9cho", ""),
        ("", ""),
        ("_", ""),
        ("a" * 33, ""),
    ],
)
def test_a_name_that_other_programs_allow_gets_one_that_is_right(name: str, meant: str) -> None:
    """Such as an underscore in xinetd. A name that is taken is no advice."""
    wanted = f'; did you mean "{meant}"?' if meant else ""
    assert name_suggestion(name, ("echo-two", "echo")) == wanted
