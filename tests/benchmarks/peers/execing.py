"""Starts a program for each connection, in bare Python: ``python execing.py PORT
PROGRAM [user NAME | nice NUMBER]``.

It is execing.c in Python, as a short program would be written.
"""

import os
import pwd
import signal
import socket
import sys
from types import FrameType

BACKLOG = 4096


def reap(number: int, frame: FrameType | None) -> None:
    """Reap all dead children."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def become_nicer(number: str) -> None:
    """Add to the niceness of this process."""
    os.nice(int(number))


def become_user(name: str) -> None:
    """Become a user, with its own group only."""
    entry = pwd.getpwnam(name)
    os.setgroups([entry.pw_gid])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def become(sock: socket.socket, program: str, *change: str) -> None:
    """Become the program, with the connection as its standard descriptors."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for standard in range(3):
        os.dup2(sock.fileno(), standard)
    if change:
        {"user": become_user, "nice": become_nicer}[change[0]](change[1])
    os.execv(program, [program])  # noqa: S606 - no shell is meant


def serve(listener: socket.socket, *command: str) -> None:
    """Fork for each client, for ever."""
    while True:
        sock, _ = listener.accept()
        if os.fork() == 0:
            try:
                become(sock, *command)
            finally:
                os._exit(127)
        sock.close()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, reap)
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG) as opened:
        serve(opened, *sys.argv[2:])
