"""The one wait of the clients, and the standard input and output.

Called by ``connect``, ``datagrams`` and every client. Waits with poll(2) and not
epoll(7): standard input may be a regular file, which epoll refuses. Errors:
OutputClosed, ClientFailure.

Known gap: a reader of standard output that does not read holds the whole client up.
That is the back-pressure of a pipeline: no byte is lost or piled up.
"""

import codecs
import errno
import io
import os
import select
from collections.abc import Mapping

from unpd.cli.client.failures import ClientFailure, OutputClosed, reason_of
from unpd.cli.output import printable
from unpd.names import ClientExit

CHUNK_BYTES = 65_536

READABLE = select.POLLIN
WRITABLE = select.POLLOUT
WATCHED = 0
"""No event: poll(2) still reports an error or a hang-up, and so the loss of the reader
of standard output.
"""


def wait(interests: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:
    """Wait until a descriptor is ready, and return the events by descriptor; {} if none
    was ready within ``timeout_s`` (None: no limit).
    """
    poll = select.poll()
    for descriptor, events in interests.items():
        poll.register(descriptor, events)
    return dict(poll.poll(None if timeout_s is None else max(timeout_s, 0.0) * 1000))


def check_output(events: int) -> None:
    """Raise OutputClosed if these events of standard output mean that its reader has
    gone.
    """
    if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
        raise OutputClosed


class Output:
    """Standard output, the descriptor ``fd``.

    A file or a pipe gets the server's bytes as they are. On a terminal the bytes become
    text: control characters and bytes that are no UTF-8 are escaped, and every end of a
    line is a newline. A server could otherwise rewrite the screen, or make the terminal
    answer for the user.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        utf8 = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self._terminal = os.isatty(fd)

    def write(self, chunk: bytes) -> None:
        """Write all of ``chunk``, blocking. OutputClosed or ClientFailure."""
        _write(self.fd, self._text(chunk) if self._terminal else chunk)

    def finish(self) -> None:
        """Write the rest of a character that the server did not complete."""
        if self._terminal:
            _write(self.fd, self._text(b"", final=True))

    def _text(self, chunk: bytes, *, final: bool = False) -> bytes:
        text = self._decoder.decode(chunk, final=final)
        return "".join(char if char in "\t\n" else printable(char) for char in text).encode()


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # A process that shares this open file made it non-blocking, and making it
            # blocking again would change it for that process.
            check_output(wait({descriptor: WRITABLE}, None)[descriptor] & ~WRITABLE)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise OutputClosed from None
            raise ClientFailure(
                ClientExit.FAILED, "standard output cannot be written", reason_of(error)
            ) from error


def read_input(fd: int) -> bytes | None:
    """Return the next bytes of standard input, b"" at its end, None if it has none now.
    ClientFailure if it cannot be read.
    """
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        raise ClientFailure(
            ClientExit.FAILED, "standard input cannot be read", reason_of(error)
        ) from error
