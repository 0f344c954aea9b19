"""Echo with a process for each client, in bare Python: ``python forking.py ECHO_PORT``.

It is fork.c in Python, as a short program would be written: accept, fork, serve, exit,
and a SIGCHLD handler that reaps all dead children.
"""

import os
import signal
import socket
import sys
from types import FrameType

BACKLOG = 4096
READ_BYTES = 64 * 1024


def reap(number: int, frame: FrameType | None) -> None:
    """Reap all dead children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def echo(sock: socket.socket) -> None:
    """Send back what arrives, until the client's FIN."""
    while piece := sock.recv(READ_BYTES):
        sock.sendall(piece)


def serve(listener: socket.socket) -> None:
    """Fork for each client, for ever."""
    while True:
        sock, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                echo(sock)
            finally:
                os._exit(0)
        sock.close()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, reap)
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serve(opened)
