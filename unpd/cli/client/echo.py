"""The echo client (RFC 862), after UNP chapter 6: one wait on standard input and the
socket, so that the end of either is seen while the other is silent.

Called by ``command`` with a connected non-blocking socket. Theory of operation:

- The socket is always read. Standard input is read while less than ``HIGH_MARK_BYTES``
wait to be sent, so memory is bounded.
- At the end of standard input, when all is sent, the client half-closes and reads on.
The server's close is then the good end; before, or with bytes
  missing, it is a premature one.
- When send(2) fails because the connection is broken, the client reads on: what had
arrived is printed first, and the read (or the end) says how it ended.
- The time-out runs only while the server owes something: bytes to come back, room for
what waits to be sent, or its close. Progress is what the server
  does (bytes that came, room that it made), so that typing into a dead connection does
  not put the time-out off, and a user who thinks is not one.

Known gap: bytes are counted, not compared; what a server that is no echo server says is
printed all the same.
"""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from unpd.cli.client import streams
from unpd.cli.client.failures import ClientFailure, failure_of, reason_of
from unpd.cli.client.framing import Framing
from unpd.names import ClientExit

HIGH_MARK_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Ends:
    """What a talk joins: the server's socket, and the descriptors of the user's input
    and output.
    """

    sock: socket.socket
    input_fd: int
    output_fd: int


class Talk:
    """One conversation with an echo server."""

    __slots__ = (
        "_broken",
        "_ended",
        "_ends",
        "_framing",
        "_half_closed",
        "_input_open",
        "_offered_bytes",
        "_owed_since",
        "_received_bytes",
        "_timeout_s",
        "_unsent",
    )

    def __init__(self, ends: Ends, framing: Framing, timeout_s: float | None) -> None:
        self._ends = ends
        self._framing = framing
        self._timeout_s = timeout_s
        self._unsent = bytearray()
        self._offered_bytes = 0
        self._received_bytes = 0
        self._input_open = True
        self._half_closed = False
        self._ended = False
        self._broken: OSError | None = None
        self._owed_since: float | None = None

    def run(self) -> None:
        """Talks until the server has given everything back and closed; raises
        ClientFailure or OutputGone.
        """
        while not self._ended:
            self._turn()

    def _turn(self) -> None:
        ready = self._wait()
        streams.check_output(ready.get(self._ends.output_fd, 0))
        had_unsent = bool(self._unsent)
        received = self._ends.sock.fileno() in ready and self._receive()
        if self._ends.input_fd in ready:
            self._take_input()
        sent = self._send()
        self._half_close()
        self._stamp(progressed=received or (sent and had_unsent))

    def _wait(self) -> dict[int, int]:
        interests = {
            self._ends.output_fd: streams.WATCHED,
            self._ends.sock.fileno(): streams.READABLE | (streams.WRITABLE if self._unsent else 0),
        }
        if self._input_open and len(self._unsent) < HIGH_MARK_BYTES:
            interests[self._ends.input_fd] = streams.READABLE
        ready = streams.wait(interests, self._patience_s())
        if not ready:
            raise ClientFailure(
                ClientExit.TIMED_OUT,
                "timed out",
                f"no progress for {self._timeout_s:g} s; {self._account()}",
            )
        return ready

    def _patience_s(self) -> float | None:
        if self._timeout_s is None or self._owed_since is None:
            return None
        return self._owed_since + self._timeout_s - time.monotonic()

    def _receive(self) -> bool:
        try:
            chunk = self._ends.sock.recv(streams.CHUNK_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            raise failure_of(error, self._account()) from error
        if not chunk:
            self._end()
        self._received_bytes += len(chunk)
        streams.write_output(self._ends.output_fd, chunk)
        return True

    def _end(self) -> None:
        self._ended = True
        if self._broken is not None:
            raise failure_of(self._broken, self._account())
        if self._missing_bytes() < 0:
            raise ClientFailure(
                ClientExit.FAILED,
                "this is no echo server",
                f"it sent {self._received_bytes} bytes for {self._offered_bytes}",
            )
        if not self._half_closed or self._missing_bytes() > 0:
            raise ClientFailure(
                ClientExit.CLOSED_EARLY, "server terminated prematurely", self._account()
            )

    def _take_input(self) -> None:
        try:
            chunk = os.read(self._ends.input_fd, streams.CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise ClientFailure(
                ClientExit.FAILED, "standard input cannot be read", reason_of(error)
            ) from error
        self._input_open = bool(chunk)
        framed = self._framing.feed(chunk) if chunk else self._framing.finish()
        self._unsent += framed
        self._offered_bytes += len(framed)

    def _send(self) -> bool:
        if not self._unsent:
            return False
        try:
            with memoryview(self._unsent) as view:
                sent_bytes = self._ends.sock.send(view)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError) as error:
            self._stop_sending(error)
            return False
        except OSError as error:
            raise failure_of(error, self._account()) from error
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
        with suppress(
            OSError
        ):  # ENOTCONN: the connection is gone already, and the next read says how
            self._ends.sock.shutdown(socket.SHUT_WR)

    def _stamp(self, *, progressed: bool) -> None:
        owed = bool(self._unsent) or self._half_closed or self._missing_bytes() > 0
        if not owed:
            self._owed_since = None
        elif progressed or self._owed_since is None:
            self._owed_since = time.monotonic()

    def _missing_bytes(self) -> int:
        return self._offered_bytes - self._received_bytes

    def _account(self) -> str:
        return f"{max(self._missing_bytes(), 0)} of {self._offered_bytes} bytes are missing"
