"""How the keys about refusals fit together."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.names import Resource

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
UDP = f"{ECHO}listen = ['tcp://[::]:7', 'udp://[::]:7']\n"
TEXT = "banner_refused = 'busy'\n"
HEALING = {
    "access_times": "['08:00-18:00']",
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
            f" accept_rate only, and the service also has {key}: remove the key, and these refuse"
            " while those queue"
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
    sentence = (
        f'"{word}" is impossible for datagrams, which come to udp://[::]:7: remove the key, or'
        " serve them by a service of their own"
    )
    assert refuse(f"{UDP}{key}'{word}'\n") == [f"unpd.toml:5: services.echo.on_limit: {sentence}"]
    assert refuse(f"[defaults]\n{key}'{word}'\n{UDP}") == [
        f"unpd.toml:4: defaults.on_limit: {sentence} (services.echo)"
    ]
    assert accept(f"{UDP}{key}'refuse'\n").warnings == ()
    assert accept(f"[defaults]\n{key}'{word}'\n{UDP}on_limit = 'refuse'\n").warnings == ()


@pytest.mark.parametrize("word", ["queue", "banner"])
def test_on_limit_needs_a_limit(refuse: Refuse, accept: Accept, word: str) -> None:
    """In a service; in [defaults] it waits for the limits of services."""
    assert refuse(f"{ECHO}{TEXT}deny = ['all']\non_limit = '{word}'\n") == [
        (
            "unpd.toml:4: services.echo.on_limit: there is no limit to reach: add one, such as"
            " max_connections, or remove the key"
        )
    ]
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
