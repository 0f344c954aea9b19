"""Owns what a server is asked to serve: the services of the benchmark, the ports, the
configuration files of unpd and xinetd, and the lines of a character generator.
"""

import getpass
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.support.manual import example

_PRINTING = bytes(range(0x20, 0x7F))
_LINE_CHARACTERS = 72
PEERS = Path(__file__).parent / "peers"
DENIED = 1000
"""How many entries the list of denied addresses has."""
PROGRAM_USER = "daemon"
"""A user that every system has, and that unpd itself does not become."""


class Service(StrEnum):
    """The service that a row asks. FORKED is echo with a process for each client,
    FUNCTION the same by a Python function, UDP is echo of datagrams. REDIRECT leads to
    an echo of another program, and PROGRAM starts peers/answer.c for each client.
    PROGRAM_USER starts it as another user, or, where we are not root, nicer.
    """

    ECHO = "echo"
    DAYTIME = "daytime"
    TIME = "time"
    CHARGEN = "chargen"
    FORKED = "forked"
    FUNCTION = "function"
    UDP = "udp"
    REDIRECT = "redirect"
    PROGRAM = "program"
    PROGRAM_USER = "program-user"

    @property
    def forks(self) -> bool:
        """Whether each client has a process."""
        return self.starts or self in (Service.FORKED, Service.FUNCTION)

    @property
    def starts(self) -> bool:
        """Whether each client has a program."""
        return self in (Service.PROGRAM, Service.PROGRAM_USER)

    @property
    def changes(self) -> bool:
        """Whether that program runs otherwise than its server."""
        return self is Service.PROGRAM_USER


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens on 127.0.0.1, and a directory for its files. All servers
    have echo and daytime if they can. ``own`` is the port of ``service`` if that is
    another one. ``target``: where the echo behind a REDIRECT listens.
    """

    echo: int
    daytime: int
    metrics: int
    own: int
    service: Service
    directory: Path
    target: int = 0

    @property
    def port(self) -> int:
        """The port of the service that is measured."""
        match self.service:
            case Service.ECHO:
                return self.echo
            case Service.DAYTIME:
                return self.daytime
            case _:
                return self.own


def unpd_config(place: Place, workers: int, program: Path | None = None) -> str:
    """Return the delivered configuration of unpd, with metrics, deadlines, limits and
    back-pressure, and the service that is measured. Only addresses and paths are
    changed, and the limit is 10,001 connections. ``program``: what the services PROGRAM
    and PROGRAM_USER start.

    All clients are in one source network, so that both rates are 0 for UDP: by
    default a network gets 1,000 answers a second.
    """
    return f"""
[daemon]
user = "{"nobody" if os.geteuid() == 0 else getpass.getuser()}"
pid_file = "{place.directory}/unpd.pid"
control = "{place.directory}/control.sock"

[metrics]
listen = "tcp://127.0.0.1:{place.metrics}"

[pools.default]
workers = {workers}
max_connections_per_worker = 20000

[services.echo]
listen = ["tcp://127.0.0.1:{place.echo}"]

[services.daytime]
listen = ["tcp://127.0.0.1:{place.daytime}"]
{_own_service(place, program)}"""


GUARDS = (
    "\n[defaults]\n"
    "deny = ["
    + ", ".join(f'"198.18.{n // 250}.{n % 250}"' for n in range(DENIED))
    + "]\n"
    + 'allow = ["private", "loopback"]\n'
    "max_per_source = 20000\n"
    'accept_rate = "1000000/s"\naccept_rate_per_source = "1000000/s"\n'
)
"""Access rules and limits for all services, which refuse no client of the benchmark."""


def _own_service(place: Place, program: Path | None) -> str:
    stream = f'listen = ["tcp://127.0.0.1:{place.own}"]\n'
    match place.service:
        case Service.TIME | Service.CHARGEN:
            return f"\n[services.{place.service}]\n{stream}"
        case Service.FORKED:
            return f'\n[services.forked]\ntype = "echo"\nmodel = "fork"\n{stream}'
        case Service.REDIRECT:
            to = f'to = ["tcp://127.0.0.1:{place.target}"]\n'
            return f'\n[services.relay]\ntype = "redirect"\n{stream}{to}'
        case Service.FUNCTION:
            return (
                f'\n[services.function]\ntype = "python"\nhandler = "forking:echo"\n'
                f'path = ["{PEERS}"]\n{stream}'
            )
        case Service.PROGRAM | Service.PROGRAM_USER:
            text = f'\n[services.program]\ntype = "exec"\ncommand = ["{program}"]\n{stream}'
            return text + (_changed_keys() if place.service.changes else "")
        case Service.UDP:
            return (
                f'\n[services.datagrams]\ntype = "echo"\nlisten = ["udp://127.0.0.1:{place.own}"]\n'
                "datagram_rate = 0\ndatagram_total_rate = 0\n"
            )
        case _:
            return ""


def changed() -> Mapping[str, str | int]:
    """Return the key that PROGRAM_USER has beside those of PROGRAM, with its value:
    unpd, xinetd and the other peers name it alike. posix_spawn(3) cannot do it.
    """
    return {"user": PROGRAM_USER} if os.geteuid() == 0 else {"nice": 1}


def _changed_keys() -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in changed().items())


def haproxy_config(place: Place) -> str:
    """Return a configuration of HAProxy with one thread, that relays as a redirect
    does. Its own buffer, 16 KiB, makes bulk three times as slow, and ``option
    splice-auto`` twice and a half.
    """
    return f"""
global
    nbthread 1
    tune.bufsize 524288
    maxconn 4000
{_HAPROXY_DEFAULTS}
listen relay
    bind 127.0.0.1:{place.own} backlog 4096
    server target 127.0.0.1:{place.target}
"""


_HAPROXY_DEFAULTS = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 600s
    timeout server 600s
"""


def balancer_config(place: Place, targets: Sequence[Place]) -> str:
    """Return a configuration of HAProxy with one thread before several unpd. The
    defaults and the settings of the backend are those that unpd(8) prints: each unpd
    learns the client and is checked, and a client goes to the one with the fewest.
    """
    _, defaults, backend, _ = example("unpd.8", "global\n").split("\n\n")
    settings, _, _ = backend.partition("    server ")
    servers = "".join(
        f"    server unpd{number} 127.0.0.1:{target.echo} port {target.metrics}\n"
        for number, target in enumerate(targets, 1)
    )
    return f"""
global
    nbthread 1
    maxconn 4000

{defaults}

{settings}{servers}
frontend balanced
    bind 127.0.0.1:{place.own} backlog 4096
    default_backend unpd
"""


def xinetd_config(place: Place, program: Path) -> str:
    """Return xinetd's configuration: its internal services, or the one that starts a
    ``program``, without limits, TCP wrappers and Nagle's algorithm. Where it forks it
    still looks up the client's name: 127.0.0.1 is in /etc/hosts, other addresses would
    be asked of a name server.

    ``wait = no`` also for datagrams: with ``yes`` every second one is lost.
    """
    if place.service.starts:
        return _XINETD_DEFAULTS + _xinetd_program(program, place)
    services = [("echo", "stream", place.echo), ("daytime", "stream", place.daytime)]
    match place.service:
        case Service.TIME | Service.CHARGEN:
            services.append((place.service.value, "stream", place.own))
        case Service.FORKED | Service.FUNCTION:
            services = [("echo", "stream", place.own)]
        case Service.UDP:
            services.append(("echo", "dgram", place.own))
        case _:
            pass
    return _XINETD_DEFAULTS + "".join(_xinetd_service(*service) for service in services)


_XINETD_DEFAULTS = (
    "defaults\n{\ninstances = UNLIMITED\nper_source = UNLIMITED\ncps = 1000000 1\n"
    "log_type = FILE /dev/null\n}\n"
)


def _xinetd_program(program: Path, place: Place) -> str:
    keys: dict[str, str | int] = {"user": getpass.getuser()}
    keys |= changed() if place.service.changes else {}
    return (
        f"service program\n{{\ntype = UNLISTED\nsocket_type = stream\nprotocol = tcp\nwait = no\n"
        f"bind = 127.0.0.1\nport = {place.own}\nflags = NODELAY NOLIBWRAP\n"
        + "".join(f"{key} = {value}\n" for key, value in keys.items())
        + f"server = {program}\n}}\n"
    )


def _xinetd_service(name: str, kind: str, port: int) -> str:
    protocol, flags = ("tcp", "NODELAY NOLIBWRAP") if kind == "stream" else ("udp", "NOLIBWRAP")
    return (
        f"service {name}\n{{\nid = {name}-{kind}\ntype = INTERNAL UNLISTED\nsocket_type = {kind}\n"
        f"protocol = {protocol}\nwait = no\nbind = 127.0.0.1\nport = {port}\nflags = {flags}\n"
        f"user = {getpass.getuser()}\n}}\n"
    )


def _chargen_lines(characters: bytes, firsts: Iterable[int]) -> bytes:
    """Return one period of lines over a ring of ``characters``, each of which begins
    with the character of this number.
    """
    ring = characters * 2
    return b"".join(ring[first : first + _LINE_CHARACTERS] + b"\r\n" for first in firsts)


CHARGEN_LINES = _chargen_lines(_PRINTING, range(len(_PRINTING)))
"""As RFC 864 prints them."""
XINETD_LINES = _chargen_lines(_PRINTING[1:-1], (*range(93), 0, 1))
"""xinetd leaves out the space and the tilde, and repeats its first two lines."""
