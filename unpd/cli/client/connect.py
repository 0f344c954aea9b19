"""From HOST and PORT to a connected, non-blocking socket: look the name up, then try
its addresses in turn (UNP 11.12).

Called by ``command``. Errors: ClientFailure, which names every address that was tried.

The timeout bounds the look-up, and each attempt anew: an address that does not answer
must not use up the time of the next one. getaddrinfo(3) cannot be interrupted, so it
runs in a thread, which the client leaves behind when the time is over. This process
never forks.
"""

import errno
import functools
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from unpd.cli.client import streams
from unpd.cli.client.failures import ClientFailure, failure_of, reason_of
from unpd.names import ClientExit

UNIX_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Target:
    """The server that the user named. ``port`` is None if ``host`` is the path of a
    UNIX socket.
    """

    host: str
    port: int | None

    @property
    def text(self) -> str:
        """The target as a message names it."""
        return self.host if self.port is None else f"{self.host} port {self.port}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address to try, as socket(2) and connect(2) take it."""

    family: int
    address: Any

    @property
    def text(self) -> str:
        """The address alone, as numbers or a path."""
        return self.address if isinstance(self.address, str) else str(self.address[0])


def usage_problem(host: str, port: int | None) -> str | None:
    """Return a sentence about the fault of this pair, or None if it has none."""
    if "/" not in host:
        return None
    if port is not None:
        return f"{host} is the path of a UNIX socket, which has no port"
    if len(os.fsencode(host)) > UNIX_PATH_BYTES:
        return f"{host} is too long for the path of a UNIX socket: at most {UNIX_PATH_BYTES} bytes"
    return None


def connect(target: Target, timeout_s: float | None) -> socket.socket:
    """Return a connected non-blocking socket. ClientFailure if no address accepts: it
    names all of them, and has the exit code of the last one.
    """
    return connect_any(target, find(target, timeout_s), timeout_s)


def connect_any(
    target: Target, candidates: tuple[Candidate, ...], timeout_s: float | None
) -> socket.socket:
    """Try the candidates (at least one) in turn; errors as for :func:`connect`."""
    failed: list[tuple[Candidate, OSError]] = []
    for candidate in candidates:
        try:
            return _attempt(candidate, timeout_s)
        except OSError as error:
            failed.append((candidate, error))
    raise failure_of(failed[-1][1], _tried(target, failed))


def find(target: Target, timeout_s: float | None) -> tuple[Candidate, ...]:
    """Return the addresses of ``target``, in the order of RFC 6724. ClientFailure
    (NAME_NOT_FOUND) if the name has none.
    """
    if target.port is None:
        return (Candidate(socket.AF_UNIX, target.host),)
    name = _wire_name(target.host)
    try:
        return _resolve(name, target.port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return look_up(functools.partial(_resolve, name, target.port, 0), timeout_s)


def look_up(
    resolve: Callable[[], tuple[Candidate, ...]], timeout_s: float | None
) -> tuple[Candidate, ...]:
    """Return what ``resolve`` finds. ClientFailure (NAME_NOT_FOUND) if it finds nothing
    or is not done in time; a call that is still under way then ends with the process.
    """
    answers: queue.SimpleQueue[tuple[Candidate, ...] | OSError] = queue.SimpleQueue()

    def put_answer() -> None:
        try:
            answers.put(resolve())
        except OSError as error:
            answers.put(error)

    threading.Thread(target=put_answer, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise ClientFailure(
            ClientExit.NAME_NOT_FOUND, "name not found", "the resolver did not answer in time"
        ) from None
    if isinstance(answer, OSError):
        raise _not_found(answer)
    return answer


def is_connected_to_itself(sock: socket.socket) -> bool:
    """Return True if TCP connected the socket to its own port. On loopback that
    happens when connect(2) picks a port without a listener as its own source.
    """
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False  # reset meanwhile: the first recv gives the error


def _wire_name(host: str) -> bytes:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return bare.encode("ascii" if bare.isascii() else "idna")
    except UnicodeError as error:
        raise ClientFailure(
            ClientExit.NAME_NOT_FOUND, "name not found", f"not a possible name: {error}"
        ) from error


def _resolve(name: bytes, port: int, flags: int) -> tuple[Candidate, ...]:
    found = socket.getaddrinfo(
        name, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICSERV
    )
    return tuple(Candidate(family, address) for family, _, _, _, address in found)


def _not_found(error: OSError) -> ClientFailure:
    silent = "the resolver did not answer: " if error.errno == socket.EAI_AGAIN else ""
    return ClientFailure(ClientExit.NAME_NOT_FOUND, "name not found", silent + reason_of(error))


def _attempt(candidate: Candidate, timeout_s: float | None) -> socket.socket:
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket(candidate.family, socket.SOCK_STREAM))
        if candidate.family == socket.AF_UNIX:
            _connect_unix(sock, candidate.address, timeout_s)
        else:
            _connect_tcp(sock, candidate.address, timeout_s)
        sock.setblocking(False)
        stack.pop_all()
        return sock


def _connect_unix(sock: socket.socket, path: str, timeout_s: float | None) -> None:
    """Connect a blocking socket. Only a blocking connect to a UNIX socket waits for
    room in the accept queue; a non-blocking one is EAGAIN at once (connect(2)).
    SO_SNDTIMEO bounds the wait (socket(7)).
    """
    if timeout_s is not None:
        whole_s = int(timeout_s)
        sock.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_SNDTIMEO,
            struct.pack("ll", whole_s, max(int((timeout_s - whole_s) * 1e6), 1)),
        )
    try:
        sock.connect(path)
    except BlockingIOError:
        raise _no_answer(timeout_s) from None


def _connect_tcp(sock: socket.socket, address: Any, timeout_s: float | None) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        if not streams.wait({sock.fileno(): streams.WRITABLE}, timeout_s):
            raise _no_answer(timeout_s)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
    if is_connected_to_itself(sock):
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, "no process listens there: the socket met itself"
        )


def _no_answer(timeout_s: float | None) -> OSError:
    return TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout_s:g} s")


def _tried(target: Target, failed: list[tuple[Candidate, OSError]]) -> str:
    """Return the addresses with their reasons, or the reason alone if the user named
    the address.
    """
    if len(failed) == 1 and failed[0][0].text == target.host:
        return reason_of(failed[0][1])
    return "tried " + ", then ".join(
        f"{candidate.text}: {reason_of(error)}" for candidate, error in failed
    )
