"""The tcpmux client (RFC 1078): asks for a service by its name, then lets the user talk
with it; without a name it prints what there is.

Called by ``command`` with a connected non-blocking socket. Errors: ClientFailure,
OutputClosed.
"""

import socket

from unpd.cli.client import printing
from unpd.cli.client.failures import ClientFailure, failure_of, not_a_server
from unpd.names import ClientExit

HELP = "help"
MAX_NAME_BYTES = 64
MAX_REPLY_BYTES = 1024
"""More than any line of a reply; the message repeats the first SHOWN characters."""
SHOWN = 120


def is_name(text: str) -> bool:
    """Return True if ``text`` can be the name of a service: printable ASCII."""
    return text.isascii() and text.isprintable() and 0 < len(text) <= MAX_NAME_BYTES


def send_name(sock: socket.socket, name: str) -> None:
    """Send the line that asks for a service. It fits the empty send buffer.
    ClientFailure.
    """
    try:
        sock.send(f"{name}\r\n".encode())
    except OSError as error:
        raise failure_of(error, "") from error


def read_reply(sock: socket.socket, output_fd: int, timeout_s: float | None) -> bytes:
    """Read the line of the reply, and return the bytes after it, which are the
    service's. ClientFailure (REFUSED) if the server does not offer the service.
    """
    reply = b""
    while b"\n" not in reply:
        chunk = printing.receive(sock, output_fd, timeout_s)
        if not chunk:
            raise ClientFailure(
                ClientExit.CLOSED_EARLY, "server terminated prematurely", "no reply came"
            )
        reply += chunk
        if reply[:1] not in (b"+", b"-") or len(reply.partition(b"\n")[0]) > MAX_REPLY_BYTES:
            raise not_a_server("tcpmux", "its reply has neither + nor - and a line")
    line, _, rest = reply.partition(b"\n")
    if line.startswith(b"-"):
        words = line[1:].decode("ascii", "backslashreplace").strip()[:SHOWN]
        raise ClientFailure(ClientExit.REFUSED, "service refused", words)
    return rest
