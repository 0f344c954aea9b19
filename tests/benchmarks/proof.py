"""Before anything is measured: the generator finds what is wrong. A server that lies in one way after the other has to be caught each time."""

import socket
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tests.benchmarks.build import Programs
from tests.benchmarks.generator import generator
from tests.benchmarks.machine import Cpus
from tests.support.clients import read_exactly

SIZE = 64
HONEST_ROUNDS = 3
CONNECTIONS = 2


def _wrong(message: bytes) -> bytes:
    return message[:-1] + bytes([message[-1] ^ 1])


LIES: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {
        "a wrong byte": _wrong,
        "a byte too many": lambda message: message + b"x",
        "a FIN before the end": lambda message: message[:-1],
        "a FIN instead of an answer": lambda message: message[:0],
    }
)


def prove(programs: Programs, cpus: Cpus) -> None:
    """RuntimeError if the generator overlooks a lie, or finds one in the truth."""
    for lie, answer in LIES.items():
        if not _fault(programs, cpus, answer):
            raise RuntimeError(f"the generator overlooks {lie}")
    if fault := _fault(programs, cpus, lambda message: message):
        raise RuntimeError(f"the generator finds fault with a right answer: {fault}")


def _fault(programs: Programs, cpus: Cpus, answer: Callable[[bytes], bytes]) -> str:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=_serve, args=(listener, answer), daemon=True).start()
        port = str(listener.getsockname()[1])
        arguments = ["echo", "--port", port, "--connections", str(CONNECTIONS), "--size", str(SIZE), "--seconds", "0.05", "--warm-up", "0"]
        with generator(programs.load, cpus.load, arguments) as load:
            load.wait("ready")
            load.go()
            return load.tally().fault


def _serve(listener: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    for _ in range(CONNECTIONS):
        threading.Thread(target=_converse, args=(listener.accept()[0], answer), daemon=True).start()


def _converse(sock: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    """Honest for a few rounds, then not. A short answer is followed by a FIN."""
    with sock:
        for turn in range(1_000_000):
            message = read_exactly(sock, SIZE)
            if len(message) < SIZE:
                return
            said = answer(message) if turn >= HONEST_ROUNDS else message
            try:
                sock.sendall(said)
            except OSError:  # the generator has hung up: it has seen enough
                return
            if len(said) < SIZE:
                return
