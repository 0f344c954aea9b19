"""Measures echo through HAProxy with one, two and three unpd behind it, and without.

Load, HAProxy and all unpd share the two processors of the machine. So the row shows
what the relay and its header cost, and that more instances cost nothing; not how far
machines of their own would scale.
"""

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.build import OUT
from tests.benchmarks.configs import Place, balancer_config
from tests.benchmarks.daemon import Daemon, running_daemon
from tests.benchmarks.figures import Faulty
from tests.benchmarks.generator import generator
from tests.benchmarks.machine import choose_cpus, program
from tests.benchmarks.servers import START_S, end, place, with_us
from tests.support.waiting import until

INSTANCES = (1, 2, 3)
CONNECTIONS, BYTES = 50, 64
SECONDS, WARM_UP_S = 0.5, 0.15
BEHIND = '\n[defaults]\nproxy_protocol = ["127.0.0.1"]\n'
MODES = {"echo": "trips", "turnover": "visits"}
"""The modes of the generator, and the names of their rates: of round trips on
connections that stay, and of connections with one each.
"""


def round_of_balanced(tries: int) -> dict[str, float]:
    """Measure one round of all figures. ``tries`` is for figures of single moments, and
    these are rates.
    """
    del tries
    return measure(OUT / "load")


def measure(load: Path) -> dict[str, float]:
    """Measure all figures with the generator ``load``."""
    with _serving("") as daemon:
        figures = _rates(load, daemon.place.echo, "direct")
    with contextlib.ExitStack() as stack:
        daemons = [stack.enter_context(_serving(BEHIND)) for _ in INSTANCES]
        for count in INSTANCES:
            with _balancer([daemon.place for daemon in daemons[:count]]) as port:
                figures |= _rates(load, port, str(count))
    return figures


@contextlib.contextmanager
def _serving(more: str) -> Iterator[Daemon]:
    with running_daemon(1, more) as daemon:
        daemon.line("master.ready")
        daemon.settle()
        yield daemon


@contextlib.contextmanager
def _balancer(targets: Sequence[Place]) -> Iterator[int]:
    """Run HAProxy before the unpd at ``targets``; yield its port."""
    with place() as where:
        config = where.directory / "haproxy.cfg"
        config.write_text(balancer_config(where, targets))
        process = subprocess.Popen(
            with_us(program("haproxy"), "-db", "-f", str(config)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: _listens(where.own), START_S, "HAProxy to listen")
            yield where.own
        finally:
            end(process)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _rates(load: Path, port: int, instances: str) -> dict[str, float]:
    return {f"{name}_{instances}": _rate(load, mode, port) for mode, name in MODES.items()}


def _rate(load: Path, mode: str, port: int) -> float:
    """Return the operations in a second. Faulty if one had an error."""
    asked = {
        "port": port,
        "connections": CONNECTIONS,
        "size": BYTES,
        "seconds": SECONDS,
        "warm-up": WARM_UP_S,
    }
    words = [mode, *(word for name, value in asked.items() for word in (f"--{name}", str(value)))]
    with generator(load, choose_cpus().load, words) as running:
        running.wait("ready")
        running.go()
        tally = running.tally()
        running.wait("ready")
    if tally.fault:
        raise Faulty(tally.fault)
    return tally.operations / tally.seconds
