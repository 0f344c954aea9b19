"""Checks of keys against each other and against the machine."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unpd.config.checks import check
from unpd.config.findings import Finding, Findings
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.config.schema import DEFAULT_SESSIONS, MAX_SESSIONS
from unpd.errors import ConfigError
from unpd.services.table import SERVICES

Accept = Callable[[str], Loaded]
NEEDED = {
    "exec": "command = ['/bin/cat']\n",
    "python": "handler = 'unpd.testing:greet'\n",
    "redirect": "to = ['tcp://127.0.0.1:9']\n",
}
"""What a service of a type needs beside its addresses."""
Refuse = Callable[[str], list[str]]

INCLUDES_IPV4 = "[::] includes IPv4; set ipv6_only = true in [services.daytime] or use another port"
OVERLAPS_METRICS = "tcp://[::]:9867 overlaps tcp://127.0.0.1:9867 of metrics.listen"


def two(one: str, other: str, *, ipv6_only: bool = False) -> str:
    """A configuration of two services on these addresses; ``ipv6_only`` is a key of the
    first.
    """
    return (
        f"[services.echo]\nlisten = ['{one}']\nipv6_only ="
        f" {str(ipv6_only).lower()}\n[services.daytime]\nlisten = ['{other}']\n"
    )


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        (
            "tcp://127.0.0.1:7",
            "tcp://127.0.0.1:7",
            "tcp://127.0.0.1:7 is also an address of services.echo.listen",
        ),
        (
            "tcp://[::0]:7",
            "tcp://[::]:7",
            "tcp://[::]:7 is also an address of services.echo.listen",
        ),
        (
            "unix:///run/x",
            "unix:///run/x",
            "unix:///run/x is also an address of services.echo.listen",
        ),
        (
            "unix:///run/my echo",
            "unix:///run/my echo",
            '"unix:///run/my echo" is also an address of services.echo.listen',
        ),
        (
            "tcp://0.0.0.0:7",
            "tcp://127.0.0.1:7",
            (
                "tcp://127.0.0.1:7 overlaps tcp://0.0.0.0:7 of services.echo.listen: a wildcard"
                " includes every address"
            ),
        ),
        (
            "tcp://[::1]:7",
            "tcp://[::]:7",
            (
                "tcp://[::]:7 overlaps tcp://[::1]:7 of services.echo.listen: a wildcard includes"
                " every address"
            ),
        ),
        (
            "tcp://[::]:7",
            "tcp://0.0.0.0:7",
            (
                "tcp://0.0.0.0:7 overlaps tcp://[::]:7 of services.echo.listen: [::] includes IPv4;"
                " set ipv6_only = true in [services.echo] or use another port"
            ),
        ),
        (
            "tcp://127.0.0.1:7",
            "tcp://[::]:7",
            f"tcp://[::]:7 overlaps tcp://127.0.0.1:7 of services.echo.listen: {INCLUDES_IPV4}",
        ),
        (
            "tcp://[::1]:8",
            "tcp://127.0.0.1:9867",
            "tcp://127.0.0.1:9867 is also an address of metrics.listen",
        ),
        ("tcp://[::1]:8", "tcp://[::]:9867", f"{OVERLAPS_METRICS}: {INCLUDES_IPV4}"),
        (
            "udp://[::]:7",
            "udp://0.0.0.0:7",
            (
                "udp://0.0.0.0:7 overlaps udp://[::]:7 of services.echo.listen: [::] includes IPv4;"
                " set ipv6_only = true in [services.echo] or use another port"
            ),
        ),
        (
            "unix:///run/x",
            "unixgram:///run/x",
            "unixgram:///run/x is also an address of services.echo.listen",
        ),
    ],
)
def test_addresses_clash(refuse: Refuse, one: str, other: str, sentence: str) -> None:
    """Two listeners that the kernel would not bind together are refused, and the error
    names both.
    """
    assert refuse(two(one, other)) == [f"unpd.toml:5: services.daytime.listen: {sentence}"]


def test_metrics_wildcard_clash(refuse: Refuse) -> None:
    """Metrics have no key ipv6_only, so the message does not suggest it."""
    assert refuse(
        "metrics.listen = 'tcp://[::]:13'\n[services.daytime]\nlisten = ['tcp://0.0.0.0:13']"
    ) == [
        (
            "unpd.toml:3: services.daytime.listen: tcp://0.0.0.0:13 overlaps tcp://[::]:13 of"
            " metrics.listen: [::] includes IPv4; use another port"
        )
    ]


def test_clash_within_a_service(refuse: Refuse) -> None:
    """A service cannot have an address twice; the error has the line of the second."""
    assert refuse(
        "[services.echo]\nlisten = [\n  'tcp://127.0.0.1:7',\n  'tcp://127.0.0.1:7',\n]"
    ) == [
        (
            "unpd.toml:4: services.echo.listen: tcp://127.0.0.1:7 is listed twice: remove one of"
            " the two"
        )
    ]
    assert refuse("[services.echo]\nlisten = ['unix:///run/x', 'unixgram:///run/x']") == [
        (
            "unpd.toml:2: services.echo.listen: unixgram:///run/x has the path of unix:///run/x:"
            " two sockets need two paths"
        )
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://[::]:0", "tcp://0.0.0.0:0"),
        ("tcp://127.0.0.1:7", "tcp://127.0.0.2:7"),
        ("tcp://127.0.0.1:7", "tcp://127.0.0.1:13"),
        ("tcp://[::1]:7", "tcp://0.0.0.0:7"),
        ("tcp://[fe80::1%eth0]:7", "tcp://[fe80::1%eth1]:7"),
        ("unix:///run/x", "unix:///run/y"),
        ("unix:///run/x", "tcp://[::]:7"),
    ],
)
def test_addresses_that_do_not_clash(accept: Accept, one: str, other: str) -> None:
    """Addresses that the kernel binds together are accepted; ports 0 never clash."""
    assert accept(two(one, other)).warnings == ()


def test_ipv6_only_leaves_ipv4(accept: Accept) -> None:
    """With ipv6_only the IPv6 and the IPv4 wildcard of one port do not clash."""
    assert accept(two("tcp://[::]:7", "tcp://0.0.0.0:7", ipv6_only=True)).warnings == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[daemon]\npid_file = '/a'\ncontrol = '/a'",
            'unpd.toml:3: daemon.control: "/a" is also the path of daemon.pid_file',
        ),
        (
            "[daemon]\ncontrol = '/a'\n[log]\nfile = '/a'",
            'unpd.toml:4: log.file: "/a" is also the path of daemon.control',
        ),
        (
            "[daemon]\ncontrol = '/a'\n[metrics]\nlisten = 'unix:///a'",
            'unpd.toml:4: metrics.listen: "/a" is also the path of daemon.control',
        ),
        (
            "[log]\nfile = '/a'\n[services.daytime]\nlisten = ['unix:///a']",
            'unpd.toml:4: services.daytime.listen: "/a" is also the path of log.file',
        ),
    ],
)
def test_one_path_two_uses(refuse: Refuse, text: str, sentence: str) -> None:
    """One file cannot be two of: pid file, control socket, log file, listener."""
    assert refuse(f"{text}\n[services.echo]") == [sentence]


def test_unused_pool(accept: Accept) -> None:
    """A pool that no service uses gives a warning; "default", which always exists, does
    so only if a file configures it.
    """
    assert accept("[pools.web]\n[pools.spare]\n[services.echo]\npool = 'web'").warnings == (
        "unpd.toml:2: pools.spare: no service uses this pool",
    )
    assert accept("[pools.default]\n[pools.web]\n[services.echo]\npool = 'web'").warnings == (
        "unpd.toml:1: pools.default: no service uses this pool",
    )


MODELS = "[services.echo]\nlisten = ['{}']\nmodel = '{}'\n"


@pytest.mark.parametrize(
    ("model", "default"), [("event", 0), ("iterative", 0), ("fork", DEFAULT_SESSIONS)]
)
def test_every_model_may_have_a_limit_of_connections(
    accept: Accept, model: str, default: int
) -> None:
    """Without the key only the model fork has one, because each connection is a
    process there.
    """
    text = MODELS.format("tcp://[::]:7", model)
    assert accept(text).config.services["echo"].max_connections == default
    loaded = accept(f"{text}max_connections = 7\n")
    assert (loaded.config.services["echo"].max_connections, loaded.warnings) == (7, ())
    inherited = accept(f"[defaults]\nmax_connections = 8\n{text}").config.services["echo"]
    assert inherited.max_connections == 8


@pytest.mark.parametrize("number", [0, MAX_SESSIONS + 1])
def test_the_number_of_processes_is_bounded(refuse: Refuse, accept: Accept, number: int) -> None:
    """Other models may have no limit of connections, or a larger one."""
    sentence = (
        f'must be a whole number from 1 to {MAX_SESSIONS} with model = "fork": each connection'
        " is a process"
    )
    key = f"max_connections = {number}\n"
    fork, event = (MODELS.format("tcp://[::]:7", model) for model in ("fork", "event"))
    assert refuse(fork + key) == [f"unpd.toml:4: services.echo.max_connections: {sentence}"]
    assert refuse(f"[defaults]\n{key}{fork}") == [
        f"unpd.toml:2: defaults.max_connections: {sentence} (services.echo)"
    ]
    assert accept(event + key).config.services["echo"].max_connections == number


def test_a_fault_of_the_limit_is_one_error(refuse: Refuse) -> None:
    """The model fork has its default then."""
    assert refuse(MODELS.format("tcp://[::]:7", "fork") + "max_connections = -1\n") == [
        (
            "unpd.toml:4: services.echo.max_connections: must be a whole number from 0 (no limit)"
            " to 1000000"
        )
    ]


def test_a_lame_time_needs_somebody_who_notices(accept: Accept) -> None:
    """Load balancers ask the metrics listener."""
    text = "[daemon]\nlame_duck_s = 4\n[services.echo]\n[metrics]\nlisten = "
    (warning,) = accept(f"{text}false\n").warnings
    assert warning.startswith("unpd.toml:2: daemon.lame_duck_s: only makes each stop and restart")
    assert accept(f"{text}'tcp://[::]:9867'\n").warnings == ()


@pytest.mark.parametrize(
    ("listen", "warns"),
    [("false", True), ("'systemd:metrics'", True), ("'tcp://[::]:9867'", False)],
)
def test_only_an_address_of_ones_own_can_be_done_without(
    accept: Accept, refuse: Refuse, *, listen: str, warns: bool
) -> None:
    """Where unpd opens nothing for the metrics, ``required`` changes nothing."""
    text = f"[services.echo]\n[metrics]\nlisten = {listen}\nrequired = "
    assert accept(f"{text}false\n").warnings == warns * (
        (
            "unpd.toml:4: metrics.required: changes nothing, because metrics.listen names no"
            " address that unpd itself opens"
        ),
    )
    assert accept(f"{text}true\n").warnings == ()
    assert refuse(f"{text}'no'\n") == ["unpd.toml:4: metrics.required: must be true or false"]


def test_a_sensor_needs_a_port(accept: Accept) -> None:
    """A free one is known to nobody."""
    sentence = (
        "tcp://[::]:0 is another port after each start: name the port where this sensor waits,"
        " such as that of a protocol that no service speaks"
    )
    assert accept("[services.sensor]\nlisten = ['tcp://[::]:0']\n").warnings == (
        f"unpd.toml:2: services.sensor.listen: {sentence}",
    )
    assert accept("[services.sensor]\nlisten = ['tcp://[::]:23']\n").warnings == ()


@pytest.mark.parametrize("name", [row.name for row in SERVICES.values() if not row.port])
def test_a_type_without_a_port_needs_addresses(refuse: Refuse, name: str) -> None:
    """A free port would offer a program to every host, where no client looks for it."""
    text = f"[services.it]\ntype = '{name}'\n{NEEDED.get(name, '')}"
    sentence = (
        f'is missing: the type "{name}" has no port of its own, and no port is looked up by the'
        ' name of a service; write addresses, such as ["tcp://[::]:9200"]'
    )
    assert refuse(text) == [f"unpd.toml:1: services.it.listen: {sentence}"]


@pytest.mark.parametrize("address", ["udp://[::]:23", "unix:///run/s", "unixgram:///run/s"])
def test_a_sensor_without_tcp_denies_nobody(accept: Accept, address: str) -> None:
    """What the service manager passes may be of TCP."""
    text = "[services.sensor]\nlisten = ["
    assert accept(f"{text}'{address}']\n").warnings == (
        (
            "unpd.toml:2: services.sensor.listen: the sensor denies nobody, because no address here"
            " is of TCP: the source of a datagram can be forged, and a client of a UNIX socket has"
            " no address"
        ),
    )
    for more in ("tcp://[::]:23", "systemd:sensor"):
        assert accept(f"{text}'{address}', '{more}']\n").warnings == ()


@pytest.mark.parametrize("model", ["fork", "iterative"])
def test_a_model_without_streams_is_warned_of(accept: Accept, model: str) -> None:
    """Workers serve all datagrams, so the model of such a service changes nothing."""
    warnings = accept(MODELS.format("udp://[::]:7", model)).warnings
    assert warnings == (
        (
            f'unpd.toml:3: services.echo.model: "{model}" changes nothing: a model is about'
            " streams, and every address of this service is of datagrams"
        ),
    )
    assert accept(MODELS.format("tcp://[::]:7", model)).warnings == ()


def test_a_tcpmux_offers_only_services_of_the_event_model(refuse: Refuse, accept: Accept) -> None:
    """It hands the connection over inside one process."""
    mux = "[services.mux]\ntype = 'tcpmux'\nservices = ['echo']\n"
    text = MODELS.format("tcp://[::]:7", "fork") + mux
    assert refuse(text) == [
        (
            'unpd.toml:6: services.mux.services: "echo" has the model "fork", but a tcpmux offers'
            ' only services of the model "event"'
        )
    ]
    event = MODELS.format("tcp://[::]:7", "event")
    assert accept(event + mux + "model = 'fork'\n").warnings == ()


def test_a_pool_has_no_limit_of_sessions(refuse: Refuse) -> None:
    """The key of a pool has another name."""
    assert refuse("[pools.default]\nmax_connections = 9\n[services.echo]\n") == [
        (
            "unpd.toml:2: pools.default.max_connections: unknown key; the limit of a pool is"
            " max_connections_per_worker; max_connections is of a service"
        )
    ]


TOO_MANY = (
    "unpd.toml:1: pools: all pools together have {} workers and dispatchers, but at most 900 are"
    " allowed"
)


def test_dispatchers_and_iterative_workers_count(refuse: Refuse) -> None:
    """They have rows of the scoreboard as workers have."""
    text = "[pools.a]\nworkers = 500\n[pools.b]\nworkers = 400\n[services.echo]\npool = 'a'\n"
    text += "[services.daytime]\npool = 'b'\nmodel = 'iterative'\n"
    assert refuse(text) == [
        (
            "unpd.toml:1: pools: all pools together have 901 workers and dispatchers,"
            " but at most 900 are allowed"
        )
    ]


def test_too_many_workers(refuse: Refuse, accept: Accept) -> None:
    """All pools together have at most 900 workers; "auto" counts one for each CPU."""
    text = (
        "[pools.a]\nworkers = 500\n[pools.b]\nworkers = {}\n[services.echo]\npool ="
        " 'a'\n[services.daytime]\npool = 'b'\n"
    )
    assert accept(text.format(400)).warnings == ()
    assert refuse(text.format(401)) == [TOO_MANY.format(901)]
    assert refuse(
        text.format(400) + "[services.more]\ntype = 'echo'\nlisten = ['tcp://[::]:1']"
    ) == [TOO_MANY.format(904)]


def test_too_many_services(refuse: Refuse) -> None:
    """The scoreboard has room for 64 services."""
    text = "".join(
        f"[services.e{number}]\ntype = 'echo'\nlisten = ['tcp://[::]:0']\n" for number in range(65)
    )
    assert refuse(text) == [
        "unpd.toml:1: services: 65 services are configured, but at most 64 are allowed"
    ]


def test_too_many_pools(refuse: Refuse) -> None:
    """The scoreboard has room for 32 pools, including "default"."""
    pools = "".join(f"[pools.p{number}]\nworkers = 1\n" for number in range(32))
    assert refuse(f"{pools}[services.echo]") == [
        (
            'unpd.toml:1: pools: 33 pools are configured, including "default", but at most 32 are'
            " allowed"
        )
    ]


def test_too_many_listeners(refuse: Refuse) -> None:
    """The scoreboard has room for 256 listeners, including that of metrics."""
    many = ", ".join(["'tcp://[::]:0'"] * 256)
    assert refuse(f"[services.echo]\nlisten = [{many}]") == [
        (
            "unpd.toml:1: services: 257 listen addresses are configured, including that of"
            " metrics, but at most 256 are allowed"
        )
    ]


def test_as_many_listeners_as_fit(accept: Accept) -> None:
    """255 listeners of services and that of metrics are accepted."""
    many = ", ".join(["'tcp://[::]:0'"] * 255)
    config = accept(f"[services.echo]\nlisten = [{many}]").config
    assert len(config.services["echo"].listen) == 255


def test_faulty_types_do_not_clash(refuse: Refuse) -> None:
    """Services of unknown types have no ports that clash: each gives one error."""
    found = refuse("[services.a]\ntype = 'x'\n[services.b]\ntype = 'y'")
    assert [line.split(": ")[1] for line in found] == ["services.a.type", "services.b.type"]


def test_unknown_accounts(host: Host) -> None:
    """Where accounts are checked, an unknown user or group is refused with its
    line; a running master accepts the same text without asking.
    """
    text = "[services.echo]\n[daemon]\nuser = 'nosuchuser'\ngroup = 'nosuchgroup'"
    with pytest.raises(ConfigError) as caught:
        loads(text, replace(host, check_accounts=True))
    assert str(caught.value).split("\n") == [
        'unpd.toml:3: daemon.user: there is no user "nosuchuser" on this system',
        'unpd.toml:4: daemon.group: there is no group "nosuchgroup" on this system',
    ]
    assert loads(text, host).config.daemon.user == "nosuchuser"


@pytest.mark.parametrize("group", ["", "group = 'root'"])
def test_known_accounts(host: Host, group: str) -> None:
    """A known user is accepted, with a known group or without one."""
    text = f"[services.echo]\n[daemon]\nuser = 'root'\n{group}"
    assert loads(text, replace(host, check_accounts=True)).config.daemon.user == "root"


@pytest.mark.parametrize("interface", ["eth0..1", "nosuchinterface", "4294967297"])
def test_unknown_interface(host: Host, interface: str) -> None:
    """Where interfaces are checked, one that this host lacks is refused with its line;
    elsewhere bind(2) decides.
    """
    text = f"[services.echo]\nlisten = ['tcp://127.0.0.1:7', 'tcp://[fe80::1%{interface}]:7']"
    with pytest.raises(ConfigError) as caught:
        loads(text, replace(host, check_interfaces=True))
    assert str(caught.value) == (
        f'unpd.toml:2: services.echo.listen: this host has no interface "{interface}"'
    )
    assert len(loads(text, host).config.services["echo"].listen) == 2


@pytest.mark.parametrize("interface", ["lo", "1"])
def test_known_interface(host: Host, interface: str) -> None:
    """An interface of this host is accepted, by its name or its number."""
    text = f"[services.echo]\nlisten = ['tcp://[fe80::1%{interface}]:7']"
    assert loads(text, replace(host, check_interfaces=True)).warnings == ()


def test_backlog_above_somaxconn(host: Host) -> None:
    """A backlog above the kernel's limit gives a warning with both numbers; without a
    known limit there is no warning.
    """
    text = "[services.echo]\nbacklog = 4097"
    assert loads(text, host).warnings == (
        (
            "unpd.toml:2: services.echo.backlog: 4097 is above net.core.somaxconn, so the kernel"
            " uses 4096; raise that limit with sysctl(8) or lower the backlog"
        ),
    )
    assert loads(text, replace(host, somaxconn=None)).warnings == ()
    assert loads("[services.echo]", replace(host, somaxconn=128)).warnings == (
        (
            "unpd.toml:1: services.echo.backlog: 4096 is above net.core.somaxconn, so the kernel"
            " uses 128; raise that limit with sysctl(8) or lower the backlog"
        ),
    )


def test_warnings_do_not_hide_errors(host: Host) -> None:
    """An error is reported without the warnings."""
    with pytest.raises(ConfigError) as caught:
        loads("[services.echo]\nbacklog = 5000\nkeepalive = 0", host)
    assert [problem.key for problem in caught.value.problems] == ["services.echo.keepalive"]


def test_a_port_of_two_transports_does_not_clash(accept: Accept) -> None:
    """TCP and UDP have ports of their own, so a service may have both of one number."""
    text = "[services.echo]\nlisten = ['udp://[::]:7', 'tcp://[::]:7', 'unixgram:///run/x']"
    assert [address.text for address in accept(text).config.services["echo"].listen] == [
        "udp://[::]:7",
        "tcp://[::]:7",
        "unixgram:///run/x",
    ]


@pytest.mark.parametrize("address", ["udp://127.0.0.1:9867", "unixgram:///run/metrics"])
def test_metrics_over_datagrams_are_refused(refuse: Refuse, address: str) -> None:
    """The exporter speaks HTTP, so a datagram address is an error in its place."""
    assert refuse(f"metrics.listen = '{address}'\n[services.echo]") == [
        (
            f"unpd.toml:1: metrics.listen: {address}: the metrics exporter is served at addresses"
            " with tcp:// or unix://"
        )
    ]


@pytest.mark.parametrize(
    ("stream", "datagram", "address", "wanted"),
    [
        (True, False, "udp://[::]:7", "tcp:// or unix://"),
        (True, False, "unixgram:///run/x", "tcp:// or unix://"),
        (False, True, "tcp://[::]:7", "udp:// or unixgram://"),
    ],
)
def test_an_address_of_the_other_kind_is_refused(
    host: Host, stream: bool, datagram: bool, address: str, wanted: str
) -> None:
    """A service whose row knows only streams takes no datagram address, and the
    reverse.
    """
    config = loads(f"[services.echo]\nlisten = ['{address}']", host).config
    findings = Findings()
    check(config, frozenset(), host, findings, lambda _: (stream, datagram))
    assert findings.errors == [
        Finding(
            ("services", "echo", "listen", 0),
            f'{address}: a service of type "echo" is served at addresses with {wanted}',
        )
    ]


def test_a_raised_amplification_gives_a_warning(accept: Accept) -> None:
    """More than the default amplification is allowed, with a warning where datagrams
    may come; less has none, and streams have no forged sources.
    """
    streams = "[services.echo]\nlisten = ['tcp://[::]:7', 'unix:///run/x']\n"
    assert accept(f"{streams}amplification = 4").warnings == ()
    by_systemd = "[services.echo]\nlisten = ['systemd:echo']\n"
    assert len(accept(f"{by_systemd}amplification = 4").warnings) == 1
    datagrams = "[services.echo]\nlisten = ['tcp://[::]:7', 'udp://[::]:7']\n"
    assert accept(f"{datagrams}amplification = 2.5").warnings == ()
    assert accept(f"{datagrams}amplification = 4").warnings == (
        (
            "unpd.toml:3: services.echo.amplification: 4 is above 3: with a forged source address,"
            " an attacker can multiply the traffic that reaches a victim by that much"
        ),
    )


@pytest.mark.parametrize(
    ("service", "keys", "sentence"),
    [
        ("qotd", "", ""),
        ("daytime", "format = 'rfc867'", ""),
        ("time", "", ""),
        ("echo", "amplification = 1", ""),
        ("chargen", "amplification = 1", ""),
        ("time", "amplification = 1", "1 allows 0 {}the answer has 4 and {}raise it to 2"),
        (
            "daytime",
            "amplification = 1.5",
            "1.5 allows 14 {}the answer has 26 and {}raise it to 2",
        ),
        (
            "daytime",
            "format = 'rfc867'\ntimezone = 'UTC'\namplification = 2",
            "2 allows 28 {}the answer has 44 and {}raise it to 3",
        ),
        (
            "qotd",
            f"text = '{'x' * 55}'",
            "3 allows 56 {}the answer has 57 and {}shorten the answer to 56 bytes",
        ),
        (
            "qotd",
            f"text = '{'x' * 55}'\namplification = 2.5",
            (
                "2.5 allows 42 {}the answer has 57 and {}"
                "raise it to 3 and shorten the answer to 56 bytes"
            ),
        ),
        ("qotd", f"text = '{'x' * 55}'\nlisten = ['udp://[::1]:17']", ""),
        ("qotd", f"text = '{'x' * 55}'\nlisten = ['udp://[::]:17']\nipv6_only = true", ""),
        (
            "qotd",
            f"text = '{'x' * 95}'\nlisten = ['udp://[::1]:17']",
            "3 allows 96 {}the answer has 97 and {}shorten the answer to 96 bytes",
        ),
        ("qotd", f"text = '{'x' * 95}'\nlisten = ['tcp://[::1]:17', 'unixgram:///run/q']", ""),
    ],
)
def test_an_answer_that_an_empty_datagram_does_not_get(
    accept: Accept, service: str, keys: str, sentence: str
) -> None:
    """An answer that is too long for the usual client, which sends an empty datagram,
    gives a warning. The headers of IPv6 allow more, and a UNIX socket any length.
    """
    listen = "" if "listen" in keys else "listen = ['udp://127.0.0.1:17']\n"
    warnings = accept(f"[services.{service}]\n{listen}{keys}\n").warnings
    shown = [text.partition(".amplification: ")[2] for text in warnings]
    assert shown == [
        text.format(
            "bytes in answer to an empty datagram, which the usual client sends, but ",
            "would not be sent: ",
        )
        for text in [sentence]
        if text
    ]


def test_the_quotations_of_a_file_that_an_empty_datagram_does_not_get(
    accept: Accept, tmp_path: Path
) -> None:
    """The warning counts the texts of a file."""
    file = tmp_path / "texts"
    file.write_text(f"short\n%\n{'x' * 60}\n%\n{'x' * 70}\n")
    (warning,) = accept(
        f"[services.qotd]\nlisten = ['udp://127.0.0.1:17']\nfile = '{file}'\n"
    ).warnings
    assert "but 2 of 3 answers have up to 72 and would not be sent: shorten the answers" in warning


@pytest.mark.parametrize("length", [3, 28, 29, 56, 57, 84, 85, 512])
@pytest.mark.parametrize("amplification", ["1", "1.5", "2", "2.99", "3", "4", "8"])
def test_the_advice_about_an_answer_helps(accept: Accept, amplification: str, length: int) -> None:
    """An empty datagram gets its answer once the operator has done what the warning
    says.
    """

    def sentences(amplification: str, length: int) -> list[str]:
        text = "x" * (length - len("\r\n"))
        keys = f"text = '{text}'\namplification = {amplification}\n"
        found = accept(f"[services.qotd]\nlisten = ['udp://127.0.0.1:17']\n{keys}").warnings
        return [sentence for sentence in found if "empty datagram" in sentence]

    for sentence in sentences(amplification, length):
        remedy = sentence.partition("would not be sent: ")[2]
        raised = re.search(r"raise it to (\d+)", remedy)
        shortened = re.search(r"shorten the answer to (\d+) bytes", remedy)
        assert raised or shortened
        assert not sentences(
            raised[1] if raised else amplification,
            int(shortened[1]) if shortened else length,
        )


@pytest.mark.parametrize(
    ("limit", "warned"), [(64, True), (10_016, True), (10_017, False), (None, False)]
)
def test_more_connections_than_descriptors_give_a_warning(
    host: Host, limit: int | None, warned: bool
) -> None:
    """A limit of connections above the limit of open files gives a warning: a worker
    has descriptors of its own and one for each listener. A pool that no service uses
    gives none.
    """
    text = (
        "[metrics]\nlisten = false\n[pools.spare]\nmax_connections_per_worker = 20000\n"
        "[services.echo]\nlisten = ['tcp://[::]:7']\n"
    )
    warnings = loads(text, replace(host, open_files=limit)).warnings
    assert [line for line in warnings if "no service uses" not in line] == (
        [
            (
                "unpd.toml:3: pools.default.max_connections_per_worker: a worker would need a"
                " descriptor for each of 10000 connections, but with the limit of this process it"
                f" may have {limit}, its listeners included: raise the limit of open files"
                " (ulimit -n; under systemd only LimitNOFILE= of the unit counts) or lower the key"
            )
        ]
        if warned
        else []
    )


TCPMUX = """
[pools.other]
[services.echo]
[services.time]
pool = "other"
[services.mux]
type = "tcpmux"
services = {}
"""


@pytest.mark.parametrize(
    ("services", "sentence"),
    [
        ("[]", 'must name the services that it offers, such as services = ["echo"]'),
        ('["eco"]', 'there is no service "eco"; did you mean "echo"?'),
        (
            '["echo", "time"]',
            (
                '"time" is in the pool "other", but a tcpmux offers only services of its own pool,'
                ' "default"'
            ),
        ),
        ('["mux"]', '"mux" is itself of type tcpmux'),
    ],
)
def test_a_tcpmux_offers_services_of_its_own_pool(
    refuse: Refuse, services: str, sentence: str
) -> None:
    """Another one is an error that names it."""
    assert refuse(TCPMUX.format(services)) == [f"unpd.toml:8: services.mux.services: {sentence}"]


ROOT_WARNING = (
    'unpd.toml:2: daemon.user: "root" lets the workers keep root\'s rights: a client that takes one'
    ' over has the whole system; name a user without rights, such as "nobody", or leave the key out'
)


def test_workers_that_keep_the_rights_of_root(host: Host) -> None:
    """Where root starts a daemon whose workers stay root, a warning says so and what
    would be right. It is silent for another user, by default, and for the root of a
    user namespace that has no other user.
    """
    text = "[daemon]\nuser = 'root'\n[services.echo]"
    looked_up = replace(host, check_accounts=True)
    assert loads(text, looked_up).warnings == (ROOT_WARNING,)
    assert loads(text.replace("root", "nobody"), looked_up).warnings == ()
    assert loads("[services.echo]", looked_up).warnings == ()
    assert loads(text, replace(looked_up, drops_to="root")).warnings == ()
    assert loads(text, replace(looked_up, uid=65534, user="root")).warnings == ()
    assert loads(text, host).warnings == (), "a reload asks no user database"
