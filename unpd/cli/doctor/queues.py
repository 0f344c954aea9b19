"""Checks of the queues in which clients and datagrams wait. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import SPAN_S, Facts, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.config.addresses import TcpAddress, UdpAddress
from unpd.config.kernel_limits import cut_backlogs
from unpd.kernel.socket_diag import BoundSocket

KEEP = "and a line in /etc/sysctl.d to keep it"
_LARGER = "a larger backlog of the service and net.core.somaxconn, or more workers in its pool"


def backlogs(facts: Facts) -> Iterator[Finding]:
    """The kernel cuts a backlog without a word (listen(2)), to what somaxconn was when
    the listener was opened or last tuned.
    """
    somaxconn = facts.number("net.core.somaxconn")
    for name, backlog in cut_backlogs(facts.config, somaxconn):
        yield Finding(
            subject=f"services.{name}.backlog",
            problem="the kernel cuts this accept queue",
            found=f"backlog {backlog}, net.core.somaxconn {somaxconn}",
            right=f"net.core.somaxconn of {backlog} or more",
            mend=f"sysctl -w net.core.somaxconn={backlog}, {KEEP}, then restart unpd",
        )
    yield from _short_queues(facts, somaxconn)


def _short_queues(facts: Facts, somaxconn: int) -> Iterator[Finding]:
    """The open listeners with less room than the file and the kernel give now."""
    for text, sock in own_sockets(facts):
        service = facts.config.services.get(facts.daemon.listeners[text] if facts.daemon else "")
        if sock.transport != "tcp" or service is None:
            continue
        wanted = min(service.backlog, somaxconn)
        if 0 < sock.limit < wanted:
            yield Finding(
                subject=text,
                problem="its accept queue is shorter than the configuration and the kernel allow",
                found=f"limit {sock.limit}, backlog {service.backlog}, net.core.somaxconn"
                f" {somaxconn}",
                right=f"{wanted}",
                mend="unpd reload if the file has changed since the last one, else restart unpd",
            )


def address_of(sock: BoundSocket) -> TcpAddress | UdpAddress:
    """The address of a socket, as a configuration has it."""
    kind = TcpAddress if sock.transport == "tcp" else UdpAddress
    return kind(sock.host, sock.port)


def own_sockets(facts: Facts) -> Iterator[tuple[str, BoundSocket]]:
    """The sockets of the daemon that runs, with their addresses. UnknownFactError if
    nobody knows whether one runs.
    """
    daemon = facts.asked_daemon
    if daemon is None:
        return
    for sock in facts.open_sockets:
        text = address_of(sock).text
        if text in daemon.listeners and (not daemon.inodes or sock.inode in daemon.inodes):
            yield text, sock


def _dropped(facts: Facts, sock: BoundSocket) -> tuple[str, bool]:
    """The drops of a socket in words, and whether they are only old ones: the kernel
    counts them since the socket was opened, and the count never falls.
    """
    new = sock.drops - facts.drops_before.get(sock.inode, sock.drops)
    return f"{sock.drops} since it was opened, {new} within {SPAN_S:g} s", not new


def losses(facts: Facts) -> Iterator[Finding]:
    """Clients that the kernel turns away: those of the daemon's own listeners; of the
    whole host, and of earlier times, only for information.
    """
    own_drops = 0
    for text, sock in own_sockets(facts):
        if sock.transport == "tcp" and sock.drops:
            own_drops += sock.drops
            found, are_old = _dropped(facts, sock)
            yield Finding(
                subject=text,
                problem="the kernel has dropped clients of this listener",
                found=found,
                right="a count that does not grow",
                mend=_LARGER,
                note=are_old,
            )
    if facts.losses is None:
        raise UnknownFactError("/proc/self/net/netstat cannot be read")
    overflows, drops = facts.losses
    if overflows or drops:
        own = f"; at the open listeners of unpd: {own_drops}" if facts.daemon else ""
        yield Finding(
            subject="TcpExt of /proc/net/netstat",
            problem="the kernel has dropped clients of listeners on this host",
            found=f"since its boot: ListenOverflows {overflows}, ListenDrops {drops}{own}",
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
            found, are_old = _dropped(facts, sock)
            yield Finding(
                subject=text,
                problem="the kernel has dropped datagrams of this socket",
                found=f"{found}, net.core.rmem_default {size}",
                right="a count that does not grow",
                mend=(
                    f"a larger net.core.rmem_default with sysctl -w, {KEEP}, then restart unpd; or"
                    " more workers in the pool"
                ),
                note=are_old,
            )
