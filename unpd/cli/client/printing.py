"""The clients that print what the server says unasked: daytime (RFC 867, UNP figure
1.5), qotd (RFC 865) and chargen (RFC 864).

Called by ``command`` with a connected non-blocking stream socket, or with the answer of
a datagram. Errors: ClientFailure, OutputClosed. The clients send nothing and keep
nothing.

Known gap: chargen never ends, so its client prints until its user or its reader ends
it.
"""

import socket

from unpd.cli.client import streams
from unpd.cli.client.failures import ClientFailure, failure_of, not_a_server
from unpd.names import ClientExit

MAX_TEXT_BYTES = 65_536
"""More than any daytime or quotation: RFC 865 allows 512 bytes."""

ENDLESS = "chargen"
LONG_ANSWERS = ("chargen", "qotd")
LONG_REQUEST_BYTES = 512


def print_stream(
    service: str, sock: socket.socket, output: streams.Output, timeout_s: float | None
) -> None:
    """Copy the socket to ``output`` until the server closes. ClientFailure or
    OutputClosed.
    """
    received_bytes = 0
    while chunk := receive(sock, output.fd, timeout_s):
        received_bytes += len(chunk)
        if service != ENDLESS and received_bytes > MAX_TEXT_BYTES:
            raise not_a_server(service, f"it sent more than {MAX_TEXT_BYTES} bytes")
        output.write(chunk)
    if not received_bytes:
        raise ClientFailure(
            ClientExit.CLOSED_EARLY, "server terminated prematurely", "no byte came"
        )


def request_of(service: str) -> bytes:
    """Return the datagram that asks for an answer. Its content means nothing; but a
    server such as unpd may send no more than a few times what it got, and chargen and a
    quotation have up to 512 bytes (RFC 864, 865).
    """
    return bytes(LONG_REQUEST_BYTES) if service in LONG_ANSWERS else b""


def print_datagram(service: str, answer: bytes, output: streams.Output) -> None:
    """Print the answer of a datagram. RFC 864 alone allows an empty one."""
    if not answer and service != ENDLESS:
        raise not_a_server(service, "its answer is empty")
    output.write(answer)


def receive(sock: socket.socket, output_fd: int, timeout_s: float | None) -> bytes:
    """Wait for the next bytes and return them; b"" if the server has closed.
    ClientFailure; OutputClosed if the reader of ``output_fd`` has gone meanwhile.
    """
    ready = streams.wait({sock.fileno(): streams.READABLE, output_fd: streams.WATCHED}, timeout_s)
    if not ready:
        raise ClientFailure(ClientExit.TIMED_OUT, "timed out", f"nothing came for {timeout_s:g} s")
    streams.check_output(ready.get(output_fd, 0))
    try:
        return sock.recv(streams.CHUNK_BYTES)
    except OSError as error:
        raise failure_of(error, "") from error
