"""Generates a load of connections in a process of its own (``python -m
tests.support.load_generator ORDER``). It uses the standard library only.
:mod:`tests.support.loads` starts it.

Each attempt is one connection: connect; for echo send a nonce and half-close, for
daytime send nothing; read to the end. Each attempt ends in exactly one outcome. The
generator counts attempts at their start and outcomes at their end, in shared words that
the parent may read at any moment. At the end of standard input it starts no more
attempts, waits for the open ones, and prints a summary as one JSON line.

On loopback the source address rotates through 32 addresses (IP_BIND_ADDRESS_NO_PORT
leaves the choice of port to connect(2)). Otherwise connections in TIME_WAIT, which stay
with the side that closes first, would use up the source ports.
"""

import errno
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

OUTCOMES = (
    "ok",
    "refused",
    "reset_before",
    "reset_after",
    "timeout",
    "closed_early",
    "shed",
    "wrong",
)
"""refused: no connection was established. reset_before, reset_after: an RST before the
first byte of the reply, or after one. closed_early: a FIN within the reply. shed: a FIN
instead of a reply. wrong: a reply that does not match the nonce.
"""

ATTEMPTS_AT = 0
OUTCOMES_AT = 1
WORDS = OUTCOMES_AT + len(OUTCOMES)

SOURCES = tuple(f"127.0.1.{last}" for last in range(1, 33))
IP_BIND_ADDRESS_NO_PORT = 24
"""From <linux/in.h>. Python 3.11's socket module lacks it."""

READ_BYTES = 65536
REFUSED = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN})
"""On a UNIX socket ENOENT means that no listener is bound, EAGAIN that the accept queue
is full.
"""
RESET = frozenset({errno.ECONNRESET, errno.EPIPE})


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. ``address`` is (host, port) or a UNIX path. ``rate`` is in attempts
    per second; 0 allows as many as ``concurrency``. ``cpu`` -1 allows any processor.
    """

    kind: Literal["echo", "daytime"]
    address: tuple[str, int] | str
    rate: float
    concurrency: int
    timeout_s: float
    payload_bytes: int
    cpu: int
    words_fd: int


class Attempt:
    """One connection in progress."""

    __slots__ = ("deadline", "expected", "received", "sent", "sock", "started")

    def __init__(
        self, sock: socket.socket, expected: bytes, started: float, deadline: float
    ) -> None:
        self.sock = sock
        self.expected = expected
        self.started = started
        self.deadline = deadline
        self.received = b""
        self.sent = False


def end_of_echo(expected: bytes, received: bytes) -> str:
    """Return the outcome of an echo that ended with a FIN after ``received``."""
    if received == expected:
        return "ok"
    if not received:
        return "shed"
    return "closed_early" if expected.startswith(received) else "wrong"


def end_of_daytime(expected: bytes, received: bytes) -> str:
    """Return the outcome of a daytime that ended with a FIN after ``received``. A good
    answer is one line that ends with CR LF (RFC 867).
    """
    if not received:
        return "shed"
    if not received.endswith(b"\r\n"):
        return "closed_early"
    return "wrong" if received.count(b"\n") > 1 or received[: len(expected)] != expected else "ok"


def half_close(sock: socket.socket) -> None:
    """Send our FIN. If the connection was reset between send and shutdown, shutdown
    says "not connected", and the recv that follows reports the reset.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as failure:
        if failure.errno != errno.ENOTCONN:
            raise


class Load:
    """The generator: one edge-triggered epoll, one registration per connection."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.echo = order.kind == "echo"
        self.judge: Callable[[bytes, bytes], str] = end_of_echo if self.echo else end_of_daytime
        self.words = memoryview(mmap.mmap(order.words_fd, WORDS * 8)).cast("Q")
        self.epoll = select.epoll()
        self.open: dict[int, Attempt] = {}
        self.by_age: deque[Attempt] = deque()
        self.stopping = False
        self.details: Counter[str] = Counter()
        self.lost: list[str] = []
        self.latencies_us = array("Q")
        self.longest_gap_s = 0.0
        self.last_ok_at = 0.0
        self.is_tcp = not isinstance(order.address, str)
        self.sources = SOURCES if self.is_tcp and order.address[0].startswith("127.") else ()
        self.family = (
            socket.AF_UNIX
            if not self.is_tcp
            else socket.AF_INET6
            if ":" in order.address[0]
            else socket.AF_INET
        )

    def run(self) -> None:
        """Run until standard input ends and every attempt has its outcome."""
        self.epoll.register(0, select.EPOLLIN)
        began = time.monotonic()
        while not self.stopping or self.open:
            now = time.monotonic()
            self._expire(now)
            if not self.stopping:
                self._launch_due(now, began)
            for fd, _ in self.epoll.poll(self._wait_s(time.monotonic(), began), 512):
                if fd == 0:
                    self._stop()
                elif (attempt := self.open.get(fd)) is not None:
                    self._go_on(attempt)
        self._report(time.monotonic() - began)

    def _stop(self) -> None:
        if not os.read(0, 4096):
            self.epoll.unregister(0)
            self.stopping = True

    def _launch_due(self, now: float, began: float) -> None:
        room = self.order.concurrency - len(self.open)
        if self.order.rate:
            room = min(room, int((now - began) * self.order.rate) + 1 - self.words[ATTEMPTS_AT])
        for _ in range(room):
            self._launch(now)

    def _wait_s(self, now: float, began: float) -> float:
        """Return the time to the next launch or the next deadline, whichever comes
        first.
        """
        if self.stopping and not self.open:
            return 0.0
        waits = [1.0]
        if self.by_age:
            waits.append(self.by_age[0].deadline - now)
        if not self.stopping and len(self.open) < self.order.concurrency:
            waits.append(
                began + self.words[ATTEMPTS_AT] / self.order.rate - now if self.order.rate else 0.0
            )
        return max(0.0, min(waits))

    def _launch(self, now: float) -> None:
        number = self.words[ATTEMPTS_AT]
        self.words[ATTEMPTS_AT] = number + 1
        sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        attempt = Attempt(sock, self._nonce(number), now, now + self.order.timeout_s)
        if self.sources:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self.sources[number % len(self.sources)], 0))
        self.open[sock.fileno()] = attempt
        self.by_age.append(attempt)
        failure = sock.connect_ex(self.order.address)
        if failure in (0, errno.EINPROGRESS):
            self.epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        else:
            self._fail(attempt, failure, "connect")

    def _nonce(self, number: int) -> bytes:
        if not self.echo:
            return b""
        mark = b"%08x%016x" % (os.getpid(), number)
        return (mark * (self.order.payload_bytes // len(mark) + 1))[
            : self.order.payload_bytes - 1
        ] + b"\n"

    def _go_on(self, attempt: Attempt) -> None:
        sock = attempt.sock
        doing = "connect"
        try:
            if not attempt.sent:
                if failure := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._fail(attempt, failure, doing)
                    return
                doing = "send"
                attempt.sent = True
                if self.echo:
                    if sock.send(attempt.expected) != len(attempt.expected):
                        raise BrokenLoad(
                            "the payload does not fit into a fresh socket: take a smaller one"
                        )
                    half_close(sock)
            doing = "recv"
            while piece := sock.recv(READ_BYTES):
                attempt.received += piece
        except BlockingIOError:
            return
        except OSError as failure:
            self._fail(attempt, failure.errno or 0, doing)
            return
        self._end(attempt, self.judge(attempt.expected, attempt.received), "FIN")

    def _fail(self, attempt: Attempt, failure: int, doing: str) -> None:
        if doing == "connect" and failure in REFUSED:
            outcome = "refused"
        elif failure in RESET:
            outcome = "reset_after" if attempt.received else "reset_before"
        elif failure == errno.ETIMEDOUT:
            outcome = "timeout"
        else:
            raise BrokenLoad(f"{doing}: {os.strerror(failure)}")
        self._end(attempt, outcome, f"{errno.errorcode[failure]} at {doing}")

    def _expire(self, now: float) -> None:
        """End the attempts that are late. All have the same timeout, so the oldest is
        the next to be late.
        """
        by_age = self.by_age
        while by_age and (by_age[0].deadline <= now or by_age[0].sock.fileno() < 0):
            attempt = by_age.popleft()
            if attempt.sock.fileno() >= 0:
                self._end(attempt, "timeout", f"after {len(attempt.received)} bytes")

    def _end(self, attempt: Attempt, outcome: str, detail: str) -> None:
        self.words[OUTCOMES_AT + OUTCOMES.index(outcome)] += 1
        del self.open[attempt.sock.fileno()]
        if outcome != "ok":
            self.details[f"{outcome}: {detail}"] += 1
            if self.is_tcp:
                host, port = attempt.sock.getsockname()[:2]
                self.lost.append(f"{host}:{port}")
        attempt.sock.close()
        if outcome != "ok":
            return
        now = time.monotonic()
        self.latencies_us.append(int((now - attempt.started) * 1e6))
        if self.last_ok_at:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_ok_at)
        self.last_ok_at = now

    def _report(self, duration_s: float) -> None:
        ordered = sorted(self.latencies_us)
        quantile = {
            name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1e6 if ordered else 0.0
            for name, part in QUANTILES.items()
        }
        summary = {
            "duration_s": duration_s,
            "longest_gap_s": self.longest_gap_s,
            "latency_s": quantile,
            "details": dict(self.details),
            "lost": self.lost,
        }
        sys.stdout.write(json.dumps(summary) + "\n")


QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}


class BrokenLoad(Exception):
    """The generator itself failed (no source port, no descriptor). Its counts say
    nothing about the server.
    """


def main() -> None:
    """Run the order given as JSON in the first argument."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the parent ends us by closing standard input, also at Ctrl-C
    raw = json.loads(sys.argv[1])
    address = raw.pop("address")
    order = Order(address=address if isinstance(address, str) else (address[0], address[1]), **raw)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if order.cpu >= 0:
        os.sched_setaffinity(0, {order.cpu})
    Load(order).run()


if __name__ == "__main__":
    main()
