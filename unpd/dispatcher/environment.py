"""The environment of a program: what it learns about its connection.

The names are those of xinetd (REMOTE_HOST), and those of UCSPI over TCP and over UNIX
sockets, as in s6-networking and ucspi-unix. Called by :mod:`unpd.dispatcher.programs`
for each connection. Owns nothing. Raises nothing: what the kernel does not tell is left
out.
"""

import os
from collections.abc import Iterable, Mapping
from socket import AF_UNIX, SOCK_STREAM, socket

from unpd.kernel.connections import borrowed, host_and_port
from unpd.kernel.credentials import peer_credentials

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def of_service(given: Mapping[str, str], passed: Iterable[str]) -> dict[str, str]:
    """The variables that all programs of a service have: PATH, those of the daemon that
    are to be passed on, and those that the configuration gives.
    """
    from_daemon = {name: os.environ[name] for name in passed if name in os.environ}
    return {"PATH": PATH, **from_daemon, **given}


def of_connection(fd: int, peer: bytes, number: int, *, tells_user: bool) -> dict[str, str]:
    """The variables about one connection. ``peer``: a sockaddr. ``number``: how many
    connections the client has, this one included. ``tells_user``: the user of a UNIX
    connection is that of the client, and not of a load balancer.
    """
    remote = host_and_port(peer)
    if remote is None:
        about_peer = _of_unix_peer(fd) if tells_user else {}
        return {"PROTO": "UNIX", "UNIXCONNNUM": str(number), **about_peer}
    host, port = remote
    return {
        "PROTO": "TCP",
        "REMOTE_HOST": host,
        "REMOTE_PORT": str(port),
        "TCPREMOTEIP": host,
        "TCPREMOTEPORT": str(port),
        "TCPCONNNUM": str(number),
        **_of_local_address(fd),
    }


def of_socket(fd: int) -> dict[str, str]:
    """The variables about a socket from which the program itself takes the clients."""
    try:
        with borrowed(fd) as sock:
            if sock.family == AF_UNIX:
                return {"PROTO": "UNIX", **_unix_path(sock)}
            proto = "TCP" if sock.type == SOCK_STREAM else "UDP"
            host, port = sock.getsockname()[:2]
    except OSError:
        return {}
    return {
        "PROTO": proto,
        "SERVER_PORT": str(port),
        f"{proto}LOCALIP": _plain(host),
        f"{proto}LOCALPORT": str(port),
    }


def _plain(host: str) -> str:
    """An address of IPv4 as such."""
    return host.removeprefix("::ffff:") if "." in host else host


def _unix_path(sock: socket) -> dict[str, str]:
    path = sock.getsockname()
    return {"UNIXLOCALPATH": path} if isinstance(path, str) and path else {}


def _of_local_address(fd: int) -> dict[str, str]:
    try:
        with borrowed(fd) as sock:
            if sock.family == AF_UNIX:  # a load balancer brought the client through it
                return {}
            host, port = sock.getsockname()[:2]
    except OSError:
        return {}
    return {
        "SERVER_PORT": str(port),
        "TCPLOCALIP": _plain(host),
        "TCPLOCALPORT": str(port),
    }


def _of_unix_peer(fd: int) -> dict[str, str]:
    """The path of our socket, and the effective ids that the client had when it
    connected.
    """
    try:
        with borrowed(fd) as sock:
            local = _unix_path(sock)
            peer = peer_credentials(sock)
    except OSError:
        return {}
    return {
        **local,
        "UNIXREMOTEPID": str(peer.pid),
        "UNIXREMOTEUID": str(peer.uid),
        "UNIXREMOTEGID": str(peer.gid),
        "UNIXREMOTEEUID": str(peer.uid),
        "UNIXREMOTEEGID": str(peer.gid),
    }


def encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    """The variables as execve(2) takes them."""
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
