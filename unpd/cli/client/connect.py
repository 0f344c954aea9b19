"""From a target to a connected, non-blocking stream socket: look the name up, then try
its addresses in turn (UNP 11.12).

Called by ``command`` and ``measuring``, and for the look-up by ``datagrams``. Errors:
ClientFailure, which names every address that was tried.

The timeout bounds the look-up, and each attempt anew: an address that does not answer
must not use up the time of the next one. getaddrinfo(3) cannot be interrupted, so it
runs in a thread, which the client leaves behind when the time is over. This process
never forks.
"""

import errno
import functools
import os
import queue
import re
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from unpd.cli.client import streams
from unpd.cli.client.failures import ClientFailure, failure_of, reason_of
from unpd.cli.client.targets import Target
from unpd.names import ClientExit


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address to try, as socket(2) and connect(2) take it."""

    family: int
    address: Any

    @property
    def text(self) -> str:
        """The address alone, as numbers or a path."""
        if self.family == socket.AF_UNIX:
            return str(self.address).replace("\0", "@")
        return str(self.address[0])


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
    raise failure_of(failed[-1][1], tried(target, failed))


def find(target: Target, timeout_s: float | None) -> tuple[Candidate, ...]:
    """Return the addresses of ``target``, in the order of RFC 6724. ClientFailure
    (NAME_NOT_FOUND) if the name has none, (UNREACHABLE) if its interface is missing.
    """
    if target.port is None:
        return (Candidate(socket.AF_UNIX, re.sub("^@", "\0", target.host)),)
    name = _wire_name(target.host)
    try:
        return _resolve(target, name, socket.AI_NUMERICHOST)
    except socket.gaierror:
        _require_interface(target.host)
        return look_up(functools.partial(_resolve, target, name, 0), timeout_s)


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


def _require_interface(host: str) -> None:
    """Raise ClientFailure if ``host`` is an IPv6 address on an interface that this
    machine lacks.
    """
    address, percent, interface = host.strip("[]").partition("%")
    if percent and ":" in address:
        try:
            socket.if_nametoindex(interface)
        except (OSError, ValueError):
            raise ClientFailure(
                ClientExit.UNREACHABLE, "unreachable", f"there is no interface {interface}"
            ) from None


def _resolve(target: Target, name: bytes, flags: int) -> tuple[Candidate, ...]:
    kind = socket.SOCK_DGRAM if target.datagrams else socket.SOCK_STREAM
    found = socket.getaddrinfo(name, target.port, type=kind, flags=flags | socket.AI_NUMERICSERV)
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


def tried(target: Target, failed: list[tuple[Candidate, OSError]]) -> str:
    """Return the addresses with their reasons, or the reason alone if the user named
    the address.
    """
    if len(failed) == 1 and failed[0][0].text == target.host:
        return reason_of(failed[0][1])
    return "tried " + ", then ".join(
        f"{candidate.text}: {reason_of(error)}" for candidate, error in failed
    )
