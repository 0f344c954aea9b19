"""Functions of a service of type python, for its tests: each does one deed of honest
and of faulty ones.

The daemon imports this module in its dispatcher. So it imports nothing of the tests.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable


def serve(sock: socket.socket) -> None:
    """Do what the client asks for in its first line."""
    DEEDS[_line(sock)](sock)


def _line(sock: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n") and (byte := sock.recv(1)):
        line += byte
    return line.decode().strip()


def upper(sock: socket.socket) -> None:
    """Answer in upper case."""
    while piece := sock.recv(4096):
        sock.sendall(piece.upper())


def tell(sock: socket.socket) -> None:
    """Tell what this process is."""
    with open("/proc/self/status") as status:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
    found = {
        "pid": os.getpid(),
        "uid": os.getresuid(),
        "gid": os.getresgid(),
        "groups": os.getgroups(),
        "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "directory": os.getcwd(),
        "nice": os.nice(0),
        "umask": lines["Umask"],
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            for name in ("NOFILE", "NPROC", "CPU", "AS", "CORE")
        },
        "blocking": sock.getblocking(),
        "socket": sock.fileno(),
        "environment": dict(os.environ),
        "signals": {name: value for name, value in lines.items() if name.startswith("Sig")},
        "fds": fds,
        "path": sys.path[:1],
    }
    sock.sendall(json.dumps(found).encode())


def fail(sock: socket.socket) -> None:
    """Raise an exception."""
    raise ValueError("on purpose")


def say(sock: socket.socket) -> None:
    """Print."""
    print("said on standard output")
    print("said on standard error", file=sys.stderr)
    print("said last", end="")


def leave(sock: socket.socket) -> None:
    """Answer, and return without closing, and without reading what comes."""
    sock.sendall(b"farewell")


def leave_much(sock: socket.socket) -> None:
    """Do the same with an answer that fills the queue of the socket."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
    sock.sendall(b"farewell" * 15_000)


def close(sock: socket.socket) -> None:
    """Answer, close, and go on for a moment."""
    sock.sendall(b"closed")
    sock.close()


def stay(sock: socket.socket) -> None:
    """Never return."""
    sock.sendall(b"here\n")
    while True:
        time.sleep(60)


def defy(sock: socket.socket) -> None:
    """Never return, not even on SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay(sock)


def fork(sock: socket.socket) -> None:
    """Return twice."""
    if os.fork():
        os.wait()
    sock.sendall(b"%d\n" % os.getpid())


def thread(sock: socket.socket) -> None:
    """Leave a thread behind."""
    threading.Thread(target=time.sleep, args=(60,)).start()
    sock.sendall(b"started")


def leave_text(sock: socket.socket) -> None:
    """Exit with a text."""
    sys.exit("no way")


DEEDS: dict[str, Callable[[socket.socket], None]] = {
    function.__name__: function
    for function in (
        *(upper, tell, fail, say, leave, leave_much),
        *(close, stay, defy, fork, thread, leave_text),
    )
}
DEEDS |= {
    "exit 0": lambda _: sys.exit(),
    "exit 3": lambda _: sys.exit(3),
    "_exit 4": lambda _: os._exit(4),
    "die": lambda _: os.kill(os.getpid(), signal.SIGKILL),
}
