"""The daytime client (RFC 867): prints everything that the server sends until it
closes.

Called by ``command`` with a connected non-blocking socket. Errors: ClientFailure,
OutputClosed. The client sends nothing and keeps nothing.

Known gap: a server that sends for ever keeps the client printing for ever.
"""

import socket

from unpd.cli.client import streams
from unpd.cli.client.failures import ClientFailure, failure_of
from unpd.names import ClientExit


def read_time(sock: socket.socket, output: streams.Output, timeout_s: float | None) -> None:
    """Copy the socket to ``output`` until the server closes. ClientFailure or
    OutputClosed.
    """
    received_bytes = 0
    while chunk := _receive(sock, output.fd, timeout_s):
        output.write(chunk)
        received_bytes += len(chunk)
    if not received_bytes:
        raise ClientFailure(
            ClientExit.CLOSED_EARLY, "server terminated prematurely", "no byte came"
        )


def _receive(sock: socket.socket, output_fd: int, timeout_s: float | None) -> bytes:
    ready = streams.wait({sock.fileno(): streams.READABLE, output_fd: streams.WATCHED}, timeout_s)
    if not ready:
        raise ClientFailure(ClientExit.TIMED_OUT, "timed out", f"nothing came for {timeout_s:g} s")
    streams.check_output(ready.get(output_fd, 0))
    try:
        return sock.recv(streams.CHUNK_BYTES)
    except OSError as error:
        raise failure_of(error, "") from error
