"""Checks whether the keys about refusals of a service fit together: how it refuses,
which text its clients get, and what is possible for datagrams.

Called by unpd.config.checks. Calls the schema. Raises nothing: errors and warnings go
to the findings.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from unpd.config.addresses import takes_datagrams
from unpd.config.findings import Findings
from unpd.config.host import Host
from unpd.config.lines import KeyPath
from unpd.config.schema import Config, ServiceConfig
from unpd.config.wording import listed
from unpd.errors import quoted
from unpd.names import Resource
from unpd.services.sensor import SensorOptions

BEFORE_ACCEPT = ("max_connections", "accept_rate")
"""The limits that are decided without the peer, so that clients can wait in the accept
queue.
"""
AFTER_ACCEPT = (
    "max_pressure",
    "max_load",
    "max_per_source",
    "accept_rate_per_source",
)
"""The other limits."""
RULES = ("allow", "deny", "access_times")
"""The keys that refuse a client whatever others do."""
BANNERS = ("banner_refused", "banner_accepted")
"""The texts for clients."""
_PATH = re.compile(r"(?:file:\S*|/\S+)\s*")
"""A text that looks like the path of a file."""
LIFTED: Mapping[str, str] = MappingProxyType(
    {
        "allow": "[]",
        "deny": "[]",
        "access_times": "[]",
        "max_connections": "0",
        "accept_rate": '""',
        "max_pressure": "{}",
        "max_load": "0",
        "max_per_source": "0",
        "accept_rate_per_source": '""',
    }
)
"""The value of each rule and limit with which it refuses nobody."""
OF_STREAMS: Mapping[str, str] = MappingProxyType(
    {
        "max_connections": "it counts open connections",
        "max_per_source": "it counts open connections",
        "banner_refused": "clients get it at the beginning of a connection",
        "banner_accepted": "clients get it at the beginning of a connection",
        "proxy_protocol": "a load balancer tells the client at the beginning of a connection",
    }
)
"""The keys that mean nothing for datagrams, with the reason."""


def check_refusals(config: Config, host: Host, findings: Findings) -> None:
    """Add every error and warning about refusals."""
    for name, service in config.services.items():
        path: KeyPath = ("services", name)
        _check_on_limit(path, service, findings)
        _check_banner(path, service, findings)
        _check_observed(path, service, findings)
        _check_sensor(path, service, findings)
        _check_datagrams(path, service, findings)
        _check_machine(path, service, host, findings)


def limits_of(service: ServiceConfig, keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` that are a limit, a rule or a text: they have another value
    than their default, and allow does not let everybody in.
    """
    fields = type(service).model_fields
    return [
        key
        for key in keys
        if getattr(service, key) != fields[key].default
        and not (key == "max_connections" and service.has_default_limit)
        and not (key == "allow" and "all" in service.allow.entries)
    ]


def _check_on_limit(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Refuse a way to refuse that a limit of the service cannot have."""
    here = (*path, "on_limit")
    if service.on_limit not in ("queue", "banner"):
        return
    for address in filter(takes_datagrams, service.listen):
        mend = (
            f'set on_limit = "refuse" in [services.{service.name}]'
            if findings.is_inherited(here)
            else "remove the key, or serve them by a service of their own"
        )
        findings.error(
            here,
            f"{quoted(service.on_limit)} is impossible for datagrams, which come to"
            f" {address.text}: {mend}",
        )
        return
    if sentence := (_why_no_queue if service.on_limit == "queue" else _why_no_banner)(service):
        findings.error(here, sentence)
    elif not (_has_limit(service) or findings.is_inherited(here)):
        findings.warning(
            here,
            "it changes nothing, because the service has no limit: add one, such as"
            " max_connections, or remove the key",
        )


def _has_limit(service: ServiceConfig) -> bool:
    return bool(service.max_connections or limits_of(service, (*BEFORE_ACCEPT, *AFTER_ACCEPT)))


def _why_no_queue(service: ServiceConfig) -> str:
    """Why clients cannot wait in the accept queue; "" if they can."""
    if not (others := limits_of(service, AFTER_ACCEPT)):
        return ""
    places = [f"{key}{_place(service, key)}" for key in others]
    return (
        f"{quoted('queue')} is possible for {' and '.join(BEFORE_ACCEPT)} only, and the service"
        f" also has {listed(places, 'and')}: remove on_limit; then clients wait at"
        f" {' and '.join(BEFORE_ACCEPT)}, and are refused at {listed(others, 'and')}"
    )


def _place(service: ServiceConfig, key: str) -> str:
    """Where a key of a service stands, in brackets: it may be in [defaults]."""
    origin = service.origins.by_key.get(key)
    return f" ({origin.file}:{origin.line})" if origin and origin.line else ""


def _why_no_banner(service: ServiceConfig) -> str:
    """Why clients cannot get a text instead of the service; "" if they can."""
    return "" if service.banner_refused else "there is no text to send: set banner_refused"


def _check_banner(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn of a text that is the path of a file, and of one that no client gets: at a
    limit, ``on_limit`` decides.
    """
    for key in BANNERS:
        if _PATH.fullmatch(text := getattr(service, key)):
            findings.warning(
                (*path, key),
                f"clients get {quoted(text)} as it is, because no file is read for this key: write"
                " the text itself",
            )
    here = (*path, "banner_refused")
    speaks = not service.banner_refused or service.on_limit == "banner"
    if (
        speaks
        or any(map(takes_datagrams, service.listen))
        or limits_of(service, RULES)
        or not _has_limit(service)
    ):
        return
    if not findings.is_inherited(here):
        findings.warning(
            here, 'no client gets it, because at a limit it needs on_limit = "banner": set that too'
        )


def _check_observed(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn of a limit that is observed and yet holds."""
    observed = service.mode == "observe" or "max_connections" in service.observe
    if service.forks and observed and not service.has_default_limit:
        findings.warning(
            (*path, "max_connections"),
            "where each connection is a process, it cannot only be observed: clients wait beyond it"
            " all the same",
        )


def _check_sensor(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn of rules that keep clients from a sensor, also of inherited ones."""
    if not isinstance(service.options, SensorOptions) or service.mode == "observe":
        return
    keys = [
        key
        for key in limits_of(service, (*RULES, *BEFORE_ACCEPT, *AFTER_ACCEPT))
        if key not in service.observe
        # The model fork always has a limit.
        and not (key == "max_connections" and service.model == "fork")
    ]
    if keys:
        lifted = ", ".join(f"{key} = {LIFTED[key]}" for key in keys)
        findings.warning(
            path,
            f"the sensor does not see, and does not deny, a client that {listed(keys, 'or')}"
            f" refuses: write {lifted} here",
        )


def _check_datagrams(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn of keys that mean nothing, because all clients send datagrams. Those of
    ``[defaults]`` mean something in other services.
    """
    if not all(map(takes_datagrams, service.listen)):
        return
    for key in limits_of(service, OF_STREAMS):
        if not findings.is_inherited((*path, key)):
            findings.warning(
                (*path, key),
                f"it changes nothing: {OF_STREAMS[key]}, and every address of this service is of"
                " datagrams",
            )


def _check_machine(path: KeyPath, service: ServiceConfig, host: Host, findings: Findings) -> None:
    """Warn of a limit of what this machine does not tell."""
    limits = service.max_pressure
    for resource in Resource:
        if getattr(limits, resource) and resource not in host.pressures:
            findings.warning(
                (*path, "max_pressure"),
                f"nothing here tells the pressure on {resource}, so there is no limit: the kernel"
                " may need psi=1 on its command line",
            )
    if service.max_load and not host.tells_load:
        findings.warning(
            (*path, "max_load"), "nothing here tells the load average, so there is no limit"
        )
