"""Servers that do one thing wrong. The tests of the load generator use them to show
that each failure is noticed.

``python -m tests.support.faulty MODE`` prints its port and serves on 127.0.0.1 until
its standard input ends. Mode ``echo`` does nothing wrong; it measures the load
generator's own speed.
"""

import contextlib
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

from tests.support import ROOT

MODES = (
    "echo",
    "daytime",
    "reset_before",
    "reset_after",
    "closed_early",
    "shed",
    "silent",
    "wrong",
    "twice",
)
"""twice: sends the answer twice. silent: never answers."""


@contextlib.contextmanager
def serving(mode: str, *, cpu: int = -1) -> Iterator[tuple[str, int]]:
    """Run a server in ``mode`` for the length of the block. Yields its address."""
    command = [
        *(("taskset", "-c", str(cpu)) if cpu >= 0 else ()),
        sys.executable,
        "-m",
        "tests.support.faulty",
        mode,
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield "127.0.0.1", int(process.stdout.readline())
        assert process.stdin is not None
        process.stdin.close()


def answer(mode: str, request: bytes) -> bytes:
    """Return the bytes that ``mode`` sends for ``request``."""
    answers = {
        "echo": request,
        "daytime": b"Sun Nov 22 12:24:00 2026\r\n",
        "reset_before": b"",
        "reset_after": request[:4],
        "closed_early": request[:-1],
        "shed": b"",
        "wrong": request[::-1],
        "twice": request * 2,
    }
    return answers[mode]


def finish(sock: socket.socket, mode: str) -> None:
    """Close ``sock`` as ``mode`` does."""
    if mode.startswith("reset"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def serve(mode: str, listener: socket.socket) -> None:
    """Answer each connection once, at its first bytes (daytime: at once), and close it
    after its FIN.
    """
    epoll = select.epoll()
    epoll.register(0, select.EPOLLIN)
    epoll.register(listener, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == 0:
                return
            if fd == listener.fileno():
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        sock, _ = listener.accept()
                        sock.setblocking(False)
                        connections[sock.fileno()] = sock
                        epoll.register(
                            sock, select.EPOLLIN | (select.EPOLLOUT if mode == "daytime" else 0)
                        )
                continue
            sock = connections[fd]
            if go_on(mode, sock):
                del connections[fd]
                finish(sock, mode)


def go_on(mode: str, sock: socket.socket) -> bool:
    """Handle one readable event of a connection. True if the caller has to close it."""
    if mode == "daytime":
        sock.send(answer(mode, b""))
        return True
    try:
        request = sock.recv(65536)
    except OSError:
        return True
    if not request:
        return mode != "silent"
    if mode == "silent":
        return False
    sock.send(answer(mode, request))
    return mode not in ("echo", "wrong", "twice")


def main() -> None:
    """Serve in the mode named by the first argument."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    serve(sys.argv[1], listener)


if __name__ == "__main__":
    main()
