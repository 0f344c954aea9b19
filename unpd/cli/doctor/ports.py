"""Checks of the addresses on which unpd listens, or would. Pure."""

from collections.abc import Iterator

from unpd.cli.doctor.facts import Facts, Holder, Unit, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.cli.doctor.queues import KEEP, address_of
from unpd.config.addresses import TcpAddress, UdpAddress
from unpd.config.schema import Config
from unpd.kernel.socket_diag import BoundSocket
from unpd.kernel.sockets import ListenOptions
from unpd.master.listening.conflicts import overlaps
from unpd.master.listening.listener import WantedListener
from unpd.names import MASTER_TITLE
from unpd.wording import counted

RESERVED = "net.ipv4.ip_local_reserved_ports"
RANGE = "net.ipv4.ip_local_port_range"
INIT = 1


def wanted(config: Config) -> Iterator[tuple[str, TcpAddress | UdpAddress, bool]]:
    """Each Internet address with its key, and whether it is of IPv6 alone."""
    for name, service in config.services.items():
        for address in service.listen:
            if isinstance(address, TcpAddress | UdpAddress):
                yield f"services.{name}.listen", address, service.ipv6_only
    if isinstance(config.metrics.listen, TcpAddress):
        yield "metrics.listen", config.metrics.listen, False


def taken(facts: Facts) -> Iterator[Finding]:
    """The addresses that another process holds, so that a start or a reload fails, or
    goes on without the metrics where ``metrics.required`` is false.
    UnknownFactError if nobody knows which ones the daemon itself holds.
    """
    daemon = facts.asked_daemon
    own = daemon.listeners if daemon else {}
    for key, address, ipv6_only in wanted(facts.config):
        if address.text in own:
            continue
        options = ListenOptions(
            backlog=1, ipv6_only=ipv6_only, keepalive=False, user_timeout_s=0.0, mode=0
        )
        listener = WantedListener(address.text, key, address, options)
        for sock in facts.open_sockets:
            if address_of(sock).text in own:
                continue
            if overlaps(address_of(sock), listener, ipv6_only=sock.ipv6_only):
                yield from _held(facts, key, address.text, sock)
                break


def _held(facts: Facts, key: str, wanted: str, sock: BoundSocket) -> Iterator[Finding]:
    """The address ``wanted`` is that of a socket that is not the daemon's. Only where
    its process is known, and is no unpd, it is certain that a start fails.
    """
    holder, daemon = facts.holder(sock.inode), facts.daemon
    if daemon and (sock.inode in daemon.inodes or (holder and holder.pid == daemon.pid)):
        return
    unit = facts.unit
    is_stored = bool(unit and unit.stored and holder and holder.pid == INIT)
    problem, mend = _about_stored(unit) if unit and is_stored else _about(holder)
    yield Finding(
        subject=key,
        problem=problem.format(wanted=wanted),
        found=f"{address_of(sock).text} of {holder or 'a process that this user cannot see'}",
        right="a free address",
        mend=mend.format(key=key),
        note=holder is None or holder.title.startswith(MASTER_TITLE) or is_stored,
    )


def _about_stored(unit: Unit) -> tuple[str, str]:
    """The same, where systemd keeps the sockets of a daemon that is to start again."""
    problem = (
        f"process 1 holds {{wanted}}, most likely for the next start of {unit.name}, whose"
        f" {counted(unit.stored, 'descriptor')} it keeps"
    )
    mend = (
        f"journalctl -u {unit.name} has the reason of the last end; if a socket unit has the"
        " address (systemctl list-sockets), let {key} name it (systemd:NAME)"
    )
    return problem, mend


def _about(holder: Holder | None) -> tuple[str, str]:
    """The problem, and what mends it."""
    if holder is None:
        return (
            "a process that is not known holds {wanted}",
            "ask as root, and outside of the container, which one it is: ss -lptun",
        )
    if holder.title.startswith(MASTER_TITLE):
        return (
            "an unpd with another control socket holds {wanted}",
            "name that daemon with --control or --config, or another port in {key}",
        )
    if holder.pid == INIT:
        return (
            "process 1 holds {wanted}, as systemd does for a socket unit",
            "let {key} name the socket unit (systemd:NAME), or stop it: systemctl list-sockets",
        )
    return "another process holds {wanted}", "end that process, or another port in {key}"


def ephemeral(facts: Facts) -> Iterator[Finding]:
    """The kernel gives these ports to outgoing connections, so that a start may find
    one in use.
    """
    try:
        first, last = map(int, facts.sysctl[RANGE].split())
    except (KeyError, ValueError):
        raise UnknownFactError(f"{RANGE} cannot be read") from None
    reserved = _ports(facts.sysctl.get(RESERVED, ""))
    found: dict[int, str] = {}
    for key, address, _ in wanted(facts.config):
        if first <= address.port <= last and address.port not in reserved:
            found.setdefault(address.port, key)
    for port, key in found.items():
        ports = ",".join(map(str, sorted({*reserved, *found})))
        yield Finding(
            subject=key,
            problem=f"the kernel may give port {port} to an outgoing connection",
            found=f"port {port}, {RANGE} {first} to {last}",
            right="a port outside of that range, or a reserved one",
            mend=f"sysctl -w {RESERVED}={ports}, {KEEP}",
        )


def _ports(text: str) -> set[int]:
    """The ports of a list such as "8080,9000-9005"."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def ipv6(facts: Facts) -> Iterator[Finding]:
    """Addresses of IPv6 on a host that has it switched off."""
    if facts.sysctl.get("net.ipv6.conf.all.disable_ipv6") == "0":
        return
    state = facts.sysctl.get("net.ipv6.conf.all.disable_ipv6")
    for key, address, ipv6_only in wanted(facts.config):
        if not address.is_ipv6 or address.host == "::1":
            continue
        falls_back = address.is_wildcard and not ipv6_only
        yield Finding(
            subject=key,
            problem=f"this host has no IPv6, so no client reaches {address.text} by it",
            found="no IPv6 in this kernel" if state is None else f"disable_ipv6 = {state}",
            right="IPv6, or addresses of IPv4",
            mend=(
                "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or"
                f" {address.scheme}://0.0.0.0:{address.port} in {key}"
            ),
            note=falls_back,
        )
