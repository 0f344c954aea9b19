"""Starts the servers of the comparison on their processor, waits until they are ready,
and ends them.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks.build import SOURCES, Programs
from tests.benchmarks.configs import (
    CHARGEN_LINES,
    GUARDS,
    XINETD_LINES,
    Place,
    Service,
    changed,
    haproxy_config,
    unpd_config,
    xinetd_config,
)
from tests.benchmarks.machine import Cpus, program
from tests.support import ROOT, procs
from tests.support.waiting import until

START_S = 20.0
STOP_S = 10.0

CTIME_LINE = "%a %b %e %H:%M:%S %Y\r\n"
XINETD_LINE = "%d %^b %Y %H:%M:%S %Z\r\n"
UNPD = "unpd"
GUARDED = "guarded"
"""The same unpd, with access rules and limits."""
OTHER = "other"
"""The unpd of another tree, to measure the effect of a change."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A server: its title in the table, its command line, the form of its daytime
    (strftime), and one period of its chargen. ``sources`` are the source addresses of
    the load. ``forks_in`` names the modes of the generator in which each operation has
    its own process. ``titles``: its titles for services that another process than
    elsewhere accepts.
    """

    title: str
    command: Callable[[Programs, Place], Sequence[str]]
    line: str = CTIME_LINE
    lines: bytes = CHARGEN_LINES
    sources: int = 32
    forks_in: tuple[str, ...] = ()
    titles: Mapping[Service, str] = field(default_factory=dict)

    def line_in(self, service: Service) -> str:
        """The form of its daytime in a row that measures ``service``."""
        return CTIME_LINE if service.starts else self.line

    def title_in(self, service: Service) -> str:
        """Its title in the table of a row that measures ``service``."""
        return self.titles.get(service, self.title)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``target_pid``: the echo behind a relay, on the processor of
    the load; 0 for none.
    """

    kind: Kind
    place: Place
    pid: int
    target_pid: int = 0

    def pids(self) -> list[int]:
        """Return its processes."""
        return [self.pid, *(process.pid for process in procs.descendants(self.pid))]


def _unpd(programs: Programs, place: Place) -> Sequence[str]:
    config = place.directory / "unpd.toml"
    config.write_text(unpd_config(place, workers=1, program=_answer(programs, place)))
    return (sys.executable, "-m", "unpd", "run", "--config", str(config))


def _guarded_unpd(programs: Programs, place: Place) -> Sequence[str]:
    command = _unpd(programs, place)
    with (place.directory / "unpd.toml").open("a") as config:
        config.write(GUARDS)
    return command


def _other_unpd(programs: Programs, place: Place) -> Sequence[str]:
    return ("env", "-C", str(programs.other), *_unpd(programs, place))


def _plain_unpd(programs: Programs, place: Place) -> Sequence[str]:
    _, _, _, *arguments = _unpd(programs, place)
    return (sys.executable, str(SOURCES / "peers" / "plain_unpd.py"), *arguments)


def _xinetd(programs: Programs, place: Place) -> Sequence[str]:
    config = place.directory / "xinetd.conf"
    config.write_text(xinetd_config(place, _answer(programs, place)))
    pid_file = place.directory / "xinetd.pid"
    return (program("xinetd"), "-dontfork", "-f", str(config), "-pidfile", str(pid_file))


def _second(place: Place) -> Sequence[str]:
    """Return the arguments for the second service of a peer: its port and its name."""
    if place.service in (Service.TIME, Service.UDP):
        return (str(place.own), place.service)
    return (str(place.daytime), Service.DAYTIME)


def _asyncio(loop: str) -> Callable[[Programs, Place], Sequence[str]]:
    peer = str(SOURCES / "peers" / "aio.py")
    return lambda _, place: (sys.executable, peer, loop, str(place.echo), *_second(place))


def _epoll(programs: Programs, place: Place) -> Sequence[str]:
    match place.service:
        case Service.UDP:
            return (str(programs.udp), str(place.own))
        case Service.CHARGEN:
            return (str(programs.chargen), str(place.own))
        case _:
            return (str(programs.epoll), str(place.echo), *_second(place))


def _corked(programs: Programs, place: Place) -> Sequence[str]:
    return (str(programs.epoll), str(place.echo), str(place.daytime), "corked")


def _fork(programs: Programs, place: Place) -> Sequence[str]:
    echo = place.own if place.service.forks else place.echo
    return (str(programs.fork), str(echo), *_second(place))


def _haproxy(_: Programs, place: Place) -> Sequence[str]:
    config = place.directory / "haproxy.cfg"
    config.write_text(haproxy_config(place))
    return (program("haproxy"), "-db", "-f", str(config))


def _socat(_: Programs, place: Place) -> Sequence[str]:
    # Its own buffer, 8 KiB, makes bulk three times as slow.
    listen = f"TCP4-LISTEN:{place.own},bind=127.0.0.1,fork,reuseaddr,backlog=4096,nodelay"
    target = f"TCP4:127.0.0.1:{place.target},nodelay"
    return (program("socat"), "-b", str(512 * 1024), listen, target)


def _proxyd(_: Programs, place: Place) -> Sequence[str]:
    # The first takes the place of a socket unit, and becomes the second.
    listen = f"127.0.0.1:{place.own}"
    proxyd = ("/lib/systemd/systemd-socket-proxyd", f"127.0.0.1:{place.target}")
    return (program("systemd-socket-activate"), "-l", listen, *proxyd)


def _pyfork(_: Programs, place: Place) -> Sequence[str]:
    return (sys.executable, str(SOURCES / "peers" / "forking.py"), str(place.own))


def _answer(programs: Programs, place: Place) -> Path:
    """Return the program of the services that start one: a copy where another user has
    to reach it, because the tree may be in a directory that is closed to others.
    """
    if not place.service.changes:
        return programs.answer
    place.directory.chmod(0o711)
    return Path(shutil.copy(programs.answer, place.directory))


def _started(programs: Programs, place: Place) -> Sequence[str]:
    """Return the program for a peer of ours, and what it changes in its process."""
    words = [str(word) for item in changed().items() for word in item]
    return (str(_answer(programs, place)), *(words if place.service.changes else ()))


def _execing(programs: Programs, place: Place) -> Sequence[str]:
    return (str(programs.execing), str(place.own), *_started(programs, place))


def _pyexecing(programs: Programs, place: Place) -> Sequence[str]:
    peer = str(SOURCES / "peers" / "execing.py")
    return (sys.executable, peer, str(place.own), *_started(programs, place))


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        UNPD: Kind(
            "unpd, one worker",
            _unpd,
            titles={
                Service.FORKED: "unpd, a dispatcher",
                Service.FUNCTION: "unpd, a python dispatcher",
                Service.PROGRAM: "unpd, a launcher",
                Service.PROGRAM_USER: "unpd, a launcher",
            },
        ),
        OTHER: Kind("the other unpd", _other_unpd),
        GUARDED: Kind("unpd, with access rules", _guarded_unpd),
        "plain": Kind("unpd, a datagram a call", _plain_unpd),
        "epoll": Kind("C, epoll", _epoll),
        "corked": Kind("C, epoll, corked", _corked),
        "uvloop": Kind("uvloop", _asyncio("uvloop")),
        "go": Kind(
            "Go, net", lambda programs, place: (str(programs.go), str(place.echo), *_second(place))
        ),
        "splice": Kind(
            "C, splice", lambda programs, place: (str(programs.splice), str(place.echo))
        ),
        "asyncio": Kind("asyncio", _asyncio("asyncio")),
        "xinetd": Kind(
            "xinetd, internal",
            _xinetd,
            titles={Service.PROGRAM: "xinetd", Service.PROGRAM_USER: "xinetd"},
            line=XINETD_LINE,
            lines=XINETD_LINES,
            sources=1,
            forks_in=("turnover",),
        ),
        "fork": Kind("C, a fork per client", _fork, forks_in=("turnover", "daytime", "time")),
        "haproxy": Kind("HAProxy, mode tcp", _haproxy),
        "socat": Kind("socat, a fork per client", _socat),
        "proxyd": Kind("systemd-socket-proxyd", _proxyd),
        "pyfork": Kind("Python, a fork per client", _pyfork, forks_in=("turnover",)),
        "exec": Kind("C, fork and exec", _execing),
        "pyexec": Kind("Python, fork and exec", _pyexecing),
    }
)


def with_us(*command: str) -> list[str]:
    """Return the command with a prefix that kills the process when this one is gone,
    however it ends (PR_SET_PDEATHSIG), so that no server runs beside the next
    measurement.
    """
    return ["setpriv", "--pdeathsig", "KILL", *command]


def environment() -> dict[str, str]:
    """Return our environment without variables that change an interpreter.
    PYTHONDONTWRITEBYTECODE, which many build machines set, makes every start compile
    again what an installed unpd has compiled.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@contextlib.contextmanager
def place(service: Service = Service.ECHO) -> Iterator[Place]:
    """Return five free ports and a directory, to measure ``service``."""
    with tempfile.TemporaryDirectory(prefix="unpd-bench-") as directory:
        echo, daytime, metrics, own, target = _free_ports(5)
        yield Place(echo, daytime, metrics, own, service, Path(directory), target)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def _target(programs: Programs, place: Place, cpu: int) -> Iterator[int]:
    """Start the echo behind a relay, if one is measured. Yield its pid, or 0."""
    if place.service is not Service.REDIRECT:
        yield 0
        return
    (unused,) = _free_ports(1)
    command = (str(programs.epoll), str(place.target), str(unused), Service.DAYTIME)
    process = subprocess.Popen(
        with_us("taskset", "-c", str(cpu), *command), stdin=subprocess.DEVNULL
    )
    try:
        until(lambda: _listens(place.target), START_S, "the echo behind a relay does not listen")
        yield process.pid
    finally:
        end(process)


@contextlib.contextmanager
def running(
    kind: Kind, programs: Programs, cpus: Cpus, service: Service = Service.ECHO
) -> Iterator[Server]:
    """Start a server of ``kind`` on its processor, to measure ``service``.
    AssertionError with its output if it does not become ready. All its processes are
    gone at the end of the block.
    """
    with place(service) as where, _target(programs, where, cpus.load) as target_pid:
        said = where.directory / "said"
        command = with_us("taskset", "-c", str(cpus.server), *kind.command(programs, where))
        with said.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd=ROOT,
                env=environment(),
            )
        server = Server(kind, where, process.pid, target_pid)
        try:
            until(
                lambda: _ready(server, process, said),
                START_S,
                lambda: (
                    f"{kind.title} does not listen; it"
                    f" said:\n{said.read_text(errors='replace')[-2000:]}"
                ),
            )
            yield server
        finally:
            end(process)


def _ready(server: Server, process: "subprocess.Popen[bytes]", said: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(
            f"{server.kind.title} ended with"
            f" {process.returncode}:\n{said.read_text(errors='replace')[-2000:]}"
        )
    if server.kind in (KINDS[UNPD], KINDS[GUARDED], KINDS[OTHER]):
        return "master.ready" in said.read_text(errors="replace")
    is_open = _answers if server.place.service is Service.UDP else _listens
    return is_open(server.place.port)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    """Whether a datagram comes back. A port without a server refuses it (ICMP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.1)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(b"are you there?")
            return bool(sock.recv(64))
        except OSError:
            return False


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a server to end, and kill what is left of it."""
    if (root := procs.stat(process.pid)) is None:
        return
    family = [root, *procs.descendants(process.pid)]
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    procs.kill_and_reap(family)
    process.poll()
