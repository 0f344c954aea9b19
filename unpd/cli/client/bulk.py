"""``echo --bulk``: sends for some seconds as fast as the server takes it, and counts
what comes back.

Called by ``measuring`` with a connected non-blocking socket; ``report`` has the words.
Errors: ClientFailure, OutputClosed; OSError over datagrams if nothing has come yet.
Bytes are counted, not compared.

Over a stream, the end of the sending is a half-close, and the server's close the end of
all. Over datagrams the client keeps a window: so many are under way at most, because
UDP has no flow control, and a flood would measure only how many are lost. What has not
come back after ``STALL_NS`` counts as lost.
"""

import socket
import time
from contextlib import suppress

from unpd.cli.client import streams
from unpd.cli.client.datagrams import BUFFER_BYTES, datagram_failure
from unpd.cli.client.failures import ClientFailure, failure_of, not_a_server
from unpd.cli.client.interrupts import Interrupts
from unpd.cli.client.report import Transferred
from unpd.kernel.tcp_info import retransmits
from unpd.names import ClientExit

NS = 1_000_000_000
STALL_NS = NS // 10
"""After this time without an answer, the datagrams under way count as lost."""

WINDOW = 64
WINDOW_BYTES = 98_304
"""How many datagrams, and bytes, are under way at most: they fit the default receive
buffer of Linux (net.core.rmem_default, 212,992 bytes with what the kernel adds).
"""


class Bulk:
    """What streams and datagrams share: the clock and the counts."""

    def __init__(self, sock: socket.socket, size: int, output_fd: int, watch: Interrupts) -> None:
        self._sock = sock
        self._piece = bytes(size)
        self._output_fd = output_fd
        self._watch = watch
        self._sending_ns = 0
        self._received_ns = 0
        self._began_ns = time.monotonic_ns()
        self.sent_bytes = 0
        self.received_bytes = 0
        self.sent_datagrams = 0
        self.received_datagrams = 0

    def _wait(self, events: int, timeout_ns: int | None) -> int:
        """Wait for the socket and Ctrl-C; return the socket's events. OutputClosed."""
        ready = streams.wait(
            {
                self._sock.fileno(): events,
                self._output_fd: streams.WATCHED,
                self._watch.fd: streams.READABLE,
            },
            None if timeout_ns is None else timeout_ns / NS,
        )
        streams.check_output(ready.get(self._output_fd, 0))
        return ready.get(self._sock.fileno(), 0)

    def _elapsed_ns(self) -> int:
        return time.monotonic_ns() - self._began_ns

    def _note_received(self, count: int) -> None:
        self.received_bytes += count
        self._received_ns = self._elapsed_ns()

    def _result(self, *, datagrams: bool) -> Transferred:
        return Transferred(
            sent_bytes=self.sent_bytes,
            received_bytes=self.received_bytes,
            sending_ns=self._sending_ns,
            elapsed_ns=self._received_ns or self._sending_ns,
            sent_datagrams=self.sent_datagrams if datagrams else None,
            received_datagrams=self.received_datagrams if datagrams else None,
            retransmits=retransmits(self._sock),
        )


class StreamBulk(Bulk):
    """A transfer over a stream."""

    def __init__(self, sock: socket.socket, size: int, output_fd: int, watch: Interrupts) -> None:
        super().__init__(sock, size, output_fd, watch)
        self._moved_ns = 0  # when the last bytes moved

    def run(self, duration_ns: int, timeout_ns: int | None) -> Transferred:
        """Send for ``duration_ns``, then read on until the server closes. A server that
        neither takes nor sends a byte for ``timeout_ns`` has timed out, at any time.
        """
        while not self._watch.came and self._elapsed_ns() < duration_ns:
            events = self._progress(streams.READABLE | streams.WRITABLE, duration_ns, timeout_ns)
            if events & ~streams.WRITABLE and not self._receive():
                raise ClientFailure(ClientExit.CLOSED_EARLY, "server terminated prematurely")
            if events & streams.WRITABLE:
                self._send()
        self._sending_ns = self._elapsed_ns()
        with suppress(OSError):  # ENOTCONN: the next read gives the reason
            self._sock.shutdown(socket.SHUT_WR)
        open_ = True
        while open_ and not self._watch.came:
            if self._progress(streams.READABLE, None, timeout_ns):
                open_ = self._receive()
        self._check_counts()
        return self._result(datagrams=False)

    def _progress(self, events: int, end_ns: int | None, timeout_ns: int | None) -> int:
        """Wait until bytes can move, or until ``end_ns`` of the transfer; return the
        socket's events. ClientFailure if none moved for ``timeout_ns``.
        """
        late_ns = None if timeout_ns is None else self._moved_ns + timeout_ns
        moments = [moment for moment in (end_ns, late_ns) if moment is not None]
        ready = self._wait(events, min(moments) - self._elapsed_ns() if moments else None)
        now_ns = self._elapsed_ns()
        if ready:
            self._moved_ns = now_ns
        elif late_ns is not None and now_ns >= late_ns and not self._watch.came:
            raise ClientFailure(ClientExit.TIMED_OUT, "timed out", self._missing_text())
        return ready

    def _send(self) -> None:
        try:
            self.sent_bytes += self._sock.send(self._piece)
        except BlockingIOError:
            return
        except OSError as error:
            raise failure_of(error, self._missing_text()) from error

    def _receive(self) -> bool:
        """Read once. False at the server's end. ClientFailure if it sent too much."""
        try:
            chunk = self._sock.recv(BUFFER_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            raise failure_of(error, self._missing_text()) from error
        if chunk:
            self._note_received(len(chunk))
        if self.received_bytes > self.sent_bytes:  # at once: it may never close
            raise not_a_server("echo", "it sent more than it got")
        return bool(chunk)

    def _check_counts(self) -> None:
        if self.received_bytes < self.sent_bytes and not self._watch.came:
            raise ClientFailure(
                ClientExit.CLOSED_EARLY, "server terminated prematurely", self._missing_text()
            )

    def _missing_text(self) -> str:
        missing = max(self.sent_bytes - self.received_bytes, 0)
        return f"{missing} of {self.sent_bytes} bytes are missing"


class DatagramBulk(Bulk):
    """A transfer over datagrams."""

    def __init__(self, sock: socket.socket, size: int, output_fd: int, watch: Interrupts) -> None:
        super().__init__(sock, size, output_fd, watch)
        self._window = max(1, min(WINDOW, WINDOW_BYTES // size))
        self._settled = 0  # datagrams that came back or count as lost

    def run(self, duration_ns: int, timeout_ns: int | None) -> Transferred:
        """Send for ``duration_ns``, then take what is still under way. Only silence
        ends that, which needs no other limit.
        """
        del timeout_ns
        try:
            self._transfer(duration_ns)
        except OSError as error:
            if self.received_datagrams:
                raise datagram_failure(error, "") from error
            raise
        return self._result(datagrams=True)

    def _transfer(self, duration_ns: int) -> None:
        while not self._watch.came and self._elapsed_ns() < duration_ns:
            room = self.sent_datagrams - self._settled < self._window
            events = streams.READABLE | (streams.WRITABLE if room else 0)
            ready = self._wait(events, min(STALL_NS, duration_ns - self._elapsed_ns()))
            if not ready:
                self._settled = self.sent_datagrams
            if ready & ~streams.WRITABLE:
                self._receive()
            if ready & streams.WRITABLE:
                self._send()
        self._sending_ns = self._elapsed_ns()
        while (
            self.received_datagrams < self.sent_datagrams
            and not self._watch.came
            and self._wait(streams.READABLE, STALL_NS)
        ):
            self._receive()

    def _send(self) -> None:
        with suppress(BlockingIOError):
            while self.sent_datagrams - self._settled < self._window:
                self.sent_bytes += self._sock.send(self._piece)
                self.sent_datagrams += 1

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(WINDOW):
                self._note_received(len(self._sock.recv(BUFFER_BYTES)))
                self.received_datagrams += 1
                self._settled = min(self._settled + 1, self.sent_datagrams)
