"""Floods a server from one source: ``python flood.py PORT SOURCE HELD``.

It takes HELD connections and holds them. Then it makes further ones, at RATE a second
or as fast as it can, and waits for no answer. It prints a line as soon as the flood has
begun, and at the end of its standard input how many connections a second it made.
"""

import collections
import select
import socket
import struct
import sys
import time

RATE = 2500
"""The access rules promise something for 2,000."""
AHEAD = 200
"""How many connections wait to be closed: the server has answered them by then."""
BIND_ADDRESS_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT of ip(7), which Python 3.11 lacks: the port is chosen at the
connect, for this destination alone. Else bind(2) looks for a port that nobody uses, and
after other rows TIME_WAIT has most of them.
"""
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: a reset leaves no TIME_WAIT, which would use up the source's ports."""


def connect(address: tuple[str, int], source: str) -> socket.socket:
    """Connect from ``source``."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
    sock.connect(address)
    return sock


def hold(address: tuple[str, int], source: str, count: int) -> list[socket.socket]:
    """Return connections that are served."""
    socks = [connect(address, source) for _ in range(count)]
    for sock in socks:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    return socks


def flood(address: tuple[str, int], source: str) -> float:
    """Flood until standard input ends. Return the connections per second."""
    waiting: collections.deque[socket.socket] = collections.deque()
    began, count = time.monotonic(), 0
    while True:
        ahead_s = count / RATE - (time.monotonic() - began)
        if select.select([sys.stdin], [], [], max(0.0, ahead_s))[0]:
            break
        waiting.append(connect(address, source))
        count += 1
        if count == AHEAD:
            print("flooding", flush=True)
        if len(waiting) > AHEAD:
            waiting.popleft().close()
    return count / (time.monotonic() - began)


if __name__ == "__main__":
    server, home = ("127.0.0.1", int(sys.argv[1])), sys.argv[2]
    held = hold(server, home, int(sys.argv[3]))
    print(flood(server, home))
