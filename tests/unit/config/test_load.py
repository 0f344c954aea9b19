"""Loading a configuration: defaults, values, and the message about each fault."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from unpd.config.addresses import TcpAddress, UnixAddress
from unpd.config.host import Host
from unpd.config.load import Loaded, builtin, load, loads
from unpd.config.schema import COMMON_KEYS
from unpd.errors import ConfigError
from unpd.names import ExitCode
from unpd.services.daytime import DaytimeOptions
from unpd.services.echo import EchoOptions

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
FORMS = (
    'must be an address such as "tcp://127.0.0.1:7", "tcp://[::]:7", "udp://[::]:7",'
    ' "unix:///run/unpd/echo.sock" or "systemd:echo"'
)
METRICS_FORMS = (
    'an address such as "tcp://127.0.0.1:9867", "unix:///run/unpd/metrics.sock" or'
    ' "systemd:metrics", or false for no metrics'
)
NAME_RULE = (
    "must begin with a lower-case letter and have at most 32 lower-case letters, digits and hyphens"
)
SOME_ADDRESSES = 'must be a list of 1 to 256 addresses, such as ["tcp://[::]:7"]'
ECHO_KEYS = ", ".join(f'"{key}"' for key in COMMON_KEYS)
SOCKET_MODE = 'must be a string of three octal digits, or of 0 and three, such as "0660"'


def test_builtin(host: Host) -> None:
    """The built-in default serves daytime, echo and metrics on loopback ports that need
    no privilege.
    """
    loaded = builtin(host)
    assert loaded.path is None
    assert loaded.warnings == ()
    assert {
        name: [address.text for address in service.listen]
        for name, service in loaded.config.services.items()
    } == {"daytime": ["tcp://127.0.0.1:10013"], "echo": ["tcp://127.0.0.1:10007"]}
    assert loaded.config.metrics.listen == TcpAddress("127.0.0.1", 9867)


def test_builtin_is_checked_against_its_host(host: Host) -> None:
    """The built-in default gives the warnings of the host that is passed."""
    found = builtin(replace(host, somaxconn=1)).warnings
    assert len(found) == 2
    assert all("is above net.core.somaxconn, so the kernel uses 1;" in line for line in found)


def test_defaults(accept: Accept) -> None:
    """Every key may be omitted: the name of the table gives the type, and the type
    gives its well-known port.
    """
    config = accept("[services.daytime]\n[services.echo]\n").config
    daytime, echo = config.services["daytime"], config.services["echo"]
    assert (daytime.name, daytime.type, daytime.listen, daytime.options) == (
        "daytime",
        "daytime",
        (TcpAddress("::", 13),),
        DaytimeOptions(),
    )
    assert (echo.name, echo.type, echo.listen, echo.options) == (
        "echo",
        "echo",
        (TcpAddress("::", 7),),
        EchoOptions(),
    )
    assert (echo.pool, echo.backlog, echo.idle_timeout_s, echo.session_timeout_s) == (
        "default",
        4096,
        600.0,
        0.0,
    )
    assert (echo.keepalive, echo.user_timeout_s, echo.ipv6_only, echo.socket_mode) == (
        True,
        60.0,
        False,
        0o666,
    )
    assert (
        config.daemon.user,
        config.daemon.group,
        str(config.daemon.pid_file),
        str(config.daemon.control),
    ) == ("nobody", None, "/run/unpd/unpd.pid", "/run/unpd/control.sock")
    assert (
        config.daemon.lame_duck_s,
        config.daemon.grace_s,
        config.daemon.reload_grace_s,
        config.daemon.start_timeout_s,
        config.daemon.heartbeat_timeout_s,
    ) == (0.0, 10.0, 60.0, 10.0, 30.0)
    assert (config.log.level, config.log.format, config.log.file) == ("info", "text", "")
    assert list(config.pools) == ["default"]
    pool = config.pools["default"]
    assert (pool.workers, pool.max_connections_per_worker) == ("auto", 10_000)


def test_defaults_of_an_ordinary_user(host: Host) -> None:
    """For an ordinary user, unpd stays that user and keeps its files in the user's
    runtime directory.
    """
    config = loads(
        ECHO, replace(host, uid=1000, user="ada", runtime_dir="/run/user/1000/unpd")
    ).config
    assert (config.daemon.user, str(config.daemon.pid_file), str(config.daemon.control)) == (
        "ada",
        "/run/user/1000/unpd/unpd.pid",
        "/run/user/1000/unpd/control.sock",
    )


def test_values(accept: Accept) -> None:
    """The values of the file are the values of the configuration."""
    config = accept("""
        daemon = { user = "unpd", group = "staff", grace_s = 2.5, reload_grace_s = 0 }
        metrics.listen = "unix:///run/unpd/metrics"
        [pools.slow]
        workers = 3
        [services.clock]
        type = "daytime"
        listen = ["tcp://[::1]:0", "unix:///run/unpd/clock"]
        pool = "slow"
        socket_mode = "0600"
        format = "iso8601"
        timezone = "Europe/Berlin"
        """).config
    clock = config.services["clock"]
    assert (
        config.daemon.user,
        config.daemon.group,
        config.daemon.grace_s,
        config.daemon.reload_grace_s,
    ) == ("unpd", "staff", 2.5, 0.0)
    assert config.metrics.listen == UnixAddress("/run/unpd/metrics")
    assert (list(config.pools), config.pools["slow"].workers) == (["default", "slow"], 3)
    assert clock.listen == (TcpAddress("::1", 0), UnixAddress("/run/unpd/clock"))
    assert (clock.socket_mode, clock.options) == (
        0o600,
        DaytimeOptions(format="iso8601", timezone="Europe/Berlin"),
    )


def test_no_metrics(accept: Accept) -> None:
    """``listen = false`` turns metrics off."""
    assert accept(f"metrics.listen = false\n{ECHO}").config.metrics.listen is None


def test_frozen(accept: Accept) -> None:
    """A loaded configuration cannot be changed."""
    config = accept(ECHO).config
    with pytest.raises(ValidationError, match="frozen"):
        config.daemon.grace_s = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.pools["web"] = config.pools["default"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "unpd.toml: no service is configured: add a table such as [services.echo]"),
        ("# nothing", "unpd.toml: no service is configured: add a table such as [services.echo]"),
        ("[services]", "unpd.toml: no service is configured: add a table such as [services.echo]"),
        ("services = []", "unpd.toml:1: services: must be a table, written as [services]"),
        (
            "services.echo = 7",
            "unpd.toml:1: services.echo: must be a table, written as [services.echo]",
        ),
        (f"daemon = 1\n{ECHO}", "unpd.toml:1: daemon: must be a table, written as [daemon]"),
        (f"[[log]]\n{ECHO}", "unpd.toml:1: log: must be a table, written as [log]"),
        (f"pools = 'x'\n{ECHO}", "unpd.toml:1: pools: must be a table, written as [pools]"),
        (f"\n[deamon]\n{ECHO}", 'unpd.toml:2: deamon: unknown table; did you mean "daemon"?'),
        (
            f"[x]\n{ECHO}",
            (
                'unpd.toml:1: x: unknown table; known here: "daemon", "control", "log",'
                ' "metrics", "access", "pools", "services", "defaults"'
            ),
        ),
        (
            f"[daemon]\nGrase_s = 1\n{ECHO}",
            'unpd.toml:2: daemon.Grase_s: unknown key; did you mean "grace_s"?',
        ),
        (f"grace_s = 1\n{ECHO}", "unpd.toml:1: grace_s: unknown key; it belongs in [daemon]"),
        (
            f"{ECHO}workers = 4",
            "unpd.toml:2: services.echo.workers: unknown key; it belongs in [pools.NAME]",
        ),
        (
            f"[log]\nbacklog = 4\n{ECHO}",
            "unpd.toml:2: log.backlog: unknown key; it belongs in [services.NAME]",
        ),
        (
            f"{ECHO}timezone = 'UTC'",
            (
                'unpd.toml:2: services.echo.timezone: unknown key; only services of type "daytime"'
                " have it"
            ),
        ),
        (
            "[services.daytime]\ntime-zone = 'UTC'",
            'unpd.toml:2: services.daytime.time-zone: unknown key; did you mean "timezone"?',
        ),
        (
            f"[metrics]\nport = 1\n{ECHO}",
            (
                "unpd.toml:2: metrics.port: unknown key; address and port stand in listen, such as"
                ' listen = ["tcp://[::]:7"]'
            ),
        ),
        (
            f"{ECHO}options = 1",
            f"unpd.toml:2: services.echo.options: unknown key; known here: {ECHO_KEYS}",
        ),
        (
            f'"a\\u001b[2J" = 1\n{ECHO}',
            (
                'unpd.toml:1: "a\\u001b[2J": unknown key; known here: "daemon", "control", "log",'
                ' "metrics", "access", "pools", "services", "defaults"'
            ),
        ),
        (
            f"[daemon]\nuser = ''\n{ECHO}",
            'unpd.toml:2: daemon.user: must be the name of a user, such as "unpd"',
        ),
        (
            f"[daemon]\nuser = 'a b'\n{ECHO}",
            'unpd.toml:2: daemon.user: must be the name of a user, such as "unpd"',
        ),
        (
            f"[daemon]\nuser = 0\n{ECHO}",
            'unpd.toml:2: daemon.user: must be the name of a user, such as "unpd"',
        ),
        (
            f"[daemon]\ngroup = false\n{ECHO}",
            'unpd.toml:2: daemon.group: must be the name of a group, such as "unpd"',
        ),
        (
            f"[daemon]\ngrace_s = 0\n{ECHO}",
            "unpd.toml:2: daemon.grace_s: must be a number of seconds from 0.5 to 3600",
        ),
        (
            f"[daemon]\ngrace_s = '10'\n{ECHO}",
            (
                "unpd.toml:2: daemon.grace_s: must be a number of seconds from 0.5 to 3600; write"
                " it without quotes"
            ),
        ),
        (
            f"[daemon]\ngrace_s = true\n{ECHO}",
            "unpd.toml:2: daemon.grace_s: must be a number of seconds from 0.5 to 3600",
        ),
        (
            f"[daemon]\ngrace_s = nan\n{ECHO}",
            "unpd.toml:2: daemon.grace_s: must be a number of seconds from 0.5 to 3600",
        ),
        (
            f"[daemon]\nreload_grace_s = -1\n{ECHO}",
            (
                "unpd.toml:2: daemon.reload_grace_s: must be a number of seconds from 0 (no limit)"
                " to 604800"
            ),
        ),
        (
            f"[daemon]\nstart_timeout_s = inf\n{ECHO}",
            "unpd.toml:2: daemon.start_timeout_s: must be a number of seconds from 0.1 to 3600",
        ),
        (
            f"[daemon]\nheartbeat_timeout_s = 0.1\n{ECHO}",
            "unpd.toml:2: daemon.heartbeat_timeout_s: must be a number of seconds from 2 to 3600",
        ),
        (
            f"[daemon]\npid_file = 'run/x'\n{ECHO}",
            'unpd.toml:2: daemon.pid_file: "run/x" is not an absolute path: it must begin with "/"',
        ),
        (
            f"[daemon]\npid_file = ''\n{ECHO}",
            'unpd.toml:2: daemon.pid_file: "" is not an absolute path: it must begin with "/"',
        ),
        (
            f"[daemon]\npid_file = 1\n{ECHO}",
            'unpd.toml:2: daemon.pid_file: must be an absolute path, such as "/run/unpd/unpd.pid"',
        ),
        (
            f"[daemon]\ncontrol = '/a//b'\n{ECHO}",
            (
                'unpd.toml:2: daemon.control: "/a//b" must name a file, without ".", "..", double'
                " slashes or a trailing slash"
            ),
        ),
        (
            f"[daemon]\ncontrol = '/{'x' * 107}'\n{ECHO}",
            "unpd.toml:2: daemon.control: the path of a UNIX socket has at most 107 bytes",
        ),
        (
            f"[log]\nlevel = 'INFO'\n{ECHO}",
            'unpd.toml:2: log.level: must be "debug", "info", "warning" or "error"',
        ),
        (f"[log]\nformat = 'xml'\n{ECHO}", 'unpd.toml:2: log.format: must be "text" or "json"'),
        (
            f"[log]\nfile = 'unpd.log'\n{ECHO}",
            'unpd.toml:2: log.file: "unpd.log" is not an absolute path: it must begin with "/"',
        ),
        (
            f'[log]\nfile = "/var/log/\\n"\n{ECHO}',
            "unpd.toml:2: log.file: a path must not contain control characters",
        ),
        (
            f"[log]\nfile = false\n{ECHO}",
            'unpd.toml:2: log.file: must be an absolute path, or "" for standard error',
        ),
        (
            f"[metrics]\nlisten = true\n{ECHO}",
            f"unpd.toml:2: metrics.listen: must be {METRICS_FORMS}",
        ),
        (
            f"[metrics]\nlisten = 9867\n{ECHO}",
            f"unpd.toml:2: metrics.listen: must be {METRICS_FORMS}",
        ),
        (
            f"[metrics]\nlisten = 'x'\n{ECHO}",
            f'unpd.toml:2: metrics.listen: "x" must be {METRICS_FORMS}',
        ),
        (
            f"[metrics]\nlisten = ['tcp://127.0.0.1:9867']\n{ECHO}",
            f"unpd.toml:2: metrics.listen: must be one address, no list: {METRICS_FORMS}",
        ),
        *(
            (
                f"[metrics]\nlisten = '{word}'\n{ECHO}",
                (
                    f'unpd.toml:2: metrics.listen: "{word}" is no address; for no metrics write'
                    " listen = false"
                ),
            )
            for word in ("off", "false", "none", "")
        ),
        (
            f"listen = ['tcp://127.0.0.1:7']\n{ECHO}",
            "unpd.toml:1: listen: unknown key; it belongs in [services.NAME]",
        ),
        (
            f"[log]\nfile = '/dev/stderr'\n{ECHO}",
            (
                'unpd.toml:2: log.file: "/dev/stderr" is no plain file: leave log.file out, and the'
                " log goes to standard error"
            ),
        ),
        (
            f"[pools.Web]\n{ECHO}",
            f'unpd.toml:1: pools.Web: the name of a pool {NAME_RULE}; did you mean "web"?',
        ),
        (
            f"[pools.default]\nworkers = 0\n{ECHO}",
            'unpd.toml:2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
        ),
        (
            f"[pools.default]\nworkers = 513\n{ECHO}",
            'unpd.toml:2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
        ),
        (
            f"[pools.default]\nworkers = 2.0\n{ECHO}",
            'unpd.toml:2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
        ),
        (
            f"[pools.default]\nworkers = true\n{ECHO}",
            'unpd.toml:2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
        ),
        (
            f"[pools.default]\nworkers = 'all'\n{ECHO}",
            'unpd.toml:2: pools.default.workers: must be "auto" or a whole number from 1 to 512',
        ),
        (
            f"[pools.default]\nmax_connections_per_worker = 0\n{ECHO}",
            (
                "unpd.toml:2: pools.default.max_connections_per_worker: must be a whole number from"
                " 1 to 1000000"
            ),
        ),
        (
            "[services._echo]",
            f'unpd.toml:1: services._echo: the name of a service {NAME_RULE}; did you mean "echo"?',
        ),
        ("[services.'']", f'unpd.toml:1: services."": the name of a service {NAME_RULE}'),
        (
            f"[services.metrics]\ntype = 'echo'\n{ECHO}",
            (
                "unpd.toml:1: services.metrics: no service may have this name: the exporter, whose"
                " table is [metrics], has it"
            ),
        ),
        (
            f"[services.a{'b' * 32}]",
            f"unpd.toml:1: services.a{'b' * 32}: the name of a service {NAME_RULE}",
        ),
        (
            "[services.ecoh]",
            (
                'unpd.toml:1: services.ecoh.type: there is no service type "ecoh"; did you mean'
                ' "echo"?'
            ),
        ),
        (
            "[services.lobby]",
            (
                'unpd.toml:1: services.lobby.type: there is no service type "lobby"; set type to'
                ' one of "chargen", "daytime", "discard", "echo", "exec", "python", "qotd",'
                ' "redirect", "sensor", "tcpmux", "time"'
            ),
        ),
        (
            "[services.x]\ntype = 'Daytime'",
            (
                'unpd.toml:2: services.x.type: there is no service type "Daytime"; did you mean'
                ' "daytime"?'
            ),
        ),
        (
            "[services.x]\ntype = 7",
            (
                'unpd.toml:2: services.x.type: must be one of "chargen", "daytime", "discard",'
                ' "echo", "exec", "python", "qotd", "redirect", "sensor", "tcpmux", "time"'
            ),
        ),
        (f"{ECHO}listen = 'tcp://[::]:7'", f"unpd.toml:2: services.echo.listen: {SOME_ADDRESSES}"),
        (f"{ECHO}listen = []", f"unpd.toml:2: services.echo.listen: {SOME_ADDRESSES}"),
        (f"{ECHO}listen = [{'7,' * 257}]", f"unpd.toml:2: services.echo.listen: {SOME_ADDRESSES}"),
        (f"{ECHO}listen = [7]", f"unpd.toml:2: services.echo.listen: {FORMS}"),
        (
            f"{ECHO}listen = [\n'tcp://[::]:7',\n'echo',\n]",
            f'unpd.toml:4: services.echo.listen: "echo" {FORMS}',
        ),
        (
            f"{ECHO}pool = 'dfault'",
            'unpd.toml:2: services.echo.pool: there is no pool "dfault"; did you mean "default"?',
        ),
        (
            f"{ECHO}pool = 'web'",
            (
                'unpd.toml:2: services.echo.pool: there is no pool "web"; add a table [pools.NAME]'
                ' or use "default"'
            ),
        ),
        (f"{ECHO}pool = 1", "unpd.toml:2: services.echo.pool: must be the name of a pool"),
        (
            f"{ECHO}backlog = 0",
            "unpd.toml:2: services.echo.backlog: must be a whole number from 1 to 1000000",
        ),
        (
            f"{ECHO}idle_timeout_s = 0",
            (
                "unpd.toml:2: services.echo.idle_timeout_s: must be a number of seconds from 0.1 to"
                " 604800"
            ),
        ),
        (
            f"{ECHO}session_timeout_s = -1",
            (
                "unpd.toml:2: services.echo.session_timeout_s: must be a number of seconds from 0"
                " (no limit) to 604800"
            ),
        ),
        *(
            (
                f"{ECHO}amplification = {wrong}",
                "unpd.toml:2: services.echo.amplification: must be a number from 1 to 100",
            )
            for wrong in ("0.9", "101", "true", "inf")
        ),
        *(
            (
                f"{ECHO}{key} = {wrong}",
                (
                    f"unpd.toml:2: services.echo.{key}: must be a whole number from 0 (no"
                    " limit) to 10000000"
                ),
            )
            for key in ("datagram_rate", "datagram_total_rate")
            for wrong in ("-1", "1.5", "10000001")
        ),
        (f"{ECHO}keepalive = 1", "unpd.toml:2: services.echo.keepalive: must be true or false"),
        (
            f"{ECHO}user_timeout_s = 1e9",
            (
                "unpd.toml:2: services.echo.user_timeout_s: must be a number of seconds from 0.1 to"
                " 604800"
            ),
        ),
        (f"{ECHO}ipv6_only = 'yes'", "unpd.toml:2: services.echo.ipv6_only: must be true or false"),
        (f"{ECHO}socket_mode = 666", f"unpd.toml:2: services.echo.socket_mode: {SOCKET_MODE}"),
        (f"{ECHO}socket_mode = '66'", f"unpd.toml:2: services.echo.socket_mode: {SOCKET_MODE}"),
        (f"{ECHO}socket_mode = '0668'", f"unpd.toml:2: services.echo.socket_mode: {SOCKET_MODE}"),
        (
            "[services.daytime]\nformat = 'unix'",
            'unpd.toml:2: services.daytime.format: must be "ctime", "rfc867" or "iso8601"',
        ),
        (
            "[services.daytime]\ntimezone = 'Europe/Berln'",
            (
                'unpd.toml:2: services.daytime.timezone: there is no time zone "Europe/Berln"; did'
                ' you mean "Europe/Berlin"?'
            ),
        ),
        (
            "[services.daytime]\ntimezone = 1",
            (
                'unpd.toml:2: services.daytime.timezone: must be "local", "UTC" or an IANA name'
                ' such as "Europe/Berlin"'
            ),
        ),
    ],
)
def test_refuses(refuse: Refuse, text: str, sentence: str) -> None:
    """A faulty key is refused with one line: file, line, key, what would be right."""
    assert refuse(text) == [sentence]


def test_all_faults_together(refuse: Refuse) -> None:
    """Every fault is reported, in the order of the file; a fault in one key hides
    neither another key's fault nor a clash of two keys.
    """
    text = """
[daemon]
grase_s = 1
pid_file = "/run/unpd/x"
control = "/run/unpd/x"
user = 5
[services.echo]
listen = ["tcp://[::]:7"]
backlog = -1
[services.twin]
type = "ecko"
listen = ["tcp://0.0.0.0:7"]
pool = "gone"
[services.daytime]
format = 1
timezone = "Nowhere"
listen = ["tcp://[::]:7"]
"""
    assert [line.split(": ")[:2] for line in refuse(text)] == [
        ["unpd.toml:3", "daemon.grase_s"],
        ["unpd.toml:5", "daemon.control"],
        ["unpd.toml:6", "daemon.user"],
        ["unpd.toml:9", "services.echo.backlog"],
        ["unpd.toml:11", "services.twin.type"],
        ["unpd.toml:12", "services.twin.listen"],
        ["unpd.toml:13", "services.twin.pool"],
        ["unpd.toml:15", "services.daytime.format"],
        ["unpd.toml:16", "services.daytime.timezone"],
        ["unpd.toml:17", "services.daytime.listen"],
    ]


def test_faults_are_bounded(refuse: Refuse) -> None:
    """The first hundred faults are reported, and the number of the others."""
    lines = refuse("[daemon]\n" + "".join(f"zz{number} = 1\n" for number in range(150)) + ECHO)
    assert len(lines) == 101
    assert lines[-1] == "unpd.toml: 50 more problems are not shown"


def test_the_longest_control_path(accept: Accept) -> None:
    """The path of the control socket may have the 107 bytes that the kernel takes."""
    longest = "/" + "x" * 106
    config = accept(f"[daemon]\ncontrol = '{longest}'\n{ECHO}").config
    assert str(config.daemon.control) == longest


def test_as_many_faults_as_are_shown(refuse: Refuse) -> None:
    """100 faults are all shown, without a line that counts the rest."""
    lines = refuse(ECHO + "".join(f"x{number} = 1\n" for number in range(100)))
    assert len(lines) == 100
    assert "more problems" not in lines[-1]


def test_a_fault_without_a_line_comes_first(refuse: Refuse) -> None:
    """A fault of the whole file stands before a fault on its first line."""
    assert [line.split(": ")[0] for line in refuse("x = 1")] == ["unpd.toml", "unpd.toml:1"]


def test_values_stay_private(refuse: Refuse) -> None:
    """A message does not repeat a faulty value, which may be a password in the wrong
    place.
    """
    assert "hunter2" not in "\n".join(
        refuse(
            'password = "hunter2"\n[daemon]\nuser = "hunter2 :"\ngrace_s = "hunter2"\n[log]\nlevel'
            f' = "hunter2"\n{ECHO}'
        )
    )


def test_bad_default_and_bad_value(host: Host) -> None:
    """A runtime directory whose path is too long for a socket is reported like a faulty
    key, also beside another fault.
    """
    deep = replace(host, uid=1000, runtime_dir="/" + "x" * 120)
    with pytest.raises(
        ConfigError,
        match=r"^unpd.toml: daemon.control: the path of a UNIX socket has at most 107 bytes$",
    ):
        loads(ECHO, deep)
    with pytest.raises(
        ConfigError,
        match=r'^unpd.toml:2: daemon.control: "x" is not an absolute path: it must begin with "/"$',
    ):
        loads(f"[daemon]\ncontrol = 'x'\n{ECHO}", deep)


def test_problem_parts(host: Host) -> None:
    """A refusal carries its parts separately, and the exit code of a refused
    configuration.
    """
    with pytest.raises(ConfigError) as caught:
        loads("[services.echo]\nbacklog = 0", host, file="/etc/unpd/unpd.toml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (
        "/etc/unpd/unpd.toml",
        2,
        "services.echo.backlog",
    )
    assert caught.value.exit_code == ExitCode.CONFIGURATION


def test_load_names_its_file(tmp_path: Path, host: Host) -> None:
    """A loaded configuration and its warnings name the file."""
    path = tmp_path / "unpd.toml"
    path.write_text("[pools.spare]\n[services.echo]\n")
    path.chmod(0o600)
    loaded = load(path, replace(host, uid=1000))
    assert loaded.path == path
    assert loaded.warnings == (f"{path}:1: pools.spare: no service uses this pool",)


def test_load_of_a_missing_file(tmp_path: Path) -> None:
    """A missing file is refused with one sentence; the default host is this machine."""
    with pytest.raises(ConfigError, match=r"nothing\.toml: there is no such file$"):
        load(tmp_path / "nothing.toml")


class BrokenHost(Host):
    """A host at which a load fails in a way that nothing expects."""

    def __init__(self, host: Host, failure: Exception) -> None:
        super().__init__(host.uid, host.user, host.runtime_dir, host.somaxconn, host.cpus)
        object.__setattr__(self, "_failure", failure)

    def daemon_defaults(self) -> dict[str, str]:
        """Fail."""
        raise self._failure  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (MemoryError(), "there is not enough memory to load the configuration"),
        (RecursionError("too deep"), "the nesting is too deep"),
        *(
            (
                failure,
                (
                    rf"unpd fails on this configuration \({type(failure).__name__} in"
                    r" test_load\.py:\d+\): please report it"
                ),
            )
            for failure in (
                UnicodeError("hunter2"),
                ValueError("hunter2"),
                OverflowError("hunter2"),
                OSError(5, "hunter2"),
                KeyError("hunter2"),
                AssertionError("hunter2"),
            )
        ),
    ],
)
def test_no_exception_but_a_refusal_leaves_the_loader(
    host: Host, failure: Exception, sentence: str
) -> None:
    """Whatever fails within a load, its caller gets a refusal in one sentence, so that
    a reload cannot end a daemon. The text of the exception stays private.
    """
    with pytest.raises(ConfigError, match=rf"^unpd\.toml: {sentence}$") as caught:
        loads(ECHO, BrokenHost(host, failure))
    assert caught.value.__cause__ is failure
