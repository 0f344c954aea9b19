"""The ways in which a client can fail, each with its own exit code.

Every module of the client raises them; ``command`` alone turns them into a sentence and
an exit code. No I/O.
"""

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from unpd.names import ClientExit


class ClientFailure(Exception):
    """One failure: its exit code, its cause in two or three words, and more detail
    ("" if there is no more).
    """

    def __init__(self, exit_code: ClientExit, cause: str, detail: str = "") -> None:
        super().__init__(cause)
        self.exit_code = exit_code
        self.cause = cause
        self.detail = detail

    def sentence(self, subject: str, elapsed_s: float) -> str:
        """Return the message of one line. ``elapsed_s`` counts from the start of the
        command.
        """
        return f"{subject}: {self.cause} after {elapsed_s:.1f} s" + (
            f" ({self.detail})" if self.detail else ""
        )


class OutputClosed(Exception):
    """The reader of standard output has gone: the client ends without a message, as a
    filter does on SIGPIPE.
    """


_REFUSED = (ClientExit.REFUSED, "connection refused")
_TIMED_OUT = (ClientExit.TIMED_OUT, "timed out")
_UNREACHABLE = (ClientExit.UNREACHABLE, "unreachable")
_RESET = (ClientExit.RESET, "connection reset by the server")
_CLOSED_EARLY = (ClientExit.CLOSED_EARLY, "server terminated prematurely")

_BY_ERRNO: Mapping[int, tuple[ClientExit, str]] = MappingProxyType(
    {
        errno.ECONNREFUSED: _REFUSED,
        errno.ETIMEDOUT: _TIMED_OUT,
        errno.ECONNRESET: _RESET,
        errno.ECONNABORTED: _RESET,
        # A RST answered a send(2) after the server's FIN (UNP 5.13): its end came
        # first.
        errno.EPIPE: _CLOSED_EARLY,
        errno.EHOSTUNREACH: _UNREACHABLE,
        errno.ENETUNREACH: _UNREACHABLE,
        errno.EHOSTDOWN: _UNREACHABLE,
        errno.ENETDOWN: _UNREACHABLE,
        # This host has no address of that family, or its kernel has no such family.
        errno.EADDRNOTAVAIL: _UNREACHABLE,
        errno.EAFNOSUPPORT: _UNREACHABLE,
        # A local packet filter (TCP), or a UNIX socket that this user may not use.
        errno.EACCES: _UNREACHABLE,
        errno.EPERM: _UNREACHABLE,
        # The path leads to no stream socket.
        errno.ENOENT: _UNREACHABLE,
        errno.ENOTDIR: _UNREACHABLE,
        errno.ELOOP: _UNREACHABLE,
        errno.EPROTOTYPE: _UNREACHABLE,
    }
)


OTHER_BYTES = "it sent other bytes than it got"
"""The detail about an echo server that is none."""


def not_a_server(service: str, detail: str) -> ClientFailure:
    """Return the failure of a server that does not speak the protocol."""
    article = "an" if service[0] in "aeiou" else "a"
    return ClientFailure(ClientExit.ANOTHER_PROTOCOL, f"not {article} {service} server", detail)


def reason_of(error: OSError) -> str:
    """Return the reason in the words of the kernel or of the name service."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))


def failure_of(error: OSError, detail: str) -> ClientFailure:
    """Return the failure for an error of connect, send or recv."""
    exit_code, cause = _BY_ERRNO.get(
        error.errno or 0, (ClientExit.FAILED, f"failed: {reason_of(error)}")
    )
    return ClientFailure(exit_code, cause, detail)
