"""Checks of the limits of descriptors and of processes. Pure."""

import math
from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.config.checks import wanted_workers
from unpd.config.kernel_limits import short_of_descriptors
from unpd.config.schema import Config
from unpd.names import ChildKind

ALMOST = 0.9
"""The part of a limit from which on it is as good as reached."""


def descriptors(facts: Facts) -> Iterator[Finding]:
    """A worker needs a descriptor, or two, for each connection."""
    if facts.limits is None:
        raise UnknownFactError("the limits of the daemon cannot be read")
    config, most = facts.config, facts.limits.open_files
    listeners = sum(len(service.listen) for service in config.services.values()) + 1
    for short in short_of_descriptors(config, listeners, math.inf if most is None else most):
        key = f"pools.{short.pool}.max_connections_per_worker"
        yield Finding(
            subject=key,
            problem="a worker cannot have all these connections",
            found=f"{most} open files ({facts.limits.source})",
            right=f"{short.needed} or more",
            mend=_raise(facts, "LimitNOFILE", f"ulimit -n {short.needed}", short.needed)
            + f"; or a lower {key}",
        )


def needed_processes(config: Config, cpus: int) -> int:
    """How many processes there may be at a time: the main process, its children twice,
    because old and new ones are there during a reload, and a process for each
    connection of the services that have one.
    """
    services = config.services.values()
    pools = {service.pool for service in services if service.kind is ChildKind.WORKER}
    workers = sum(wanted_workers(config.pools[pool], cpus) for pool in pools)
    others = sum(service.kind is not ChildKind.WORKER for service in services)
    exporter = config.metrics.listen is not None
    sessions = sum(service.max_connections for service in services if service.forks)
    return 1 + 2 * (workers + others + exporter) + sessions


def pids(facts: Facts) -> Iterator[Finding]:
    """The limits of cgroups and of the kernel."""
    if not facts.pids:
        raise UnknownFactError("no limit of processes can be read")
    needed = needed_processes(facts.config, facts.cpus)
    for one in facts.pids:
        if needed > one.limit:
            yield Finding(
                subject=one.where,
                problem="not all processes of this configuration may live at a time",
                found=f"at most {one.limit}",
                right=f"{needed} or more: workers twice for a reload, and a process for each"
                " connection of the services that fork",
                mend=f"{one.key}; or a lower max_connections of these services",
            )
        elif one.current >= ALMOST * one.limit:
            yield Finding(
                subject=one.where,
                problem="hardly one more process may be started",
                found=f"{one.current} of {one.limit}",
                right=f"less than {ALMOST:.0%} of it",
                mend=one.key,
            )


def user_processes(facts: Facts) -> Iterator[Finding]:
    """RLIMIT_NPROC counts all processes of the user; root is exempt (getrlimit(2))."""
    if facts.limits is None:
        raise UnknownFactError("the limits of the daemon cannot be read")
    most = facts.limits.processes
    needed = needed_processes(facts.config, facts.cpus)
    if facts.uid and most is not None and needed > most:
        yield Finding(
            subject="RLIMIT_NPROC",
            problem="not all processes of this configuration may live at a time",
            found=f"{most} processes of the user ({facts.limits.source})",
            right=f"{needed} or more",
            mend=_raise(facts, "LimitNPROC", f"ulimit -u {needed}", needed),
        )


def _raise(facts: Facts, key: str, command: str, needed: int) -> str:
    if facts.unit is None:
        return f"{command} before the start"
    return f"{key}={needed} in [Service] (systemctl edit {facts.unit.name}), then restart unpd"
