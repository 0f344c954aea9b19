"""A target for redirects, as a program of its own: greets each client with its name in
a line, then sends back what it receives.

It dies at once when its standard input ends, between two turns of its loop: each client
that it accepted before has its greeting, and those in its queue are reset by the
kernel. Usage: greeter.py NAME PORT, where port 0 is any. The first line of its output
is its port.
"""

import os
import selectors
import socket
import sys


def main(name: str, port: int) -> None:
    """Serve until standard input ends."""
    waiting = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                os._exit(0)
            elif key.fileobj is listener:
                sock, _ = listener.accept()
                sock.sendall(f"{name}\n".encode())
                waiting.register(sock, selectors.EVENT_READ)
            else:
                answer(waiting, key.fileobj)  # type: ignore[arg-type]


def answer(waiting: selectors.BaseSelector, sock: socket.socket) -> None:
    """Send back what came, or close."""
    try:
        piece = sock.recv(65536)
        if piece:
            sock.sendall(piece)
            return
    except ConnectionError:
        pass
    waiting.unregister(sock)
    sock.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
