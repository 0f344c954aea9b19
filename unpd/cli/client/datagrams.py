"""Datagram sockets of the clients: connected, so that the kernel takes answers from the
server's address alone and reports its ICMP errors (UNP 8.11).

Called by ``command``, ``measuring``, ``ping`` and ``lines``. Calls ``connect`` for the
addresses of a name. Errors: ClientFailure, OutputClosed, and OSError where a function
says so.

Nothing is sent twice: a lost datagram, or a lost answer, is a timeout (UNP 8.7). The
kernel sets "don't fragment" while a datagram fits what it knows of the path, and sends
fragments otherwise (IP_PMTUDISC_WANT, ip(7)).
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from unpd.cli.client import streams
from unpd.cli.client.connect import Candidate, find, tried
from unpd.cli.client.failures import ClientFailure, failure_of
from unpd.cli.client.targets import Target
from unpd.names import ClientExit

BUFFER_BYTES = 1 << 18
"""More than any datagram has: an answer is never cut."""

_IP_MTU = 14
_IPV6_MTU = 24
# From <linux/in.h> and <linux/in6.h>: Python's socket module lacks them.


T = TypeVar("T")
Talk = Callable[[socket.socket, Candidate, bool], T]
"""Talks over one socket: the socket, its address, and whether there are more addresses.
An OSError means: try the next address.
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its bytes, and the wall clock when it was asked for, in seconds."""

    text: bytes
    asked_wall_s: float


def open_connected(candidate: Candidate) -> socket.socket:
    """Return a connected, non-blocking socket. OSError.

    A UNIX socket gets an abstract name of the kernel (unix(7), autobind): without a
    name no server could answer it.
    """
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(candidate.family, socket.SOCK_DGRAM))
        sock.setblocking(False)
        if candidate.family == socket.AF_UNIX:
            sock.bind("")
        sock.connect(candidate.address)
        stack.pop_all()
        return sock


def with_each(target: Target, candidates: tuple[Candidate, ...], talk: Talk[T]) -> T:
    """Have ``talk`` use a socket for each address of ``target`` in turn, until it
    raises no OSError, and return its result. ClientFailure, with the exit code of the
    last address.
    """
    failed: list[tuple[Candidate, OSError]] = []
    for candidate in candidates:
        try:
            with open_connected(candidate) as sock:
                return talk(sock, candidate, candidate is not candidates[-1])
        except OSError as error:
            failed.append((candidate, error))
    raise datagram_failure(failed[-1][1], tried(target, failed))


def ask(target: Target, request: bytes, output_fd: int, timeout_s: float | None) -> Answer:
    """Send ``request`` to each address of ``target`` in turn, until one answers.
    ClientFailure; OutputClosed if the reader of ``output_fd`` has gone meanwhile.
    """

    def ask_once(sock: socket.socket, candidate: Candidate, others: bool) -> Answer:
        del candidate, others
        asked_wall_s = time.time()
        wait_for_room(sock, timeout_s)
        sock.send(request)
        interests = {sock.fileno(): streams.READABLE, output_fd: streams.WATCHED}
        ready = streams.wait(interests, timeout_s)
        if not ready:
            raise TimeoutError(errno.ETIMEDOUT, f"nothing came for {timeout_s:g} s")
        streams.check_output(ready.get(output_fd, 0))
        return Answer(sock.recv(BUFFER_BYTES), asked_wall_s)

    return with_each(target, find(target, timeout_s), ask_once)


def wait_for_room(sock: socket.socket, timeout_s: float | None) -> None:
    """Wait until a datagram can be sent: the queue of a UNIX receiver may be full.
    TimeoutError.
    """
    if not streams.wait({sock.fileno(): streams.WRITABLE}, timeout_s):
        raise TimeoutError(errno.ETIMEDOUT, "the server's queue is full")


def datagram_failure(error: OSError, detail: str) -> ClientFailure:
    """Return the failure for an error of a datagram socket: ICMP in words."""
    if error.errno == errno.ECONNREFUSED:
        return ClientFailure(ClientExit.REFUSED, "refused: no process receives there", detail)
    if error.errno == errno.EAGAIN:
        return ClientFailure(ClientExit.TIMED_OUT, "timed out: the server's queue is full", detail)
    if error.errno == errno.EMSGSIZE:
        return ClientFailure(ClientExit.FAILED, "the datagram is too long", detail)
    return failure_of(error, detail)


def trouble_of(sock: socket.socket, error: OSError) -> str:
    """Return the words for an error that a single datagram met on its way. The next one
    may meet none: a connected socket reports each ICMP error once (udp(7)).
    """
    if error.errno == errno.ECONNREFUSED:
        return "refused, because no process receives there"
    if error.errno == errno.EAGAIN:
        return "not sent, because the server's queue is full"
    if error.errno == errno.EMSGSIZE:
        return f"too long for a datagram{_path_text(sock)}"
    return error.strerror or os.strerror(error.errno or 0)


def _path_text(sock: socket.socket) -> str:
    level, option = (
        (socket.IPPROTO_IPV6, _IPV6_MTU)
        if sock.family == socket.AF_INET6
        else (socket.IPPROTO_IP, _IP_MTU)
    )
    try:
        return f" (the path takes {sock.getsockopt(level, option)} bytes with headers)"
    except OSError:
        return ""
