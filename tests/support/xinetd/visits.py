"""Pays the visits of a day to daemons, and notes which of them were served.

Owns the connections that stay. The differential test calls it inside of the network
namespace of the daemons, and it calls nothing of unpd.
"""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support import clients
from tests.support.faults import Namespace
from tests.support.xinetd.daemon import Clock
from tests.support.xinetd.model import Source
from tests.support.xinetd.pairs import Day, Pair, Visits

GREETING = b"x"
Outcomes = list[list[bool]]
"""Whether each arrival was served, for each pair in its order."""


def no_wait() -> None:
    """Wait for nothing."""


@dataclass(slots=True)
class Host:
    """A daemon that is visited. Pair number N has the port ``first_port`` + N; behind
    the last one follows a service that is open to all.

    ``settled``: waits until the daemon has given back the places of all connections but
    the given number of open ones. ``before_burst``: called before several clients come
    to a service in one round.
    """

    first_port: int
    settled: Callable[[int], None]
    before_burst: Callable[[], None] = no_wait
    outcomes: Outcomes = field(default_factory=list)
    staying: dict[tuple[int, int], socket.socket] = field(default_factory=dict)

    def visit(self, number: int, visits: Visits) -> None:
        """Pay the visits of one round to pair ``number``, in their order."""
        served = self.outcomes[number]
        if len(visits.arrivals) > 1:
            self.before_burst()
        for arrival in visits.arrivals:
            sock = self._served(number, arrival.source)
            if sock is not None and arrival.stays:
                self.staying[number, len(served)] = sock
            elif sock is not None:
                _end(sock)
            served.append(sock is not None)

    def leave(self, number: int, visits: Visits) -> None:
        """End the connections that leave in this round, if they were served."""
        for arrival in visits.leaves:
            if sock := self.staying.pop((number, arrival), None):
                _end(sock)

    def leave_all(self) -> None:
        """End every connection."""
        while self.staying:
            self.staying.popitem()[1].close()

    def _served(self, number: int, source: Source) -> socket.socket | None:
        """Connect. Return the connection, or None if it is refused: by a reset, or by
        an end before the echo of a byte.
        """
        host = "127.0.0.1" if source.version == 4 else "::1"
        try:
            sock = clients.connect((host, self.first_port + number), source=str(source))
        except ConnectionRefusedError:
            return None
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(GREETING)
            if sock.recv(1) == GREETING:
                return sock
        sock.close()
        return None


def _end(sock: socket.socket) -> None:
    """Leave as a polite client does, and wait until the daemon has seen it."""
    with sock:
        sock.shutdown(socket.SHUT_WR)
        assert clients.read_all(sock) == b""


def add_addresses(network: Namespace, sources: set[Source]) -> None:
    """Give the loopback interface of ``network`` the addresses of all clients."""
    lines = "".join(f"address add {source} dev lo\n" for source in sorted(sources, key=str))
    subprocess.run(["ip", "-n", network.name, "-batch", "-"], input=lines, text=True, check=True)


def pay(day: Day, hosts: Sequence[Host], clock: Clock, rest: Callable[[int], None]) -> None:
    """Pay all visits of ``day`` to each of ``hosts``. ``rest`` is called before each
    round with its number, for the rates that are on the real clock.
    """
    for host in hosts:
        host.outcomes[:] = [[] for _ in day.pairs]
    try:
        for number, moment in enumerate(day.moments):
            rest(number)
            clock.set(moment)
            for host in hosts:
                _pay_round(host, day.pairs, number)
    finally:
        for host in hosts:
            host.leave_all()
    for host in hosts:
        host.settled(0)


def _pay_round(host: Host, pairs: Sequence[Pair], number: int) -> None:
    _wake(host, len(pairs))
    for index, pair in enumerate(pairs):
        host.leave(index, pair.rounds[number])
    host.settled(len(host.staying))
    for index, pair in enumerate(pairs):
        host.visit(index, pair.rounds[number])
    host.settled(len(host.staying))


def _wake(host: Host, index: int) -> None:
    """Visit the service that is open to all. xinetd looks at its timers whenever a
    client comes, and so notices that the clock has moved.
    """
    with clients.connect(("127.0.0.1", host.first_port + index)) as sock:
        sock.sendall(GREETING)
        assert sock.recv(1) == GREETING
