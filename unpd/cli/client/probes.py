"""The requests of a measurement on the wire, and their answers: over a stream and over
datagrams.

Made by ``measuring`` with a connected non-blocking socket, called by ``ping``. Errors:
OSError of send(2) and recv(2) as it is, and ClientFailure for the end of a stream.

A request has a token that tells this measurement from others, its number, and letters
up to its size. An answer is the same bytes. Whatever else comes is strange: over
datagrams it is counted, and over a stream, where nothing after it can be found again,
it ends the measurement.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Protocol

from unpd.cli.client import streams
from unpd.cli.client.datagrams import BUFFER_BYTES
from unpd.cli.client.failures import OTHER_BYTES, ClientFailure, not_a_server
from unpd.names import ClientExit

TOKEN_BYTES = 8
HEAD = struct.Struct("!8sQ")
MIN_SIZE = HEAD.size
MAX_SIZE = 1 << 20
TURN = 64
"""How many answers are taken in one turn, so that a flood does not stop the requests.
"""

STRANGE = 0
"""The number of what is no answer: requests begin at 1."""

_LETTERS = bytes(range(0x61, 0x7B))


class Coder:
    """Makes requests and reads answers. Pure."""

    def __init__(self, token: bytes, size: int) -> None:
        """``token``: 8 bytes; ``size``: of a request, from MIN_SIZE on."""
        self.size = size
        self._token = token
        self._filler = (_LETTERS * (size // len(_LETTERS) + 1))[: size - MIN_SIZE]

    def request(self, number: int) -> bytes:
        """Return the request with this number."""
        return HEAD.pack(self._token, number) + self._filler

    def number_of(self, answer: bytes) -> int:
        """Return the number of the request that this is the answer to, or STRANGE."""
        if len(answer) != self.size or answer[MIN_SIZE:] != self._filler:
            return STRANGE
        token, number = HEAD.unpack_from(answer)
        return number if token == self._token else STRANGE


class Probe(Protocol):
    """A way to send requests."""

    sock: socket.socket

    @property
    def busy(self) -> bool:
        """Whether bytes of a request still wait to be sent."""

    def send(self, number: int) -> None:
        """Send a request, or begin to; not while the last one waits. OSError."""

    def flush(self) -> None:
        """Send what waits, as far as there is room. OSError."""

    def receive(self) -> Iterator[int]:
        """Yield the numbers of the answers that have come, STRANGE for others. OSError,
        ClientFailure.
        """


class DatagramProbe:
    """Requests as datagrams."""

    busy = False

    def __init__(self, sock: socket.socket, coder: Coder) -> None:
        self.sock = sock
        self._coder = coder

    def send(self, number: int) -> None:
        """Send one datagram. OSError, also if the queue of a UNIX receiver is full."""
        self.sock.send(self._coder.request(number))

    def flush(self) -> None:
        """Do nothing: a datagram is sent whole or not at all."""

    def receive(self) -> Iterator[int]:
        """Yield the numbers of up to TURN datagrams."""
        for _ in range(TURN):
            try:
                answer = self.sock.recv(BUFFER_BYTES)
            except BlockingIOError:
                return
            yield self._coder.number_of(answer)


class StreamProbe:
    """Requests one after the other in a stream."""

    def __init__(self, sock: socket.socket, coder: Coder) -> None:
        self.sock = sock
        self._coder = coder
        self._unsent = bytearray()
        self._received = bytearray()
        self._last = 0

    @property
    def busy(self) -> bool:
        """Whether bytes of a request still wait to be sent."""
        return bool(self._unsent)

    def send(self, number: int) -> None:
        """Begin to send a request. OSError."""
        self._unsent += self._coder.request(number)
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room. OSError."""
        try:
            with memoryview(self._unsent) as view:
                sent_bytes = self.sock.send(view) if view else 0
        except BlockingIOError:
            return
        del self._unsent[:sent_bytes]

    def receive(self) -> Iterator[int]:
        """Yield the numbers of the answers that are complete; they come in order.
        ClientFailure if the server closes or sends what is no answer.
        """
        try:
            chunk = self.sock.recv(streams.CHUNK_BYTES)
        except BlockingIOError:
            return
        if not chunk and not self._coder.request(self._last + 1).startswith(self._received):
            raise not_a_server("echo", OTHER_BYTES)
        if not chunk:
            raise ClientFailure(ClientExit.CLOSED_EARLY, "server terminated prematurely")
        self._received += chunk
        while len(self._received) >= self._coder.size:
            number = self._coder.number_of(bytes(self._received[: self._coder.size]))
            if number != self._last + 1:
                raise not_a_server("echo", OTHER_BYTES)
            del self._received[: self._coder.size]
            self._last = number
            yield number


def new_token() -> bytes:
    """Return a token that no other measurement has."""
    return os.urandom(TOKEN_BYTES)
