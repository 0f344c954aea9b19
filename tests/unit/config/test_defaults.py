"""The table [defaults]: keys for all services, and findings that name it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.etc import Etc
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.config.plan import effective
from unpd.config.schema import COMMON_KEYS, DEFAULTS_KEYS

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

TWO = "[services.daytime]\n[services.echo]\n"


def test_a_service_gets_what_it_does_not_set(accept: Accept) -> None:
    """A service's own value wins, and a key that neither sets has its usual default."""
    config = accept(
        "[services.daytime]\nbacklog = 5\n[services.echo]\n"
        "[defaults]\nbacklog = 7\nsocket_mode = '0600'\nkeepalive = false\n"
    ).config
    assert {
        name: (service.backlog, service.socket_mode, service.keepalive, service.idle_timeout_s)
        for name, service in config.services.items()
    } == {"daytime": (5, 0o600, False, 600.0), "echo": (7, 0o600, False, 600.0)}


def test_it_changes_the_records_of_a_service(accept: Accept) -> None:
    """The record of times has those of [defaults], too."""
    service = accept(f"[defaults]\nidle_timeout_s = 5\n{TWO}").config.services["echo"]
    assert service.times.idle_timeout_s == 5


def test_the_effective_configuration_has_every_value_with_its_service(accept: Accept) -> None:
    """What check --show prints needs no [defaults], and loads as the same."""
    config = accept(f"[defaults]\nbacklog = 7\nsocket_mode = '0600'\n{TWO}").config
    assert "[defaults]" not in effective(config)
    assert accept(effective(config)).config == config


def test_drop_ins_may_have_it(etc: Etc) -> None:
    """The table merges key by key, as others do, and the later file wins. A fault names
    the file and the line of its key.
    """
    etc.write(f"[defaults]\nbacklog = 1\nkeepalive = false\n{TWO}", a="\n[defaults]\nbacklog = 2\n")
    service = etc.load().config.services["echo"]
    assert (service.backlog, service.keepalive) == (2, False)
    etc.write(f"[defaults]\nbacklog = 1\n{TWO}", a="\n[defaults]\nbacklog = 0\npool = 'slow'\n")
    assert etc.refusal() == [
        "conf.d/a.toml:3: defaults.backlog: must be a whole number from 1 to 1000000",
        (
            'conf.d/a.toml:4: defaults.pool: there is no pool "slow"; add a table [pools.NAME] or'
            ' use "default" (services.daytime, services.echo)'
        ),
    ]


def test_a_service_stays_in_one_file(etc: Etc) -> None:
    """The defaults of another file hold for it."""
    etc.write(f"[defaults]\nbacklog = 3\n{TWO}", a="[services.late]\ntype = 'discard'\n")
    assert {service.backlog for service in etc.load().config.services.values()} == {3}


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("listen", "each service has addresses of its own: it belongs in [services.NAME]"),
        ("type", "each service has a protocol of its own: it belongs in [services.NAME]"),
        ("name", "the name of a service is that of its table: [services.NAME]"),
        ("timezone", 'only services of type "daytime" have it'),
        ("workers", "it belongs in [pools.NAME]"),
        ("grace_s", "it belongs in [daemon]"),
        ("backlogs", 'did you mean "backlog"?'),
        ("port", 'address and port stand in listen, such as listen = ["tcp://[::]:7"]'),
    ],
)
def test_what_services_do_not_have_in_common(refuse: Refuse, key: str, sentence: str) -> None:
    """Each key that belongs elsewhere is refused with its place."""
    assert refuse(f"{TWO}[defaults]\n{key} = 'x'\n") == [
        f"unpd.toml:4: defaults.{key}: unknown key; {sentence}"
    ]


def test_a_value_in_its_place_is_refused(refuse: Refuse) -> None:
    """It is a table."""
    assert refuse(f"defaults = 7\n{TWO}") == [
        "unpd.toml:1: defaults: must be a table, written as [defaults]"
    ]


def test_a_faulty_key_is_reported_once(refuse: Refuse) -> None:
    """It does not count for the services, so no other finding follows from it."""
    assert refuse(f"[defaults]\nbacklog = '1'\n{TWO}") == [
        (
            "unpd.toml:2: defaults.backlog: must be a whole number from 1 to 1000000; write it"
            " without quotes"
        )
    ]


def test_a_warning_names_the_key_where_it_stands(host: Host) -> None:
    """A check of services that have a value from [defaults] gives one warning, which
    names some of them; a service's own value gives another.
    """
    text = "[defaults]\nbacklog = 9\n" + "".join(
        f"[services.e{number}]\ntype = 'echo'\nlisten = ['tcp://[::]:0']\n" for number in range(5)
    )
    ending = "is above net.core.somaxconn, so the kernel uses 5; raise that limit with sysctl(8)"
    assert loads(f"{text}backlog = 8\n", replace(host, somaxconn=5)).warnings == (
        (
            f"unpd.toml:2: defaults.backlog: 9 {ending} or lower the backlog"
            " (services.e0, services.e1, services.e2, and 1 more)"
        ),
        f"unpd.toml:18: services.e4.backlog: 8 {ending} or lower the backlog",
    )


def test_a_model_for_all_is_no_mistake_in_one(accept: Accept) -> None:
    """A service without streams, whose model changes nothing, need not have another."""
    text = "[services.echo]\nlisten = ['udp://[::]:7']\n[services.daytime]\n"
    assert accept(f"[defaults]\nmodel = 'fork'\n{text}").warnings == ()


def test_the_table_has_every_common_key_but_those_of_one_service() -> None:
    """A new common key belongs to it too."""
    assert set(COMMON_KEYS) - set(DEFAULTS_KEYS) == {"type", "listen"}
