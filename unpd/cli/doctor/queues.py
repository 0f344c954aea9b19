"""Checks of the queues in which clients and datagrams wait. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts
from unpd.cli.doctor.finding import Finding
from unpd.config.addresses import TcpAddress, UdpAddress
from unpd.config.kernel_limits import cut_backlogs
from unpd.kernel.socket_diag import BoundSocket

KEEP = "and a line in /etc/sysctl.d to keep it"
_LARGER = "a larger backlog of the service and net.core.somaxconn, or more workers in its pool"


def backlogs(facts: Facts) -> Iterator[Finding]:
    """The kernel cuts a backlog without a word (listen(2))."""
    somaxconn = facts.number("net.core.somaxconn")
    for name, backlog in cut_backlogs(facts.config, somaxconn):
        yield Finding(
            subject=f"services.{name}.backlog",
            problem="the kernel cuts this accept queue",
            found=f"backlog {backlog}, net.core.somaxconn {somaxconn}",
            right=f"net.core.somaxconn of {backlog} or more",
            mend=f"sysctl -w net.core.somaxconn={backlog}, {KEEP}, then restart unpd",
        )


def address_of(sock: BoundSocket) -> TcpAddress | UdpAddress:
    """The address of a socket, as a configuration has it."""
    kind = TcpAddress if sock.transport == "tcp" else UdpAddress
    return kind(sock.host, sock.port)


def own_sockets(facts: Facts) -> Iterator[tuple[str, BoundSocket]]:
    """The sockets of the daemon that runs, with their addresses."""
    if facts.daemon is None:
        return
    for sock in facts.open_sockets:
        text, inodes = address_of(sock).text, facts.daemon.inodes
        if text in facts.daemon.listeners and (not inodes or sock.inode in inodes):
            yield text, sock


def losses(facts: Facts) -> Iterator[Finding]:
    """Clients that the kernel has turned away: those of the daemon's own listeners; of
    the whole host only for information, because these counts never fall.
    """
    overflows, drops = facts.losses or (0, 0)
    since_boot = f"on this host since its boot: ListenOverflows {overflows}, ListenDrops {drops}"
    for text, sock in own_sockets(facts):
        if sock.transport == "tcp" and sock.drops:
            yield Finding(
                subject=text,
                problem="the kernel has dropped clients of this listener",
                found=f"{sock.drops} since it was opened; {since_boot}",
                right="0",
                mend=_LARGER,
            )
    if facts.daemon is None and overflows:
        yield Finding(
            subject="TcpExt of /proc/net/netstat",
            problem="accept queues on this host were full",
            found=since_boot,
            right="counts that do not grow",
            mend=f"if they are unpd's: {_LARGER}",
            note=True,
        )


def full_queues(facts: Facts) -> Iterator[Finding]:
    """The accept queues that have no room now."""
    for text, sock in own_sockets(facts):
        if sock.transport == "tcp" and 0 < sock.limit <= sock.queued:
            yield Finding(
                subject=text,
                problem="its accept queue is full, so the kernel turns clients away",
                found=f"{sock.queued} wait, {sock.limit} may",
                right="fewer than half of the limit",
                mend=_LARGER,
            )


def lost_datagrams(facts: Facts) -> Iterator[Finding]:
    """Datagrams that found no room in the buffer of their socket."""
    for text, sock in own_sockets(facts):
        if sock.transport == "udp" and sock.drops:
            size = facts.sysctl.get("net.core.rmem_default", "unknown")
            yield Finding(
                subject=text,
                problem="the kernel has dropped datagrams of this socket",
                found=f"{sock.drops} since it was opened, net.core.rmem_default {size}",
                right="0",
                mend=(
                    f"a larger net.core.rmem_default with sysctl -w, {KEEP}, then restart unpd; or"
                    " more workers in the pool"
                ),
            )
