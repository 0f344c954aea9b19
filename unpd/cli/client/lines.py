"""Echo and discard over datagrams, after UNP's udpcli01 and figure 8.17: each line of
standard input is a datagram, and one wait sees the input, the answers and the ICMP
errors.

Called by ``command`` with a connected non-blocking socket. Errors: ClientFailure,
OutputClosed; OSError if the first datagram found no server, so that the next address
can be tried: ``run`` sends it again there.

The next line is sent when the one before is answered. Nothing is sent twice: a lost
datagram ends the client with a timeout (UNP 8.7). Discard sends at once and waits for
nothing but an error: it cannot know what arrived.

Known gap: answers are counted, not compared. A duplicate counts for the next line.
"""

import socket
import time
from collections import deque
from dataclasses import dataclass

from unpd.cli.client import streams
from unpd.cli.client.datagrams import BUFFER_BYTES, datagram_failure
from unpd.cli.client.failures import ClientFailure
from unpd.cli.client.framing import Framing
from unpd.cli.client.targets import MAX_UDP_BYTES
from unpd.names import ClientExit

REFUSAL_S = 0.5
"""How long discard waits after its last datagram for the news that nobody receives."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What the client reads and writes besides the socket: the descriptor of the user's
    input, and the user's output.
    """

    input_fd: int
    output: streams.Output


class LineDatagrams:
    """One run of the client, over all addresses that it tries."""

    def __init__(
        self, ends: Ends, framing: Framing, timeout_s: float | None, *, answered: bool
    ) -> None:
        """``answered``: whether the server answers each datagram, as echo does."""
        self._ends = ends
        self._framing = framing
        self._timeout_s = timeout_s
        self._answered = answered
        self._waiting: deque[bytes] = deque()
        self._last = b""
        self._sent = 0
        self._answers = 0
        self._input_open = True
        self._owed_since: float | None = None

    def run(self, sock: socket.socket) -> None:
        """Send the input and print the answers, to the end of both."""
        try:
            while self._input_open or self._waiting or self._owed():
                self._turn(sock)
            if not self._answered:
                self._wait_for_refusal(sock)
        except OSError as error:
            if self._sent == 1 and not self._answers:
                self._sent = 0
                self._waiting.appendleft(self._last)
                self._owed_since = None
                raise
            raise datagram_failure(error, self._missing_text()) from error

    def _owed(self) -> bool:
        return self._answered and self._answers < self._sent

    def _turn(self, sock: socket.socket) -> None:
        sends = bool(self._waiting) and not self._owed()
        interests = {
            self._ends.output.fd: streams.WATCHED,
            sock.fileno(): streams.READABLE | (streams.WRITABLE if sends else 0),
        }
        if self._input_open and not self._waiting:
            interests[self._ends.input_fd] = streams.READABLE
        if (sends or self._owed()) and self._owed_since is None:
            self._owed_since = time.monotonic()
        ready = streams.wait(interests, self._remaining_s())
        if not ready:
            raise ClientFailure(
                ClientExit.TIMED_OUT,
                "timed out",
                f"nothing came for {self._timeout_s:g} s; {self._missing_text()}",
            )
        streams.check_output(ready.get(self._ends.output.fd, 0))
        events = ready.get(sock.fileno(), 0)
        if events & ~streams.WRITABLE:
            self._receive(sock)
        if events & streams.WRITABLE and self._waiting:
            self._send(sock)
        if self._ends.input_fd in ready:
            self._take_input()

    def _remaining_s(self) -> float | None:
        if self._timeout_s is None or self._owed_since is None:
            return None
        return self._owed_since + self._timeout_s - time.monotonic()

    def _receive(self, sock: socket.socket) -> None:
        try:
            answer = sock.recv(BUFFER_BYTES)
        except BlockingIOError:
            return
        self._answers += 1
        self._owed_since = None
        self._ends.output.write(answer)

    def _send(self, sock: socket.socket) -> None:
        try:
            sock.send(self._waiting[0])
        except BlockingIOError:
            return
        self._last = self._waiting.popleft()
        self._sent += 1
        self._owed_since = None

    def _take_input(self) -> None:
        chunk = streams.read_input(self._ends.input_fd)
        if chunk is None:
            return
        self._input_open = bool(chunk)
        framed = self._framing.feed(chunk) if chunk else self._framing.finish()
        self._waiting += self._framing.cut(framed, MAX_UDP_BYTES)

    def _wait_for_refusal(self, sock: socket.socket) -> None:
        """Wait a moment for the ICMP error about the last datagram. OSError."""
        if self._sent and streams.wait({sock.fileno(): streams.READABLE}, REFUSAL_S):
            sock.recv(BUFFER_BYTES)

    def _missing_text(self) -> str:
        if not self._answered:
            return f"{self._sent} datagrams were sent"
        return f"{self._sent - self._answers} of {self._sent} datagrams got no answer"
