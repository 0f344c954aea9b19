"""How the keys about refusals fit together."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.names import RefusalReason, Resource

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
UDP = f"{ECHO}listen = ['tcp://[::]:7', 'udp://[::]:7']\n"
TEXT = "banner_refused = 'busy'\n"
HEALING = {
    "max_pressure": "{ cpu = 80 }",
    "max_load": "8",
    "max_per_source": "1",
    "accept_rate_per_source": "'1/s'",
}


@pytest.mark.parametrize("limit", ["max_connections = 1", "accept_rate = '1/s'", "model = 'fork'"])
def test_clients_wait_in_the_queue_for_a_limit_without_a_peer(accept: Accept, limit: str) -> None:
    """The model fork always has a number of processes to reach."""
    assert accept(f"{ECHO}on_limit = 'queue'\n{limit}\n").warnings == ()


@pytest.mark.parametrize(("key", "value"), HEALING.items())
def test_no_client_waits_for_another_limit(
    refuse: Refuse, accept: Accept, key: str, value: str
) -> None:
    """It is decided after accept. Without on_limit each limit has what is possible."""
    text = f"{ECHO}max_connections = 1\n{key} = {value}\n"
    assert refuse(f"{text}on_limit = 'queue'\n") == [
        (
            'unpd.toml:4: services.echo.on_limit: "queue" is possible for max_connections and'
            f" accept_rate only, and the service also has {key} (unpd.toml:3): remove on_limit;"
            f" then clients wait at max_connections and accept_rate, and are refused at {key}"
        )
    ]
    for ending in ("", "on_limit = 'refuse'\n", f"on_limit = 'banner'\n{TEXT}"):
        assert accept(text + ending).warnings == ()


def test_a_banner_needs_its_text(refuse: Refuse) -> None:
    """A client that gets nothing is simply refused."""
    assert refuse(f"{ECHO}max_connections = 1\non_limit = 'banner'\n") == [
        ("unpd.toml:3: services.echo.on_limit: there is no text to send: set banner_refused")
    ]


@pytest.mark.parametrize("word", ["queue", "banner"])
def test_datagrams_are_refused_only(refuse: Refuse, accept: Accept, word: str) -> None:
    """A datagram has no connection that could wait or get a text first."""
    key = f"accept_rate = '1/s'\n{TEXT}on_limit = "
    sentence = f'"{word}" is impossible for datagrams, which come to udp://[::]:7:'
    assert refuse(f"{UDP}{key}'{word}'\n") == [
        (
            f"unpd.toml:5: services.echo.on_limit: {sentence} remove the key, or serve them by a"
            " service of their own"
        )
    ]
    assert refuse(f"[defaults]\n{key}'{word}'\n{UDP}") == [
        (
            f'unpd.toml:4: defaults.on_limit: {sentence} set on_limit = "refuse" in [services.echo]'
            " (services.echo)"
        )
    ]
    assert accept(f"{UDP}{key}'refuse'\n").warnings == ()
    assert accept(f"[defaults]\n{key}'{word}'\n{UDP}on_limit = 'refuse'\n").warnings == ()


@pytest.mark.parametrize("word", ["queue", "banner"])
def test_on_limit_needs_a_limit(accept: Accept, word: str) -> None:
    """In a service; in [defaults] it waits for the limits of services. A rule is no
    limit, and access_times is a rule.
    """
    for rule in ("deny = ['all']", "access_times = ['08:00-18:00']"):
        assert accept(f"{ECHO}{TEXT}{rule}\non_limit = '{word}'\n").warnings == (
            (
                "unpd.toml:4: services.echo.on_limit: it changes nothing, because the service has"
                " no limit: add one, such as max_connections, or remove the key"
            ),
        )
    assert accept(f"[defaults]\n{TEXT}on_limit = '{word}'\n{ECHO}").warnings == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("max_connections = 1", "it counts open connections"),
        ("max_per_source = 1", "it counts open connections"),
        ("banner_refused = 'x'", "clients get it at the beginning of a connection"),
        ("banner_accepted = 'x'", "clients get it at the beginning of a connection"),
    ],
)
def test_keys_of_connections_are_warned_of_where_none_are(
    accept: Accept, line: str, reason: str
) -> None:
    """A service of datagrams alone; in [defaults] they are for others."""
    text = f"{ECHO}listen = ['udp://[::]:7']\n"
    assert accept(f"{text}{line}\n").warnings == (
        (
            f"unpd.toml:3: services.echo.{line.partition(' ')[0]}: it changes nothing: {reason},"
            " and every address of this service is of datagrams"
        ),
    )
    assert accept(f"[defaults]\n{line}\n{text}").warnings == ()
    assert accept(f"{UDP}{line}\n").warnings == ()


def test_a_banner_that_no_client_gets(accept: Accept) -> None:
    """At a limit on_limit decides; a rule sends it in any case."""
    text = f"{ECHO}max_per_source = 5\n{TEXT}"
    assert accept(text).warnings == (
        (
            "unpd.toml:3: services.echo.banner_refused: no client gets it, because at a limit it"
            ' needs on_limit = "banner": set that too'
        ),
    )
    for more in ("on_limit = 'banner'\n", "deny = ['192.0.2.1']\n"):
        assert accept(text + more).warnings == ()


@pytest.mark.parametrize("line", ["mode = 'observe'", "observe = ['max_connections']"])
@pytest.mark.parametrize(
    "kind",
    [
        "type = 'echo'\nmodel = 'fork'",
        "type = 'exec'\ncommand = ['/bin/cat']",
        "type = 'python'\nhandler = 'tasks:serve'",
    ],
    ids=["fork", "exec", "python"],
)
def test_a_limit_of_processes_is_enforced(accept: Accept, kind: str, line: str) -> None:
    """Each session has a place in a table, so clients wait whatever is observed."""
    text = f"[services.echo]\nlisten = ['tcp://[::]:7']\nmax_connections = 2\n{line}\n{kind}\n"
    loaded = accept(text)
    warning = (
        "unpd.toml:3: services.echo.max_connections: where each connection is a process, it"
        " cannot only be observed: clients wait beyond it all the same"
    )
    assert warning in loaded.warnings
    terms = loaded.config.services["echo"].access
    assert RefusalReason.MAX_CONNECTIONS not in terms.observe
    assert RefusalReason.MAX_CONNECTIONS in terms.queued


def test_the_limits_beside_a_queue_are_placed(refuse: Refuse) -> None:
    """One of [defaults] is easily overlooked."""
    (sentence,) = refuse(
        "[defaults]\nmax_per_source = 9\naccept_rate_per_source = '9/s'\n"
        f"{ECHO}on_limit = 'queue'\nmax_load = 3\n"
    )
    assert sentence.startswith("unpd.toml:5: services.echo.on_limit: ")
    assert (
        "also has max_load (unpd.toml:6), max_per_source (unpd.toml:2) and accept_rate_per_source"
        " (unpd.toml:3): remove on_limit; " in sentence
    )
    assert sentence.endswith("refused at max_load, max_per_source and accept_rate_per_source")


@pytest.mark.parametrize("key", ["banner_refused", "banner_accepted"])
@pytest.mark.parametrize("value", ["/etc/banner_fail", "file:/etc/issue.net", "/etc/motd\\n"])
def test_a_banner_that_is_the_path_of_a_file(accept: Accept, key: str, value: str) -> None:
    """The keys of xinetd name a file; here clients would get the path."""
    text = f'{ECHO}deny = ["192.0.2.1"]\n{key} = '
    (warning,) = accept(f'{text}"{value}"\n').warnings
    assert warning.startswith(f"unpd.toml:3: services.echo.{key}: clients get ")
    assert warning.endswith("because no file is read for this key: write the text itself")
    for right in ("/!\\\\ keep out", "closed, see /etc/motd", "//\\n// closed\\n", ""):
        assert accept(f'{text}"{right}"\n').warnings == ()


def test_rules_that_hide_clients_from_a_sensor(accept: Accept) -> None:
    """Also those of [defaults]; a value of its own lifts them, of which the warning
    says the least. A list of everybody refuses nobody, and neither does what is
    observed.
    """
    text = (
        "[defaults]\nallow = ['private']\n[services.trap]\ntype = 'sensor'\n"
        "listen = ['tcp://[::]:7']\n"
    )
    assert accept(text).warnings == (
        (
            "unpd.toml:3: services.trap: the sensor does not see, and does not deny, a client that"
            " allow refuses: write allow = [] here"
        ),
    )
    for line in ("allow = []", "allow = ['all']", "mode = 'observe'", "observe = ['allow']"):
        assert accept(f"{text}{line}\n").warnings == ()


def test_one_warning_of_all_that_hides_clients_from_a_sensor(accept: Accept) -> None:
    """What it says to write is right."""
    limits = (
        "allow = ['private']\ndeny = ['192.0.2.1']\naccess_times = ['08:00-18:00']\n"
        "max_connections = 5\naccept_rate = '9/s'\nmax_pressure = { cpu = 80 }\nmax_load = 9\n"
        "max_per_source = 3\naccept_rate_per_source = '9/min'\n"
    )
    trap = "[services.trap]\ntype = 'sensor'\nlisten = ['tcp://[::]:7']\n"
    (warning,) = accept(f"[defaults]\n{limits}{trap}").warnings
    assert "that allow, deny, access_times, max_connections, accept_rate, max_pre" in warning
    advice = warning.partition(": write ")[2].removesuffix(" here")
    assert advice.startswith("allow = [], deny = [], access_times = [], max_connections = 0, ")
    lines = advice.replace(", ", "\n")
    assert accept(f"[defaults]\n{limits}{trap}{lines}\n").warnings == ()
    forked = lines.replace("max_connections = 0", "max_connections = 9\nmodel = 'fork'")
    assert accept(f"[defaults]\n{limits}{trap}{forked}\n").warnings == ()


def test_a_sensor_is_offered_by_no_tcpmux(refuse: Refuse) -> None:
    """It would deny nobody."""
    mux = "[services.tcpmux]\nservices = ['trap']\n"
    trap = "[services.trap]\ntype = 'sensor'\nlisten = ['tcp://[::]:9']\n"
    assert refuse(mux + trap) == [
        (
            'unpd.toml:2: services.tcpmux.services: "trap" is a sensor, which denies nobody that'
            " comes through tcpmux"
        )
    ]


def test_a_machine_that_does_not_tell_its_pressure(host: Host) -> None:
    """There is no limit then, and a warning for each resource. Others hold."""
    bare = replace(host, pressures=frozenset({Resource.MEMORY}), tells_load=False)
    text = f"{ECHO}max_pressure = {{ cpu = 1, memory = 1 }}\nmax_load = 1\n"
    assert loads(text, bare).warnings == (
        (
            "unpd.toml:2: services.echo.max_pressure: nothing here tells the pressure on cpu, so"
            " there is no limit: the kernel may need psi=1 on its command line"
        ),
        (
            "unpd.toml:3: services.echo.max_load: nothing here tells the load average, so there is"
            " no limit"
        ),
    )
    assert loads(ECHO, bare).warnings == ()
    assert loads(text, host).warnings == ()


def test_rules_of_a_service_behind_tcpmux_are_warned_of(accept: Accept) -> None:
    """A client that comes through tcpmux is accepted by the rules of tcpmux."""
    mux = "[services.tcpmux]\nservices = ['echo']\n"
    rules = "allow = ['private']\nmax_per_source = 3\n"
    assert accept(f"{mux}{ECHO}{rules}").warnings == (
        (
            'unpd.toml:2: services.tcpmux.services: "echo" has allow, max_per_source, but for a'
            " client that comes through tcpmux only the keys of tcpmux decide"
        ),
    )
    assert accept(f"[defaults]\n{rules}{mux}{ECHO}").warnings == ()
    assert accept(f"{mux}{rules}{ECHO}").warnings == ()


def test_a_load_balancer_of_datagrams_is_warned_of(accept: Accept) -> None:
    """A datagram has no header. Beside a stream or in [defaults] the key may stand."""
    key, udp = "proxy_protocol = ['10.0.0.9']\n", "listen = ['udp://[::]:7'"
    assert accept(f"{ECHO}{udp}]\n{key}").warnings == (
        (
            "unpd.toml:3: services.echo.proxy_protocol: it changes nothing: a load balancer tells"
            " the client at the beginning of a connection, and every address of this service is of"
            " datagrams"
        ),
    )
    assert accept(f"{ECHO}{udp}, 'tcp://[::]:7']\n{key}").warnings == ()
    assert accept(f"[defaults]\n{key}{ECHO}{udp}]\n").warnings == ()
