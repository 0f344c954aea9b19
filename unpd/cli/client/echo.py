"""The clients that send standard input over a stream: echo (RFC 862), discard (RFC 863)
and a service behind tcpmux, after UNP chapter 6: one wait on standard input and the
socket, so that it sees the end of either while the other is silent (tcpcli01 with the
str_cli of figure 6.13, with poll in place of select).

Called by ``command`` with a connected non-blocking socket. Errors: ClientFailure,
OutputClosed. Theory of operation:

- The socket is always read. Standard input is read while fewer than
  ``HIGH_MARK_BYTES`` wait to be sent, so memory is bounded.
- At the end of standard input, when everything is sent, the client half-closes and
  reads on. Then the server's close is the good end. Before that, or with bytes missing,
  it is a premature one. More bytes than the client sent end it at once: such a server
  may talk on for ever. A service behind tcpmux may close when it likes.
- When send(2) fails because the connection is broken, the client reads on: it prints
  what had arrived, and then the read (or the end) gives the reason.
- The timeout runs only while the server owes something: bytes to come back, room for
  the bytes that wait to be sent, or its close. Only the server makes progress (bytes
  that came, room that it made). So typing into a dead connection does not put the
  timeout off, and a user who thinks does not run into it.

Known gap: bytes are counted, and compared only where the server ends too early, up to
COMPARED_BYTES. Until the half-close, the client prints whatever the server sends, also
if it is not an echo server; on a terminal, control characters are escaped.
"""

import enum
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from unpd.cli.client import streams
from unpd.cli.client.failures import (
    OTHER_BYTES,
    ClientFailure,
    failure_of,
    not_a_server,
)
from unpd.cli.client.framing import Framing
from unpd.names import ClientExit

HIGH_MARK_BYTES = 262_144
COMPARED_BYTES = 512
"""How many bytes from the start tell an echo that breaks off from another protocol."""


class Expected(enum.Enum):
    """What the server sends; the value is its name in a message."""

    THE_SAME = "echo"
    NOTHING = "discard"
    ANYTHING = ""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of an exchange: the server's socket, the descriptor of the user's
    input, and the user's output.
    """

    sock: socket.socket
    input_fd: int
    output: streams.Output


class Exchange:
    """One exchange with a server that does what is ``expected``."""

    __slots__ = (
        "_broken",
        "_ended",
        "_endpoints",
        "_expected",
        "_framing",
        "_half_closed",
        "_input_open",
        "_offered",
        "_offered_bytes",
        "_owed_since",
        "_received",
        "_received_bytes",
        "_timeout_s",
        "_unsent",
    )

    def __init__(
        self,
        endpoints: Endpoints,
        framing: Framing,
        timeout_s: float | None,
        expected: Expected = Expected.THE_SAME,
    ) -> None:
        self._endpoints = endpoints
        self._expected = expected
        self._framing = framing
        self._timeout_s = timeout_s
        self._unsent = bytearray()
        self._offered_bytes = 0
        self._received_bytes = 0
        self._offered = bytearray()
        self._received = bytearray()
        self._input_open = True
        self._half_closed = False
        self._ended = False
        self._broken: OSError | None = None
        self._owed_since: float | None = None

    def run(self) -> None:
        """Send and receive until the server has returned everything and closed.
        ClientFailure or OutputClosed.
        """
        while not self._ended:
            self._turn()

    def _turn(self) -> None:
        ready = self._wait()
        streams.check_output(ready.get(self._endpoints.output.fd, 0))
        had_unsent = bool(self._unsent)
        received = self._endpoints.sock.fileno() in ready and self._receive()
        if self._endpoints.input_fd in ready:
            self._take_input()
        sent = self._send()
        self._half_close()
        self._note_progress(progressed=received or (sent and had_unsent))

    def _wait(self) -> dict[int, int]:
        interests = {
            self._endpoints.output.fd: streams.WATCHED,
            self._endpoints.sock.fileno(): streams.READABLE
            | (streams.WRITABLE if self._unsent else 0),
        }
        if self._input_open and len(self._unsent) < HIGH_MARK_BYTES:
            interests[self._endpoints.input_fd] = streams.READABLE
        ready = streams.wait(interests, self._remaining_s())
        if not ready:
            raise ClientFailure(
                ClientExit.TIMED_OUT,
                "timed out",
                f"no progress for {self._timeout_s:g} s; {self._missing_text()}",
            )
        return ready

    def _remaining_s(self) -> float | None:
        if self._timeout_s is None or self._owed_since is None:
            return None
        return self._owed_since + self._timeout_s - time.monotonic()

    def _receive(self) -> bool:
        try:
            chunk = self._endpoints.sock.recv(streams.CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            raise failure_of(error, self._missing_text()) from error
        if not chunk:
            self._end()
        self._received_bytes += len(chunk)
        self._received += chunk[: COMPARED_BYTES - len(self._received)]
        self._endpoints.output.write(chunk)
        if self._half_closed:  # it owes only its close now, and may talk on for ever
            self._refuse_surplus()
        return True

    def _refuse_surplus(self) -> None:
        if self._missing_bytes() < 0:
            raise not_a_server(
                self._expected.value,
                f"it sent {self._received_bytes} bytes for {self._offered_bytes}",
            )

    def _end(self) -> None:
        self._ended = True
        if self._broken is not None:
            raise failure_of(self._broken, self._missing_text())
        self._refuse_surplus()
        if self._expected is Expected.ANYTHING:
            return
        if not self._half_closed or self._missing_bytes() > 0:
            if not self._offered.startswith(self._received):
                raise not_a_server(self._expected.value, OTHER_BYTES)
            raise ClientFailure(
                ClientExit.CLOSED_EARLY, "server terminated prematurely", self._missing_text()
            )

    def _take_input(self) -> None:
        chunk = streams.read_input(self._endpoints.input_fd)
        if chunk is None:
            return
        self._input_open = bool(chunk)
        framed = self._framing.feed(chunk) if chunk else self._framing.finish()
        self._unsent += framed
        self._offered_bytes += len(framed)
        self._offered += framed[: COMPARED_BYTES - len(self._offered)]

    def _send(self) -> bool:
        if not self._unsent:
            return False
        try:
            with memoryview(self._unsent) as view:
                sent_bytes = self._endpoints.sock.send(view)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError) as error:
            self._stop_sending(error)
            return False
        except OSError as error:
            raise failure_of(error, self._missing_text()) from error
        del self._unsent[:sent_bytes]
        return sent_bytes > 0

    def _stop_sending(self, error: OSError) -> None:
        self._broken = error
        self._input_open = False
        self._unsent.clear()

    def _half_close(self) -> None:
        if self._input_open or self._unsent or self._half_closed or self._ended:
            return
        self._half_closed = True
        with suppress(OSError):  # ENOTCONN: the next read gives the reason
            self._endpoints.sock.shutdown(socket.SHUT_WR)

    def _note_progress(self, *, progressed: bool) -> None:
        owed = bool(self._unsent) or self._half_closed or self._missing_bytes() > 0
        if not owed:
            self._owed_since = None
        elif progressed or self._owed_since is None:
            self._owed_since = time.monotonic()

    def _missing_bytes(self) -> int:
        if self._expected is Expected.ANYTHING:
            return 0
        owed_bytes = self._offered_bytes if self._expected is Expected.THE_SAME else 0
        return owed_bytes - self._received_bytes

    def _missing_text(self) -> str:
        if self._expected is not Expected.THE_SAME:
            return f"{len(self._unsent)} of {self._offered_bytes} bytes were not sent"
        return f"{max(self._missing_bytes(), 0)} of {self._offered_bytes} bytes are missing"
