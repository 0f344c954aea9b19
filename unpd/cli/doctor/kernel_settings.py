"""Checks of other settings of the kernel. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.cli.doctor.limits import ALMOST
from unpd.cli.doctor.queues import KEEP

_COUNT, _MOST = "net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max"
NEVER_OVERCOMMIT = 2


def conntrack(facts: Facts) -> Iterator[Finding]:
    """Without room in the table, the packet filter drops the packets of new clients."""
    if _MOST not in facts.sysctl:
        return  # no packet filter follows connections here
    count, most = facts.number(_COUNT), facts.number(_MOST)
    if count >= ALMOST * most:
        yield Finding(
            subject=_MOST,
            problem="the table of connections is full, and the kernel drops packets of new clients",
            found=f"{count} of {most}",
            right=f"less than {ALMOST:.0%} of it",
            mend=f"sysctl -w {_MOST}={2 * most}, {KEEP}",
        )


def overcommit(facts: Facts) -> Iterator[Finding]:
    """With strict accounting a fork may fail though memory is free (proc(5))."""
    if facts.number("vm.overcommit_memory") != NEVER_OVERCOMMIT:
        return
    limit, used = facts.memory.get("CommitLimit"), facts.memory.get("Committed_AS")
    if limit is None or used is None:
        raise UnknownFactError("/proc/meminfo cannot be read")
    yield Finding(
        subject="vm.overcommit_memory",
        problem="the kernel may refuse a new worker although memory is free",
        found=f"vm.overcommit_memory 2, {used // 1024} of {limit // 1024} MiB committed",
        right=f"0, or less than {ALMOST:.0%} of the limit committed",
        mend=f"sysctl -w vm.overcommit_memory=0, or a larger vm.overcommit_ratio, {KEEP}",
        note=used < ALMOST * limit,
    )


def abort_on_overflow(facts: Facts) -> Iterator[Finding]:
    """With this setting a client gets a reset where it would have waited (tcp(7))."""
    if facts.number("net.ipv4.tcp_abort_on_overflow"):
        yield Finding(
            subject="net.ipv4.tcp_abort_on_overflow",
            problem="clients get a reset when an accept queue is full, and do not try again",
            found="1",
            right="0",
            mend=f"sysctl -w net.ipv4.tcp_abort_on_overflow=0, {KEEP}",
        )
