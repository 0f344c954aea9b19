"""The terms of a service, made of its keys."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest

from unpd.access.rate import Rate
from unpd.access.rules import Entry, Origin
from unpd.access.terms import AccessTerms, OnLimit
from unpd.access.times import AccessTimes
from unpd.config.load import Loaded
from unpd.config.schema import ServiceConfig
from unpd.names import ORDERED, RefusalReason, Resource

Accept = Callable[[str], Loaded]

ECHO = "[services.echo]\n"


def echo(loaded: Loaded) -> ServiceConfig:
    """The service of that name."""
    return loaded.config.services["echo"]


def test_a_service_without_keys_limits_nobody(accept: Accept) -> None:
    """A live denial alone can refuse."""
    assert echo(accept(ECHO)).access == AccessTerms()
    assert not echo(accept(ECHO)).access.limits_peers


def test_every_key_is_in_the_terms(accept: Accept) -> None:
    """Parsed, with the place where it stands."""
    service = echo(
        accept(
            "[defaults]\nmax_per_source = 3\n"
            f"{ECHO}deny = ['10.0.0.1']\nallow = ['private']\nmax_connections = 4\n"
            "source_prefix_v4 = 24\nsource_prefix_v6 = 56\naccept_rate = '5/s burst 9'\n"
            "accept_rate_per_source = '6/h'\naccess_times = ['Mon 08:00-18:00']\n"
            "times_zone = 'Europe/Berlin'\nmax_pressure = { memory = 20, io = 30 }\n"
            "max_load = 7.5\non_limit = 'banner'\nbanner_refused = \"no\\r\\n\"\n"
            "banner_accepted = '\u00e9'\nobserve = ['deny', 'max_load']\n"
            "proxy_protocol = ['10.0.0.9']\n"
        )
    )
    assert service.access == AccessTerms(
        deny=service.deny.rules,
        allow=service.allow.rules,
        access_times=AccessTimes.parse(["Mon 08:00-18:00"], ZoneInfo("Europe/Berlin")),
        max_pressure=((Resource.MEMORY, 20.0), (Resource.IO, 30.0)),
        max_load=7.5,
        max_connections=4,
        max_per_source=3,
        source_prefix_v4=24,
        source_prefix_v6=56,
        accept_rate=Rate(5, 1, 9),
        accept_rate_per_source=Rate(6, 3600, 6),
        on_limit=OnLimit.BANNER,
        banner_refused=b"no\r\n",
        banner_accepted=b"\xc3\xa9",
        proxies=service.proxy_protocol.rules,
        observe=frozenset({RefusalReason.DENY, RefusalReason.MAX_LOAD}),
        keys={
            reason: Entry(text, Origin("unpd.toml", line))
            for reason, text, line in (
                (RefusalReason.MAX_PER_SOURCE, "max_per_source = 3", 2),
                (RefusalReason.DENY, 'deny = ["10.0.0.1"]', 4),
                (RefusalReason.ALLOW, 'allow = ["private"]', 5),
                (RefusalReason.MAX_CONNECTIONS, "max_connections = 4", 6),
                (RefusalReason.ACCEPT_RATE, 'accept_rate = "5/s burst 9"', 9),
                (RefusalReason.ACCEPT_RATE_PER_SOURCE, 'accept_rate_per_source = "6/h"', 10),
                (RefusalReason.ACCESS_TIMES, 'access_times = ["Mon 08:00-18:00"]', 11),
                (
                    RefusalReason.MAX_PRESSURE,
                    "max_pressure = { cpu = 0, memory = 20, io = 30 }",
                    13,
                ),
                (RefusalReason.MAX_LOAD, "max_load = 7.5", 14),
            )
        },
    )


def test_a_sensor_sends_no_text(accept: Accept) -> None:
    """Not that of [defaults] either, whoever is let in or refused. One of its own has a
    warning.
    """
    defaults = "[defaults]\nbanner_accepted = 'hello'\nbanner_refused = 'no'\n"
    loaded = accept(f"{defaults}[services.trap]\ntype = 'sensor'\nlisten = ['tcp://[::]:1']\n")
    terms = loaded.config.services["trap"].access
    assert (terms.banner_accepted, terms.banner_refused) == (b"", b"")
    assert not [warning for warning in loaded.warnings if "banner" in warning]
    text = "type = 'sensor'\nlisten = ['tcp://[::]:1']\nbanner_accepted = 'hello'\n"
    (warning,) = accept(f"[services.trap]\n{text}").warnings
    assert warning == (
        "unpd.toml:4: services.trap.banner_accepted: a sensor answers nothing: it never sends this"
        " text, so leave it out"
    )


def test_a_service_that_observes_tries_out_its_keys(accept: Accept) -> None:
    """No rule and no limit of it refuses anybody. A live denial holds all the same."""
    terms = echo(accept(f"{ECHO}mode = 'observe'\n")).access
    assert terms.observe == frozenset(RefusalReason) - set(ORDERED)
    assert terms.sensor_observes
    assert not echo(accept(ECHO)).access.sensor_observes


@pytest.mark.parametrize(
    ("line", "queued"),
    [
        ("", {"max_connections", "accept_rate"}),
        ("on_limit = 'refuse'\n", set()),
    ],
)
def test_clients_wait_where_they_can(accept: Accept, line: str, queued: set[str]) -> None:
    """Unless on_limit says otherwise. A datagram never waits, and is never open."""
    service = echo(accept(f"{ECHO}max_connections = 1\naccept_rate = '1/s'\n{line}"))
    assert {*map(str, service.access.queued)} == queued
    datagrams = service.datagram_access
    assert datagrams.queued == ()
    assert datagrams.decided == (RefusalReason.DENIED, RefusalReason.ACCEPT_RATE)


def test_a_datagram_has_no_header_of_a_load_balancer(accept: Accept) -> None:
    """So unpd explain says of its sender what a worker decides."""
    service = echo(accept(f"{ECHO}proxy_protocol = ['10.0.0.9']\n"))
    assert service.access.proxies
    assert not service.datagram_access.proxies


def test_the_model_fork_has_its_limit(accept: Accept) -> None:
    """It stands in no file."""
    access = echo(accept(f"{ECHO}model = 'fork'\n")).access
    assert (access.max_connections, access.keys) == (256, {})


def test_a_sensor_alone_has_the_sources_that_it_spares(accept: Accept) -> None:
    """The other services need not be replaced when that list changes."""
    text = "[access]\nnever_deny = ['private']\n[services.sensor]\nlisten = ['tcp://[::]:23']\n"
    services = accept(text + ECHO).config.services
    assert services["sensor"].access.never_deny == services["sensor"].never_deny.rules
    assert services["sensor"].never_deny.texts == ("private",)
    assert not services["echo"].access.never_deny


def test_a_long_key_is_cut(accept: Accept) -> None:
    """It is for a line of the log."""
    many = ", ".join(f"'10.0.0.{number}'" for number in range(100))
    (entry,) = echo(accept(f"{ECHO}allow = [{many}]\n")).access.keys.values()
    assert entry.text.startswith('allow = ["10.0.0.0", ')
    assert entry.text.endswith("...")
    assert len(entry.text) < 130


def test_a_key_that_moved_is_the_same(accept: Accept) -> None:
    """A comment above it replaces no process."""
    text = f"{ECHO}deny = ['10.0.0.1']\nmax_load = 1\n"
    assert echo(accept(text)) == echo(accept(f"\n\n{text}"))
