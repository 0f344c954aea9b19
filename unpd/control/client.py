"""The asking end of the control socket: one request, and its answer.

Called by the verbs of the command line; calls the protocol. Owns one connection.
Errors: UnpdError in one sentence, for a daemon that cannot be reached, breaks off or
refuses.

Known gap: a request has no time limit of its own. A reload takes as long as it takes,
and the kernel ends the connection if the daemon dies.
"""

import contextlib
import socket
from pathlib import Path
from typing import Any

from unpd.control.protocol import ProtocolError, Request, decode_answer, encode_request
from unpd.errors import PrivilegeError, UnpdError
from unpd.kernel.credentials import peer_credentials

MAX_ANSWER_BYTES = 4 * 1024 * 1024


class ControlClient:
    """A connection to the daemon. UnpdError if none can be made."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise UnpdError(f"unpd is not running: no process listens on {path}") from None
        except PermissionError:
            raise PrivilegeError(f"this user may not control unpd: no access to {path}") from None
        except OSError as error:
            raise UnpdError(f"cannot reach unpd on {path}: {error.strerror or error}") from error

    def daemon_pid(self) -> int:
        """Return the pid of the daemon as the kernel knows it; 0 if the daemon lives in
        another pid namespace.
        """
        return peer_credentials(self._sock).pid

    def ask(self, request: Request) -> dict[str, Any]:
        """Send the request and wait for its answer, as long as the daemon lives.
        UnpdError, with the daemon's reason, if it refuses.
        """
        try:
            # A broken pipe: the daemon refuses this user. It has answered and closed
            # the connection before the request came.
            with contextlib.suppress(BrokenPipeError):
                self._sock.sendall(encode_request(request))
            answer = decode_answer(self._read_line())
        except ProtocolError as error:
            raise UnpdError(str(error)) from error
        except OSError as error:
            raise UnpdError(f"unpd broke the connection off: {error.strerror or error}") from error
        if not answer["ok"]:
            raise UnpdError(str(answer.get("reason", "unpd refused without a reason")))
        return answer

    def _read_line(self) -> bytes:
        received = bytearray()
        while not received.endswith(b"\n") and len(received) < MAX_ANSWER_BYTES:
            piece = self._sock.recv(65536)
            if not piece:
                raise ProtocolError("unpd ended before it answered")
            received += piece
        return bytes(received)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
