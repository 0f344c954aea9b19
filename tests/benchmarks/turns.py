"""Measures the longest turn of the master's loop while many ask for much.

A figure is a bound of the histogram ``unpd_loop_lag_seconds``: no turn was longer, and
one was longer than the next lower bound.
"""

import contextlib
import functools
import http.client
import json
import subprocess
from collections.abc import Callable

from tests.benchmarks.daemon import LINE_S, MS, Daemon, command, running_daemon
from tests.benchmarks.servers import environment
from tests.support import ROOT, clients
from tests.support.observed import Samples, parse_samples, total
from tests.support.turns import Turns, longest_s, turns_so_far
from tests.support.waiting import until
from unpd.control.client import ControlClient
from unpd.control.protocol import Request, encode_request

WORKERS = 16
ASKING = 1000
LISTED = 10_000
STATUS = Request("status")


def round_of_turns(tries: int) -> dict[str, float]:
    """Measure one round of both figures, each the longest turn of its tries."""
    with running_daemon(WORKERS) as daemon:
        daemon.line("master.ready")
        daemon.settle()
        found = {"asking_ms": _longest_ms(daemon, tries, _ask_together)}
        with clients.idle(("127.0.0.1", daemon.place.echo), LISTED):
            until(lambda: _active(daemon) == LISTED, LINE_S, "all connections to be accepted")
            found["listing_ms"] = _longest_ms(daemon, tries, _list)
    return found


def _longest_ms(daemon: Daemon, tries: int, work: Callable[[Daemon], None]) -> float:
    before = _turns(daemon)
    for _ in range(tries):
        work(daemon)
    return longest_s(before, _turns(daemon)) * MS


def _turns(daemon: Daemon) -> Turns:
    return turns_so_far(functools.partial(_page, daemon), functools.partial(_status, daemon))


def _page(daemon: Daemon) -> Samples:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.place.metrics, LINE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return parse_samples(connection.getresponse().read().decode())


def _active(daemon: Daemon) -> float:
    return total(_page(daemon), "unpd_connections_active", service="echo")


def _status(daemon: Daemon) -> None:
    client = ControlClient(daemon.place.directory / "control.sock")
    with contextlib.closing(client):
        client.ask(STATUS)


def _ask_together(daemon: Daemon) -> None:
    """Have ASKING clients ask for the status, and wait until each has its answer, or
    was turned away, because the master has room for a few dozen.
    """
    path = str(daemon.place.directory / "control.sock")
    with clients.crowd(path, ASKING, encode_request(STATUS)) as socks:
        for sock in socks:
            sock.settimeout(LINE_S)
            with contextlib.suppress(ConnectionResetError):
                clients.read_all(sock)


def _list(daemon: Daemon) -> None:
    """List all connections, as ``unpd connections`` does. RuntimeError if one lacks."""
    control = str(daemon.place.directory / "control.sock")
    done = subprocess.run(
        (*command(), "connections", "--json", "--control", control),
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=environment(),
    )
    if (count := len(json.loads(done.stdout)["connections"])) != LISTED:
        raise RuntimeError(f"the list had {count} connections of {LISTED}")
