"""Clients and targets of a redirect that do whatever they can, at random: send, read a
little or nothing, half-close, close, reset, stop listening. However they are mixed, no
fault of ours ends a session, all end, the counters add up, and nothing is left.
"""

import contextlib
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import clients
from tests.support.descriptors import opened
from tests.support.engine import Bench
from tests.support.redirecting import Redirects, Upstream, redirects
from unpd.board import layout
from unpd.config.times import ServiceTimes

MOST_CLIENTS = 30
SIZES = (1, 478, 479, 480, 65_536, 400_000)
"""Around the limits of a small read and of bulk."""


@dataclass(slots=True)
class Chaos:
    """One redirect, its targets, and the sockets of both sides that are open."""

    rng: random.Random
    bench: Bench
    upstreams: list[Upstream]
    socks: list[socket.socket] = field(default_factory=list)
    made: int = 0

    def come(self) -> None:
        """A client comes, with small buffers or with usual ones."""
        if self.made < MOST_CLIENTS:
            self.made += 1
            address = self.bench.listeners[0].sock.getsockname()
            self._keep(clients.connect(address, receive_buffer=self.rng.choice((0, 1))))

    def accept(self) -> None:
        """The targets accept one connection each."""
        for upstream in self.upstreams:
            if (sock := upstream.accept()) is not None:
                self._keep(sock)

    def _keep(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socks.append(sock)

    def act(self, what: Callable[[socket.socket], object]) -> None:
        """One socket does something, if it still can."""
        if self.socks:
            with contextlib.suppress(OSError):
                what(self.rng.choice(self.socks))

    def leave(self) -> None:
        """One socket is closed or reset."""
        if self.socks:
            sock = self.socks.pop(self.rng.randrange(len(self.socks)))
            if self.rng.random() < 0.5:
                clients.reset(sock)
            sock.close()

    def stop_listening(self) -> None:
        """One target, but not the last, stops listening; its queue is reset."""
        if len(self.upstreams) > 1:
            self.upstreams.pop().sock.close()

    def step(self) -> None:
        """Do one of these, and turn the engine a few times."""
        rng = self.rng
        (deed,) = rng.choices(
            (
                self.come,
                self.accept,
                lambda: self.act(lambda sock: sock.send(bytes(rng.choice(SIZES)))),
                lambda: self.act(lambda sock: sock.recv(rng.choice((1, 1000, 1 << 20)))),
                lambda: self.act(lambda sock: sock.shutdown(socket.SHUT_WR)),
                self.leave,
                self.stop_listening,
                lambda: self.bench.clock.advance(rng.choice((0.01, 0.2, 1.0, 3.0))),
            ),
            weights=(12, 13, 25, 25, 5, 5, 1, 7),
        )
        deed()
        for _ in range(rng.randint(0, 3)):
            self.bench.turn()

    def end(self) -> None:
        """Close all sockets, and let the engine find out."""
        for sock in self.socks:
            sock.close()
        self.socks.clear()

        def is_over() -> bool:
            self.bench.advance(0.5)
            self.accept()
            for sock in self.socks:
                sock.close()
            self.socks.clear()
            return not self.bench.engine.open

        self.bench.until(is_over, "all sessions to end")


@pytest.mark.parametrize("stops", [False, True], ids=["serves", "stops"])
@pytest.mark.parametrize("splices", [True, False], ids=["spliced", "copied"])
def test_whatever_both_sides_do_a_redirect_gets_over_it(
    tmp_path: Path, rng: random.Random, splices: bool, stops: bool
) -> None:
    """Over TCP and UNIX sockets, with limits and without, also in a graceful stop."""
    for number in range(6):
        directory = tmp_path / str(number)
        directory.mkdir()
        with redirects(directory) as make:
            chaos = begin(make, rng, splices=splices)
            before = opened()
            for _ in range(rng.randint(50, 300)):
                chaos.step()
            if stops:
                finish(chaos)
            chaos.end()
            bench = chaos.bench
            assert bench.events("connection.failed") == []
            assert bench.count(layout.Service.ACCEPTED) == sum(bench.ended().values())
            bench.advance(2.0)
            bench.advance(2.0)
            assert bench.rests()
            assert not opened() - before


def begin(make: Redirects, rng: random.Random, *, splices: bool) -> Chaos:
    """A redirect to some targets, of which one may be dead."""
    kinds = [rng.choice(("tcp", "tcp6", "unix")) for _ in range(rng.randint(1, 3))]
    upstreams = [make.upstream(kind) for kind in kinds]
    texts = [upstream.text for upstream in upstreams]
    if rng.random() < 0.3:
        texts.insert(rng.randint(0, len(texts)), make.dead())
    times = ServiceTimes(
        idle_timeout_s=rng.choice((0.0, 20.0)),
        session_timeout_s=rng.choice((0.0, 60.0)),
        user_timeout_s=rng.choice((0.0, 5.0)),
    )
    bench = make(*texts, listen=rng.choice(("tcp", "unix")), times=times, splices=splices)
    return Chaos(rng, bench, upstreams)


def finish(chaos: Chaos) -> None:
    """A graceful stop of two seconds ends every session in time."""
    bench = chaos.bench
    bench.engine.stop_accepting()
    bench.engine.finish(bench.clock.now + 2.0, 1.0)
    for _ in range(25):
        bench.advance(0.1)
    assert bench.engine.open == 0
