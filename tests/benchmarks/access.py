"""Measures how soon access rules and limits take hold, and let go, in a running unpd.

It is a row of its own beside that of the daemon, with the same :class:`Daemon`. A
figure is the slowest of its tries, because each of them is a promise for every client.
"""

import contextlib
import functools
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.benchmarks.build import SOURCES
from tests.benchmarks.configs import unpd_config
from tests.benchmarks.daemon import LINE_S, MS, SETTLED_S, Daemon, command, running_daemon
from tests.benchmarks.servers import environment, place, with_us
from tests.support import ROOT, clients, procs
from tests.support.waiting import pause, until
from unpd.control.client import ControlClient
from unpd.control.protocol import Request

WORKERS = 4
INNOCENT, GUILTY = "127.0.0.1", "127.0.0.9"
"""The sources of the clients: the limits are those of GUILTY."""
PER_SOURCE = 10
SESSIONS, BETWEEN_S = 200, 0.005
"""The sessions of the innocent client, and the pause after each of them, so that they
last as long as some thousand connections of the flood.
"""
NOTICED_S = 0.1
"""The workers notice meanwhile that there is no place."""
LEAST_FLOOD = 2000.0
ENTRIES = 100_000
SCATTER = 2_654_435_761
"""An odd factor scatters the entries over all addresses, and keeps them different."""
HELD = 500


def round_of_access(tries: int) -> dict[str, float]:
    """Measure one round of all figures. RuntimeError if the flood was slower than the
    one for which something is promised.
    """
    figures = measure(tries)
    if (rate := figures["flood_rate"]) < LEAST_FLOOD:
        raise RuntimeError(f"the flood had {rate:.0f} connections a second")
    return figures


def measure(tries: int) -> dict[str, float]:
    """Measure all figures."""
    figures = {"list_ms": _list_ms()}
    with _serving("max_connections = 1") as daemon:
        figures["place_ms"] = _slowest(tries, _place_ms, daemon)
        figures["place_other_ms"] = _slowest(tries, _place_other_ms, daemon)
    with _serving(f"max_per_source = {PER_SOURCE}") as daemon:
        figures["deny_ms"] = _slowest(tries, _deny_ms, daemon)
        figures |= _flood(daemon)
    with _serving(f"max_per_source = {HELD}") as daemon:
        figures["killed_ms"] = _slowest(tries, _killed_ms, daemon)
    return figures


def _slowest(tries: int, one_try: Callable[[Daemon], float], daemon: Daemon) -> float:
    return max(one_try(daemon) for _ in range(tries))


@contextlib.contextmanager
def _serving(*keys: str) -> Iterator[Daemon]:
    """Start unpd with these keys for all services, and wait until it serves."""
    with running_daemon(WORKERS, "\n".join(("\n[defaults]", *keys, ""))) as daemon:
        daemon.line("master.ready")
        daemon.settle()
        yield daemon


def _connect(daemon: Daemon, source: str = INNOCENT) -> socket.socket:
    return clients.connect((INNOCENT, daemon.place.echo), source=source, timeout_s=LINE_S)


def _is_served(sock: socket.socket) -> bool:
    """Whether a byte comes back, rather than the end of the connection."""
    try:
        sock.sendall(b"x")
        return sock.recv(1) == b"x"
    except (ConnectionResetError, BrokenPipeError):
        return False


def _visit(daemon: Daemon, source: str) -> bool:
    """Connect, exchange a byte, close. Return whether the client was served."""
    try:
        with _connect(daemon, source) as sock:
            return _is_served(sock)
    except ConnectionResetError:
        return False


@contextlib.contextmanager
def _served_by(daemon: Daemon, worker: int) -> Iterator[None]:
    """Let ``worker`` alone serve in the block."""
    with procs.stopped(pid for pid in daemon.child_pids("worker") if pid != worker):
        yield


def _place_ms(daemon: Daemon) -> float:
    """Measure from the end of the only client that may be there to the answer to the
    one that waits in the accept queue.
    """
    with _connect(daemon) as holder:
        assert _is_served(holder)
        with _waiting(daemon) as waiting:
            return _released_ms(holder, waiting)


def _place_other_ms(daemon: Daemon) -> float:
    """Measure the same, but the worker that frees the place takes no client any more:
    it drains. One of the others notices it, or the successor, which starts at the end
    of that worker.
    """
    daemon.settle()
    pause(SETTLED_S)
    first = daemon.child_pids("worker")[0]
    with _served_by(daemon, first):
        holder = _connect(daemon)
        assert _is_served(holder)
    with holder, _waiting(daemon) as waiting:
        os.kill(first, signal.SIGTERM)
        # A client that goes on talking stays.
        until(
            lambda: _is_served(holder) and " draining" in procs.title(first),
            LINE_S,
            "a worker to drain",
        )
        return _released_ms(holder, waiting)


@contextlib.contextmanager
def _waiting(daemon: Daemon) -> Iterator[socket.socket]:
    """Connect a client for which there is no place."""
    with _connect(daemon) as sock:
        sock.sendall(b"x")
        yield sock


def _released_ms(holder: socket.socket, waiting: socket.socket) -> float:
    pause(NOTICED_S)
    if select.select([waiting], [], [], 0)[0]:
        raise RuntimeError("a client was served for which there was no place")
    began = time.monotonic()
    holder.close()
    assert waiting.recv(1) == b"x"
    return (time.monotonic() - began) * MS


def _flood(daemon: Daemon) -> Mapping[str, float]:
    """Measure the slowest session of an innocent client while one source floods, and
    the rate of the flood.
    """
    arguments = (daemon.place.echo, GUILTY, PER_SOURCE)
    script = str(SOURCES / "peers" / "flood.py")
    process = subprocess.Popen(
        with_us(sys.executable, script, *map(str, arguments)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"flooding\n"
        slowest_ms = max(_session_ms(daemon) for _ in range(SESSIONS))
        process.stdin.close()
        rate = float(process.stdout.readline())
    return {"flood_ms": slowest_ms, "flood_rate": rate}


def _session_ms(daemon: Daemon) -> float:
    pause(BETWEEN_S)
    began = time.monotonic()
    assert _visit(daemon, INNOCENT)
    return (time.monotonic() - began) * MS


def _deny_ms(daemon: Daemon) -> float:
    """Measure from asking for a denial to the first client that is refused; the slowest
    of all workers. Each in its turn is the only one that is not stopped.
    """
    return max(_deny_by_ms(daemon, worker) for worker in daemon.child_pids("worker"))


def _deny_by_ms(daemon: Daemon, worker: int) -> float:
    with _served_by(daemon, worker):
        assert _visit(daemon, GUILTY)
        began = time.monotonic()
        _ask(daemon, "deny")
        while _visit(daemon, GUILTY):
            if time.monotonic() - began > LINE_S:
                raise RuntimeError("a worker goes on serving an address that is denied")
        took_ms = (time.monotonic() - began) * MS
        _ask(daemon, "undeny")
        until(functools.partial(_visit, daemon, GUILTY), LINE_S, "the end of a denial")
        return took_ms


def _ask(daemon: Daemon, verb: str) -> None:
    """Ask as the command does, which takes the time of an interpreter's start."""
    client = ControlClient(daemon.place.directory / "control.sock")
    with contextlib.closing(client):
        client.ask(Request(verb, {"network": GUILTY}))


def _list_ms() -> float:
    """Measure the processor time that ``unpd check`` takes for a list."""
    with place() as where:
        where.directory.chmod(0o711)  # unpd's user has to read the list
        deny = where.directory / "deny.list"
        deny.write_text("\n".join(map(_address, range(ENTRIES))) + "\n")
        config = where.directory / "unpd.toml"
        text = unpd_config(where, workers=1)
        config.write_text(text)
        without_s = _check_s(config)
        config.write_text(f"{text}\n[defaults]\ndeny = [{json.dumps(f'file:{deny}')}]\n")
        return (_check_s(config) - without_s) * MS


def _address(number: int) -> str:
    return socket.inet_ntoa((number * SCATTER % 2**32).to_bytes(4, "big"))


def _check_s(config: Path) -> float:
    """Return the processor time of a check."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        (*command(), "check", "--config", str(config)),
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=environment(),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _killed_ms(daemon: Daemon) -> float:
    """Measure from the kill of a worker that has all the connections which a source may
    have to the next session of that source.
    """
    daemon.settle()
    pause(SETTLED_S)
    worker = daemon.child_pids("worker")[0]
    with contextlib.ExitStack() as stack:
        with _served_by(daemon, worker):
            for _ in range(HELD):
                assert _is_served(stack.enter_context(_connect(daemon, GUILTY)))
        if _visit(daemon, GUILTY):
            raise RuntimeError("a source has more connections than it may have")
        began = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        until(functools.partial(_visit, daemon, GUILTY), LINE_S, "a place for the source")
        return (time.monotonic() - began) * MS
