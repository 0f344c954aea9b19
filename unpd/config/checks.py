"""What no single key can tell: addresses and paths used twice, pools that are missing
or idle, totals, and limits of the machine.

Called once after the build. Each check is one small function that notes what it finds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from unpd.board import layout
from unpd.config.addresses import Address, TcpAddress, UnixAddress
from unpd.config.findings import Findings
from unpd.config.host import Host
from unpd.config.lines import KeyPath
from unpd.config.schema import DEFAULT_POOL, MAX_POOL_WORKERS, Config, Pool
from unpd.config.wording import quoted, suggestion
from unpd.kernel import privileges
from unpd.names import MAX_WORKERS


@dataclass(frozen=True, slots=True)
class _Listener:
    """One listen address and the key that asks for it."""

    path: KeyPath
    owner: str
    address: Address
    ipv6_only: bool


def check(config: Config, written_pools: frozenset[str], host: Host, findings: Findings) -> None:
    """Note every error and warning that the keys of ``config`` give together.
    ``written_pools``: the pools that the file itself writes.
    """
    listeners = tuple(_listeners(config))
    if len(listeners) > layout.MAX_LISTENERS:
        findings.error(
            ("services",),
            f"{len(listeners)} listen addresses are configured, those of metrics included, but"
            f" {layout.MAX_LISTENERS} are the most",
        )
    else:
        _check_addresses(listeners, findings)
    _check_paths(config, listeners, findings)
    _check_pools(config, written_pools, findings)
    _check_workers(config, written_pools, host, findings)
    _check_backlogs(config, host, findings)
    if host.accounts:
        _check_accounts(config, findings)


def _check_accounts(config: Config, findings: Findings) -> None:
    daemon = config.daemon
    if not privileges.has_user(daemon.user):
        findings.error(("daemon", "user"), f"there is no user {quoted(daemon.user)} on this system")
    if daemon.group is not None and not privileges.has_group(daemon.group):
        findings.error(
            ("daemon", "group"), f"there is no group {quoted(daemon.group)} on this system"
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
                findings.error(later.path, f"{later.address.text} {clash}")
                break


def _clash(earlier: _Listener, later: _Listener) -> str:
    """Why the two cannot both be bound, or nothing. A port of 0 is another one each
    time.
    """
    here, there = later.address, earlier.address
    if not isinstance(here, TcpAddress) or not isinstance(there, TcpAddress):
        return f"is also an address of {earlier.owner}" if here == there else ""
    if here.port != there.port or here.port == 0:
        return ""
    if here.host == there.host:
        return f"is also an address of {earlier.owner}"
    return _overlap(earlier, later, there, here)


def _overlap(earlier: _Listener, later: _Listener, there: TcpAddress, here: TcpAddress) -> str:
    """Different hosts on one port: the kernel binds the second only if neither takes in
    the other (ip(7), ipv6(7): an IPv6 wildcard takes IPv4 too).
    """
    other = f"overlaps {there.text} of {earlier.owner}"
    if here.is_ipv6 == there.is_ipv6:
        return (
            f"{other}: a wildcard takes in every address of its port"
            if here.is_wildcard or there.is_wildcard
            else ""
        )
    wide = later if here.is_ipv6 else earlier
    if wide.ipv6_only or wide.address != TcpAddress("::", here.port):
        return ""
    remedy = (
        "use another port"
        if wide.owner == "metrics.listen"
        else f"set ipv6_only = true in [{wide.owner.removesuffix('.listen')}] or use another port"
    )
    return f"{other}: [::] takes in IPv4 too; {remedy}"


def _check_paths(config: Config, listeners: tuple[_Listener, ...], findings: Findings) -> None:
    """One file cannot be two of: pid file, control socket, log file, UNIX listener."""
    uses: list[tuple[KeyPath, str]] = [
        (("daemon", "pid_file"), str(config.daemon.pid_file)),
        (("daemon", "control"), str(config.daemon.control)),
    ]
    uses += [(("log", "file"), config.log.file)] if config.log.file else []
    owners: dict[str, str] = {}
    for path, file in uses:
        if file in owners:
            findings.error(path, f"{quoted(file)} is also the path of {owners[file]}")
        owners.setdefault(file, ".".join(str(key) for key in path))
    for listener in listeners:
        if isinstance(listener.address, UnixAddress) and listener.address.path in owners:
            findings.error(
                listener.path,
                f"{quoted(listener.address.path)} is also the path of"
                f" {owners[listener.address.path]}",
            )


def _check_pools(config: Config, written_pools: frozenset[str], findings: Findings) -> None:
    for name, service in config.services.items():
        if service.pool not in config.pools:
            advice = (
                suggestion(service.pool, config.pools)
                or f"; add a table [pools.NAME] or use {quoted(DEFAULT_POOL)}"
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
        count(pool, host.cpus)
        for name, pool in config.pools.items()
        if name in used or name in written_pools
    )
    if total > MAX_WORKERS:
        findings.error(
            ("pools",),
            f"{total} workers are configured over all pools, but {MAX_WORKERS} are the most",
        )


def count(pool: Pool, cpus: int) -> int:
    """How many workers ``pool`` wants where ``cpus`` CPUs can be used; "auto" is one
    for each, up to the most that a pool can have.
    """
    return min(cpus, MAX_POOL_WORKERS) if pool.workers == "auto" else pool.workers


def _check_backlogs(config: Config, host: Host, findings: Findings) -> None:
    for name, service in config.services.items():
        if host.somaxconn is not None and service.backlog > host.somaxconn:
            text = (
                f"{service.backlog} is above net.core.somaxconn: the kernel takes it as"
                f" {host.somaxconn}; raise that with sysctl(8) or lower this"
            )
            findings.warning(("services", name, "backlog"), text)
