"""How a talk with a server can fail, each way told apart from the others.

Raised by every module of the client, turned into a sentence and an exit code by
``command`` alone. No I/O.
"""

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from unpd.names import ClientExit


class ClientFailure(Exception):
    """One way to fail: its exit code, what happened in two or three words, and what
    else is known ("" if nothing).
    """

    def __init__(self, exit_code: ClientExit, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.exit_code = exit_code
        self.what = what
        self.detail = detail

    def sentence(self, subject: str, elapsed_s: float) -> str:
        """The whole story in one line; ``elapsed_s`` counts from the start of the
        command.
        """
        return f"{subject}: {self.what} after {elapsed_s:.1f} s" + (
            f" ({self.detail})" if self.detail else ""
        )


class OutputGone(Exception):
    """Nobody reads standard output any more: the client ends without a word, as a
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
        # send(2) after the server's FIN was answered by a RST (UNP 5.13): the end came
        # first.
        errno.EPIPE: _CLOSED_EARLY,
        errno.EHOSTUNREACH: _UNREACHABLE,
        errno.ENETUNREACH: _UNREACHABLE,
        errno.EHOSTDOWN: _UNREACHABLE,
        errno.ENETDOWN: _UNREACHABLE,
        # No address of that family on this host, or no such family in its kernel.
        errno.EADDRNOTAVAIL: _UNREACHABLE,
        errno.EAFNOSUPPORT: _UNREACHABLE,
        # A local packet filter (TCP), a UNIX socket that we may not use.
        errno.EACCES: _UNREACHABLE,
        errno.EPERM: _UNREACHABLE,
        # A path at which there is no stream socket.
        errno.ENOENT: _UNREACHABLE,
        errno.ENOTDIR: _UNREACHABLE,
        errno.ELOOP: _UNREACHABLE,
        errno.EPROTOTYPE: _UNREACHABLE,
    }
)


def reason_of(error: OSError) -> str:
    """What the kernel, or the name service, says about it."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))


def failure_of(error: OSError, detail: str) -> ClientFailure:
    """The failure that an error of connect, send or recv stands for."""
    exit_code, what = _BY_ERRNO.get(
        error.errno or 0, (ClientExit.FAILED, f"failed: {reason_of(error)}")
    )
    return ClientFailure(exit_code, what, detail)
