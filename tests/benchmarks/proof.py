"""Proves before any measurement that the generator finds errors. In each of its modes
it has to find each kind of wrong server, for the right reason.
"""

import contextlib
import itertools
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.build import Programs
from tests.benchmarks.configs import CHARGEN_LINES
from tests.benchmarks.generator import Tally, generator
from tests.benchmarks.machine import Cpus
from tests.support.clients import read_exactly

SIZE = 64
BULK_SIZE = 256 * 1024
BLOCK = 4096
HONEST_ROUNDS = 3
HONEST_PIECES = 20
CONNECTIONS = 2
SECONDS = "0.05"
STALL_S = "0.3"
LOSS_S = "0.1"
EPOCH_S = 2_208_988_800
MAX_DATAGRAM_BYTES = 64 * 1024

Converse = Callable[[socket.socket], None]
"""A conversation with one client, and over UDP with all clients."""


@dataclass(frozen=True, slots=True)
class Lie:
    """What a server does wrong in a mode of the generator, and the fault that the
    generator has to find. ``short``: the fault is a short read and no error; ``lost``:
    it is no fault, but a loss. ``ends_idle``: the server ends the held connections as
    soon as all are ready.
    """

    mode: str
    what: str
    converse: Converse
    finds: str
    short: bool = False
    lost: bool = False
    ends_idle: bool = False


@dataclass(slots=True)
class _Accepted:
    """The connections that a server has accepted, in order."""

    port: int
    socks: list[socket.socket] = field(default_factory=list)


def prove(programs: Programs, cpus: Cpus) -> None:
    """Run all wrong servers and a correct one. RuntimeError if the generator overlooks
    a fault, reports another one, or finds one in the correct server.
    """
    for mode, converse in HONEST.items():
        tally = _tally(programs, cpus, Lie(mode, "nothing", converse, ""))
        if tally.fault or tally.lost:
            raise RuntimeError(
                f"the generator reports a fault of a correct server in mode {mode}:"
                f" {tally.fault or f'{tally.lost} lost'}"
            )
    for lie in LIES:
        tally = _tally(programs, cpus, lie)
        counts = {"errors": tally.errors, "short": tally.short_reads, "lost": tally.lost}
        found = counts.pop("short" if lie.short else "lost" if lie.lost else "errors")
        if not found or any(counts.values()) or lie.finds not in tally.first_error:
            raise RuntimeError(
                f"in mode {lie.mode} the generator overlooks {lie.what}: it finds"
                f" {tally.fault or 'nothing'}, and {tally.lost} lost"
            )


def _tally(programs: Programs, cpus: Cpus, lie: Lie) -> Tally:
    server = _datagram_server if lie.mode == "udp" else _server
    with tempfile.TemporaryDirectory() as directory, server(lie.converse) as accepted:
        lines = Path(directory, "lines")
        lines.write_bytes(CHARGEN_LINES)
        size = BULK_SIZE if lie.mode == "bulk" else SIZE
        asked = {
            "port": accepted.port,
            "connections": CONNECTIONS,
            "size": size,
            "seconds": SECONDS,
            "warm-up": 0,
            "stall": STALL_S,
            "loss": LOSS_S,
            "lines": lines,
        }
        with generator(
            programs.load,
            cpus.load,
            [
                lie.mode,
                *(word for key, value in asked.items() for word in (f"--{key}", str(value))),
            ],
        ) as load:
            for word in ("base", "held") if lie.mode == "idle" else ():
                load.wait(word)
                load.go()
            load.wait("ready")
            for sock in accepted.socks[:CONNECTIONS] if lie.ends_idle else ():
                sock.shutdown(socket.SHUT_RDWR)
            load.go()
            return load.tally()


@contextlib.contextmanager
def _server(converse: Converse) -> Iterator[_Accepted]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        accepted = _Accepted(listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, converse, accepted), daemon=True).start()
        yield accepted
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _datagram_server(converse: Converse) -> Iterator[_Accepted]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=_converse, args=(sock.dup(), converse), daemon=True)
        thread.start()
        yield _Accepted(sock.getsockname()[1])
        with contextlib.suppress(OSError):  # it is not connected, but the shutdown wakes the thread
            sock.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, converse: Converse, accepted: _Accepted) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:  # the generator has shut down the connection
            return
        accepted.socks.append(sock)
        threading.Thread(target=_converse, args=(sock, converse), daemon=True).start()


def _converse(sock: socket.socket, converse: Converse) -> None:
    with sock, contextlib.suppress(OSError):  # the generator may close when it has seen enough
        converse(sock)


# --- what a server may do -------------------------------------------------------------


def _echo(answer: Callable[[bytes], bytes]) -> Converse:
    """Answer correctly for a few rounds, then wrongly. A FIN follows a short answer."""

    def converse(sock: socket.socket) -> None:
        for turn in itertools.count():
            if len(message := read_exactly(sock, SIZE)) < SIZE:
                return
            said = answer(message) if turn >= HONEST_ROUNDS else message
            sock.sendall(said)
            if len(said) < SIZE:
                return

    return converse


def _silent(sock: socket.socket) -> None:
    """Stop answering after a few rounds, until the client closes."""
    for _ in range(HONEST_ROUNDS):
        sock.sendall(read_exactly(sock, SIZE))
    while sock.recv(SIZE):
        pass


def _stream(spoil: Callable[[int, bytes], bytes]) -> Converse:
    """Send correctly for a few pieces, then spoil each piece in its own way (numbered
    from there).
    """

    def converse(sock: socket.socket) -> None:
        for number in itertools.count(-HONEST_PIECES):
            if not (piece := sock.recv(64 * 1024)):
                return
            sock.sendall(piece if number < 0 else spoil(number, piece))

    return converse


def _turn_over(extra: bytes) -> Converse:
    """Answer once, and spoil something after the client's FIN and before ours."""

    def converse(sock: socket.socket) -> None:
        sock.sendall(read_exactly(sock, SIZE))
        if not sock.recv(SIZE) and extra:
            sock.sendall(extra)

    return converse


def _daytime(line: Callable[[], str]) -> Converse:
    return lambda sock: sock.sendall(line().encode())


def _time(answer: Callable[[], bytes]) -> Converse:
    return lambda sock: sock.sendall(answer())


def _now(offset_s: int = 0) -> bytes:
    return (int(time.time()) + EPOCH_S + offset_s).to_bytes(4, "big")


def _chargen(spoil: Callable[[int, bytes], bytes]) -> Converse:
    """Send the lines, and spoil each piece in its own way after a few correct ones. A
    piece that is spoiled to nothing is the end.
    """

    def converse(sock: socket.socket) -> None:
        for number in itertools.count(-HONEST_PIECES):
            if not (piece := CHARGEN_LINES if number < 0 else spoil(number, CHARGEN_LINES)):
                return
            sock.sendall(piece)

    return converse


def _datagrams(answers: Callable[[int, bytes], Iterable[bytes]]) -> Converse:
    """Answer correctly a few times, and then with these datagrams (numbered from
    there).
    """

    def converse(sock: socket.socket) -> None:
        for number in itertools.count(-HONEST_PIECES):
            piece, sender = sock.recvfrom(MAX_DATAGRAM_BYTES)
            if not piece:  # the shutdown
                return
            for answer in (piece,) if number < 0 else answers(number, piece):
                sock.sendto(answer, sender)

    return converse


def _wrong(message: bytes) -> bytes:
    return message[:-1] + bytes([message[-1] ^ 1])


HONEST = {
    "echo": _echo(lambda message: message),
    "bulk": _stream(lambda _, piece: piece),
    "turnover": _turn_over(b""),
    "daytime": _daytime(lambda: f"{time.ctime()}\r\n"),
    "time": _time(_now),
    "chargen": _chargen(lambda _, lines: lines),
    "udp": _datagrams(lambda _, piece: [piece]),
    "idle": _echo(lambda message: message),
}

LIES = (
    Lie("echo", "a wrong byte", _echo(_wrong), "a wrong byte came back"),
    Lie(
        "echo",
        "a byte too many",
        _echo(lambda message: message + b"x"),
        "more came back than was sent",
    ),
    Lie(
        "echo",
        "a FIN before the end",
        _echo(lambda message: message[:-1]),
        "FIN before the answer was complete",
        short=True,
    ),
    Lie(
        "echo",
        "a FIN instead of an answer",
        _echo(lambda message: message[:0]),
        "FIN before the answer was complete",
        short=True,
    ),
    Lie("echo", "silence", _silent, "no answer within"),
    Lie(
        "bulk",
        "a wrong byte in each piece",
        _stream(lambda _, piece: _wrong(piece)),
        "a wrong byte in the stream",
    ),
    Lie(
        "bulk",
        "a lost block",
        _stream(lambda number, piece: piece if number else piece[BLOCK:]),
        "a wrong byte in the stream",
    ),
    Lie(
        "bulk",
        "a block twice",
        _stream(lambda number, piece: piece if number else piece + piece[-BLOCK:]),
        "",
    ),
    Lie("turnover", "a byte before the FIN", _turn_over(b"x"), "more came back than was sent"),
    Lie("daytime", "a wrong line", _daytime(lambda: f"{time.ctime(0)}\r\n"), "a wrong line"),
    Lie("daytime", "a FIN without a line", _daytime(lambda: ""), "FIN without a line", short=True),
    Lie("time", "a time that has passed", _time(lambda: _now(-60)), "a wrong time in 4 bytes"),
    Lie("time", "a time to come", _time(lambda: _now(60)), "a wrong time in 4 bytes"),
    Lie("time", "half a time", _time(lambda: _now()[:2]), "a wrong time in 2 bytes"),
    Lie("time", "two times", _time(lambda: _now() * 2), "a wrong time in 8 bytes"),
    Lie("time", "a FIN without a time", _time(lambda: b""), "FIN without a line", short=True),
    Lie(
        "chargen",
        "a wrong byte in each piece",
        _chargen(lambda _, lines: _wrong(lines)),
        "a wrong byte in the lines",
    ),
    Lie(
        "chargen",
        "a lost line",
        _chargen(lambda number, lines: lines if number else lines[:-74]),
        "a wrong byte in the lines",
    ),
    Lie(
        "chargen",
        "a line twice",
        _chargen(lambda number, lines: lines if number else lines + lines[-74:]),
        "a wrong byte in the lines",
    ),
    Lie(
        "chargen",
        "a FIN",
        _chargen(lambda *_: b""),
        "FIN in the middle of the lines",
        short=True,
    ),
    Lie(
        "udp",
        "a wrong byte",
        _datagrams(lambda _, piece: [_wrong(piece)]),
        "a wrong byte came back",
    ),
    Lie("udp", "a byte too many", _datagrams(lambda _, piece: [piece + b"x"]), "another size"),
    Lie("udp", "a byte too few", _datagrams(lambda _, piece: [piece[:-1]]), "another size"),
    Lie("udp", "an answer twice", _datagrams(lambda _, piece: [piece] * 2), ""),
    Lie("udp", "no answer to one", _datagrams(lambda n, piece: [piece] * bool(n)), "", lost=True),
    Lie(
        "idle",
        "the end of idle connections",
        _echo(lambda message: message),
        "an idle connection did not stay",
        short=True,
        ends_idle=True,
    ),
    Lie("idle", "silence", _silent, "no answer within"),
)
