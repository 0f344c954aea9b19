"""Checks keys against each other and against the machine: addresses and paths used
twice, missing and unused pools, totals, limits of the kernel, unknown accounts.

Each check is one small function. Called by unpd.config.load, once after the build.
Calls unpd.kernel to look up accounts and interfaces. Raises nothing: every fault goes
to the findings.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unpd.board import layout
from unpd.config.addresses import (
    Address,
    FileAddress,
    InternetAddress,
    SystemdAddress,
    TcpAddress,
    takes_datagrams,
)
from unpd.config.answers import check_answers
from unpd.config.denials_file import why_foreign
from unpd.config.findings import Findings
from unpd.config.host import Host
from unpd.config.kernel_limits import check_kernel_limits
from unpd.config.lines import KeyPath
from unpd.config.list_checks import check_lists
from unpd.config.offers import check_offers
from unpd.config.programs import check_programs
from unpd.config.redirects import check_redirects
from unpd.config.refusals import check_refusals
from unpd.config.schema import (
    DEFAULT_AMPLIFICATION,
    DEFAULT_POOL,
    MAX_SESSIONS,
    Config,
    Pool,
    ServiceConfig,
)
from unpd.config.service_types import Kinds, kinds_of
from unpd.config.source_room import check_source_room
from unpd.config.wording import word_shown
from unpd.errors import quoted
from unpd.kernel import interfaces, privileges
from unpd.names import MAX_POOL_WORKERS, MAX_WORKERS, ChildKind, kind_words
from unpd.services.sensor import SensorOptions


@dataclass(frozen=True, slots=True)
class _Listener:
    """One listen address and the key that configures it.

    ``owner``: that key, as messages name it.
    """

    path: KeyPath
    owner: str
    address: Address
    ipv6_only: bool


def check(
    config: Config,
    written_pools: frozenset[str],
    host: Host,
    findings: Findings,
    kinds: Callable[[str], Kinds] = kinds_of,
) -> None:
    """Add every error and warning about ``config`` as a whole to ``findings``.

    ``written_pools``: the pools that the files configure. ``kinds``: what a
    service type serves.
    """
    listeners = tuple(_listeners(config))
    if len(listeners) > layout.MAX_LISTENERS:
        findings.error(
            ("services",),
            f"{len(listeners)} listen addresses are configured, including that of metrics, but"
            f" at most {layout.MAX_LISTENERS} are allowed",
        )
    else:
        _check_addresses(listeners, findings)
    _check_kinds(config, listeners, findings, kinds)
    _check_models(config, findings)
    _check_metrics(config, findings)
    _check_sensors(config, findings)
    _check_amplification(config, findings)
    check_answers(config, findings)
    check_lists(config, findings)
    check_refusals(config, host, findings)
    check_programs(config, host, findings)
    _check_paths(config, listeners, findings)
    _check_pools(config, written_pools, findings)
    check_offers(config, findings)
    check_redirects(config, findings)
    _check_workers(config, written_pools, host, findings)
    check_kernel_limits(config, len(listeners), host, findings)
    check_source_room(config, findings)
    _check_readers(config, host, findings)
    if host.check_accounts:
        _check_accounts(config, findings)
        _check_root(config, host, findings)
    if host.check_interfaces:
        _check_interfaces(listeners, findings)
    if host.check_files:
        _check_state_file(config, findings)


def _check_accounts(config: Config, findings: Findings) -> None:
    daemon = config.daemon
    if not privileges.has_user(daemon.user):
        findings.error(("daemon", "user"), f"there is no user {quoted(daemon.user)} on this system")
    if daemon.group is not None and not privileges.has_group(daemon.group):
        findings.error(
            ("daemon", "group"), f"there is no group {quoted(daemon.group)} on this system"
        )


def _check_readers(config: Config, host: Host, findings: Findings) -> None:
    """Warn where the members of the group that may look can do everything."""
    readers = config.control.read_group
    if readers is not None and readers.gid == host.gid:
        findings.warning(
            ("control", "read_group"),
            f"{quoted(readers.name)} is the group of the control socket too, whose members may use"
            " every command: name another group",
        )


def _check_root(config: Config, host: Host, findings: Findings) -> None:
    """Warn where the children would keep root's rights. The root of a user namespace
    without another user has no choice, and few rights.
    """
    user = config.daemon.user
    if host.uid == 0 and user != host.drops_to and privileges.is_root(user):
        findings.warning(
            ("daemon", "user"),
            f"{quoted(user)} lets the workers keep root's rights: a client that takes one over has"
            f" the whole system; name a user without rights, such as {quoted(host.drops_to)}, or"
            " leave the key out",
        )


def _listeners(config: Config) -> Iterator[_Listener]:
    if config.metrics.listen is not None:
        yield _Listener(
            ("metrics", "listen"), "metrics.listen", config.metrics.listen, ipv6_only=False
        )
    for name, service in config.services.items():
        for index, address in enumerate(service.listen):
            yield _Listener(
                ("services", name, "listen", index),
                f"services.{name}.listen",
                address,
                service.ipv6_only,
            )


def _check_addresses(listeners: tuple[_Listener, ...], findings: Findings) -> None:
    for position, later in enumerate(listeners):
        for earlier in listeners[:position]:
            if clash := _clash(earlier, later):
                findings.error(later.path, f"{word_shown(later.address.text)} {clash}")
                break


def _check_kinds(
    config: Config,
    listeners: tuple[_Listener, ...],
    findings: Findings,
    kinds: Callable[[str], Kinds],
) -> None:
    """Refuse a datagram address where only streams are served, and the reverse."""
    for listener in listeners:
        datagrams = takes_datagrams(listener.address)
        if listener.owner == "metrics.listen":
            kind, served = "the metrics exporter", not datagrams
        else:
            service = config.services[str(listener.path[1])]
            kind = f"a service of type {quoted(service.type)}"
            served = kinds(service.type)[datagrams]
        if not served and not isinstance(listener.address, SystemdAddress):
            wanted = "tcp:// or unix://" if datagrams else "udp:// or unixgram://"
            findings.error(
                listener.path,
                f"{word_shown(listener.address.text)}: {kind} is served at addresses with {wanted}",
            )


def _check_models(config: Config, findings: Findings) -> None:
    """Refuse a number of processes that is too large, and warn of a model without
    streams: a service may change its model by one key, so that is no error.
    """
    for name, service in config.services.items():
        if service.forks and not 1 <= service.max_connections <= MAX_SESSIONS:
            key = "type" if service.served_by else "model"
            findings.error(
                ("services", name, "max_connections"),
                f"must be a whole number from 1 to {MAX_SESSIONS} with {key} ="
                f" {quoted(getattr(service, key))}: each connection is a process",
            )
        path: KeyPath = ("services", name, "model")
        if findings.is_inherited(path) or service.model == "event":
            continue
        if service.served_by is not None:
            findings.error(
                path,
                f"a service of type {quoted(service.type)} has no model, because a"
                f" {kind_words(service.served_by)} serves it: leave the key out",
            )
        elif all(map(takes_datagrams, service.listen)):
            findings.warning(
                path,
                f"{quoted(service.model)} changes nothing: a model is about streams, and every"
                " address of this service is of datagrams",
            )


def _check_metrics(config: Config, findings: Findings) -> None:
    """Warn of a lame time that nobody can notice, and of a listener that need not be
    opened and that unpd does not open.
    """
    listen = config.metrics.listen
    if not config.metrics.required and (listen is None or isinstance(listen, SystemdAddress)):
        findings.warning(
            ("metrics", "required"),
            "changes nothing, because metrics.listen names no address that unpd itself opens",
        )
    if config.daemon.lame_duck_s and listen is None:
        findings.warning(
            ("daemon", "lame_duck_s"),
            "only makes each stop and restart longer, because metrics.listen is false: load"
            " balancers notice the lame time at /readyz of that listener",
        )


def _check_sensors(config: Config, findings: Findings) -> None:
    """Warn of a sensor that nobody finds, or that can deny nobody, and of a text that
    it does not send.
    """
    for name, service in config.services.items():
        if isinstance(service.options, SensorOptions):
            _check_sensor(("services", name), service, findings)


def _check_sensor(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    for address in service.listen:
        if isinstance(address, InternetAddress) and address.port == 0:
            findings.warning(
                (*path, "listen"),
                f"{address.text} is another port after each start: name the port where this"
                " sensor waits, such as that of a protocol that no service speaks",
            )
    if not any(isinstance(one, TcpAddress | SystemdAddress) for one in service.listen):
        findings.warning(
            (*path, "listen"),
            "the sensor denies nobody, because no address here is of TCP: the source of a"
            " datagram can be forged, and a client of a UNIX socket has no address",
        )
    for key in ("banner_accepted", "banner_refused"):
        if getattr(service, key) and not findings.is_inherited((*path, key)):
            findings.warning(
                (*path, key), "a sensor answers nothing: it never sends this text, so leave it out"
            )


def _check_amplification(config: Config, findings: Findings) -> None:
    """Warn where forged sources make unpd send a victim more than QUIC would allow."""
    for name, service in config.services.items():
        datagrams = any(map(_may_take_datagrams, service.listen))
        if service.amplification > DEFAULT_AMPLIFICATION and datagrams:
            findings.warning(
                ("services", name, "amplification"),
                f"{service.amplification:g} is above {DEFAULT_AMPLIFICATION}: with a forged source"
                " address, an attacker can multiply the traffic that reaches a victim by that much",
            )


def _may_take_datagrams(address: Address) -> bool:
    return takes_datagrams(address) or isinstance(address, SystemdAddress)


def _check_interfaces(listeners: tuple[_Listener, ...], findings: Findings) -> None:
    for listener in listeners:
        address = listener.address
        name = address.interface if isinstance(address, InternetAddress) else ""
        if name and not interfaces.interface_index(name):
            findings.error(listener.path, f"this host has no interface {quoted(name)}")


def _clash(earlier: _Listener, later: _Listener) -> str:
    """Why the kernel cannot bind both, for a message about the later; "" if it can.

    Two ports 0 never clash: the kernel chooses a free port for each. A port of TCP and
    the same of UDP are two, and a path is one, whatever socket is there.
    """
    old, new = earlier.address, later.address
    if isinstance(old, FileAddress) and isinstance(new, FileAddress):
        return _equal(earlier, later) if old.path == new.path else ""
    if not isinstance(old, InternetAddress) or not isinstance(new, InternetAddress):
        return _equal(earlier, later) if old == new else ""
    if old.port != new.port or new.port == 0 or old.scheme != new.scheme:
        return ""
    if old.host == new.host:
        return _equal(earlier, later)
    return _overlap(earlier, later, old, new)


def _equal(earlier: _Listener, later: _Listener) -> str:
    if earlier.owner != later.owner:
        return f"is also an address of {earlier.owner}"
    if earlier.address == later.address:
        return "is listed twice: remove one of the two"
    return f"has the path of {word_shown(earlier.address.text)}: two sockets need two paths"


def _overlap(
    earlier: _Listener, later: _Listener, old: InternetAddress, new: InternetAddress
) -> str:
    """Why two hosts on one port clash; "" if they do not.

    The kernel binds both unless one host includes the other (ip(7)); an IPv6 wildcard
    includes IPv4 (ipv6(7)).
    """
    overlap = f"overlaps {old.text} of {earlier.owner}"
    if old.is_ipv6 == new.is_ipv6:
        return (
            f"{overlap}: a wildcard includes every address"
            if old.is_wildcard or new.is_wildcard
            else ""
        )
    ipv6 = later if new.is_ipv6 else earlier
    if ipv6.ipv6_only or (old if ipv6 is earlier else new).host != "::":
        return ""
    remedy = (
        "use another port"
        if ipv6.owner == "metrics.listen"
        else f"set ipv6_only = true in [{ipv6.owner.removesuffix('.listen')}] or use another port"
    )
    return f"{overlap}: [::] includes IPv4; {remedy}"


def _check_paths(config: Config, listeners: tuple[_Listener, ...], findings: Findings) -> None:
    """Refuse a path that two of these share: pid file, control socket, log file, state
    file, UNIX listeners.
    """
    uses: list[tuple[KeyPath, str]] = [
        (("daemon", "pid_file"), str(config.daemon.pid_file)),
        (("daemon", "control"), str(config.daemon.control)),
    ]
    uses += [(("log", "file"), config.log.file)] if config.log.file else []
    state_file = config.access.state_file
    uses += [(("access", "state_file"), state_file)] if state_file else []
    owners: dict[str, str] = {}
    for path, file in uses:
        if file in owners:
            findings.error(path, f"{quoted(file)} is also the path of {owners[file]}")
        owners.setdefault(file, ".".join(str(key) for key in path))
    for listener in listeners:
        if isinstance(listener.address, FileAddress) and listener.address.path in owners:
            findings.error(
                listener.path,
                f"{quoted(listener.address.path)} is also the path of"
                f" {owners[listener.address.path]}",
            )


def _check_state_file(config: Config, findings: Findings) -> None:
    state_file = config.access.state_file
    if state_file and (sentence := why_foreign(Path(state_file))):
        findings.error(("access", "state_file"), sentence)


def _check_pools(config: Config, written_pools: frozenset[str], findings: Findings) -> None:
    for name, service in config.services.items():
        if service.pool not in config.pools:
            advice = findings.advice(
                service.pool,
                config.pools,
                f"add a table [pools.NAME] or use {quoted(DEFAULT_POOL)}",
            )
            findings.error(
                ("services", name, "pool"), f"there is no pool {quoted(service.pool)}{advice}"
            )
    used = {service.pool for service in config.services.values()}
    for name in config.pools:
        if name in written_pools and name not in used:
            findings.warning(("pools", name), "no service uses this pool")


def _check_workers(
    config: Config, written_pools: frozenset[str], host: Host, findings: Findings
) -> None:
    used = {service.pool for service in config.services.values()}
    total = sum(
        wanted_workers(pool, host.cpus)
        for name, pool in config.pools.items()
        if name in used or name in written_pools
    )
    # Each of the other models has at most one process of its own for each service.
    total += sum(service.kind is not ChildKind.WORKER for service in config.services.values())
    if total > MAX_WORKERS:
        findings.error(
            ("pools",),
            f"all pools together have {total} workers and dispatchers, but at"
            f" most {MAX_WORKERS} are allowed",
        )


def wanted_workers(pool: Pool, cpus: int) -> int:
    """How many workers ``pool`` wants, 1 to 512, on ``cpus`` usable CPUs; "auto" means
    one for each CPU.
    """
    return min(cpus, MAX_POOL_WORKERS) if pool.workers == "auto" else pool.workers
