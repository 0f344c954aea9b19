"""Starts the servers of the comparison on their processor, waits until they are ready,
and ends them.
"""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.benchmarks.build import SOURCES, Programs
from tests.benchmarks.machine import program
from tests.support import ROOT, procs
from tests.support.waiting import until

START_S = 20.0
STOP_S = 10.0

CTIME_LINE = "%a %b %e %H:%M:%S %Y\r\n"
XINETD_LINE = "%d %^b %Y %H:%M:%S %Z\r\n"
UNPD = "unpd"
OTHER = "other"
"""The unpd of another tree, to measure the effect of a change."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens on 127.0.0.1, and a directory for its files."""

    echo: int
    daytime: int
    metrics: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Kind:
    """A server: its title in the table, its command line, and the form of its daytime
    (strftime). ``sources`` are the source addresses of the load. ``forks_in`` names the
    modes of the generator in which each operation has its own process.
    """

    title: str
    command: Callable[[Programs, Place], Sequence[str]]
    line: str = CTIME_LINE
    has_daytime: bool = True
    sources: int = 32
    forks_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    kind: Kind
    place: Place
    pid: int

    def pids(self) -> list[int]:
        """Return its processes."""
        return [self.pid, *(process.pid for process in procs.descendants(self.pid))]


def unpd_config(place: Place, workers: int) -> str:
    """Return the delivered configuration of unpd, with metrics, deadlines, limits and
    back-pressure. Only addresses and paths are changed, and the limit is 10,001
    connections.
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
"""


def _unpd(_: Programs, place: Place) -> Sequence[str]:
    config = place.directory / "unpd.toml"
    config.write_text(unpd_config(place, workers=1))
    return (sys.executable, "-m", "unpd", "run", "--config", str(config))


def _other_unpd(programs: Programs, place: Place) -> Sequence[str]:
    return ("env", "-C", str(programs.other), *_unpd(programs, place))


def _xinetd(_: Programs, place: Place) -> Sequence[str]:
    """Return xinetd's configuration: its internal services without limits, TCP wrappers
    and Nagle's algorithm. Where it forks it still looks up the client's name: 127.0.0.1
    is in /etc/hosts, other addresses would be asked of a name server.
    """
    common = (
        "type = INTERNAL UNLISTED\nsocket_type = stream\nprotocol = tcp\nwait = no\nbind ="
        f" 127.0.0.1\nflags = NODELAY NOLIBWRAP\nuser = {getpass.getuser()}"
    )
    config = place.directory / "xinetd.conf"
    config.write_text(
        "defaults\n{\ninstances = UNLIMITED\nper_source = UNLIMITED\ncps = 1000000 1\nlog_type ="
        " FILE /dev/null\n}\nservice echo\n{\nid = echo-stream\nport ="
        f" {place.echo}\n{common}\n}}\nservice daytime\n{{\nid = daytime-stream\nport ="
        f" {place.daytime}\n{common}\n}}\n"
    )
    return (
        program("xinetd"),
        "-dontfork",
        "-f",
        str(config),
        "-pidfile",
        str(place.directory / "xinetd.pid"),
    )


def _asyncio(loop: str) -> Callable[[Programs, Place], Sequence[str]]:
    return lambda _, place: (
        sys.executable,
        str(SOURCES / "peers" / "aio.py"),
        loop,
        str(place.echo),
        str(place.daytime),
    )


def _compiled(name: str) -> Callable[[Programs, Place], Sequence[str]]:
    return lambda programs, place: (
        str(getattr(programs, name)),
        str(place.echo),
        str(place.daytime),
    )


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        UNPD: Kind("unpd, one worker", _unpd),
        OTHER: Kind("the other unpd", _other_unpd),
        "epoll": Kind("C, epoll", _compiled("epoll")),
        "corked": Kind(
            "C, epoll, corked",
            lambda programs, place: (
                str(programs.epoll),
                str(place.echo),
                str(place.daytime),
                "corked",
            ),
        ),
        "uvloop": Kind("uvloop", _asyncio("uvloop")),
        "go": Kind("Go, net", _compiled("go")),
        "splice": Kind(
            "C, splice",
            lambda programs, place: (str(programs.splice), str(place.echo)),
            has_daytime=False,
        ),
        "asyncio": Kind("asyncio", _asyncio("asyncio")),
        "xinetd": Kind("xinetd, internal", _xinetd, XINETD_LINE, sources=1, forks_in=("turnover",)),
        "fork": Kind("C, a fork per client", _compiled("fork"), forks_in=("turnover", "daytime")),
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
def place() -> Iterator[Place]:
    """Return three free ports and a directory."""
    with tempfile.TemporaryDirectory(prefix="unpd-bench-") as directory:
        echo, daytime, metrics = _free_ports(3)
        yield Place(echo, daytime, metrics, Path(directory))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def running(kind: Kind, programs: Programs, cpu: int) -> Iterator[Server]:
    """Start a server of ``kind`` on ``cpu``. AssertionError with its output if it does
    not become ready. All its processes are gone at the end of the block.
    """
    with place() as where:
        said = where.directory / "said"
        command = with_us("taskset", "-c", str(cpu), *kind.command(programs, where))
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
        server = Server(kind, where, process.pid)
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
    if server.kind in (KINDS[UNPD], KINDS[OTHER]):
        return "master.ready" in said.read_text(errors="replace")
    ports = (
        (server.place.echo, server.place.daytime)
        if server.kind.has_daytime
        else (server.place.echo,)
    )
    return all(_listens(port) for port in ports)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


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
