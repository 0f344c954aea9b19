"""Asking the daemon: one request over its control socket, and the answer."""

import contextlib
import socket
import struct
from pathlib import Path
from typing import Any

from unpd.control.protocol import ProtocolError, Request, decode_answer, encode_request
from unpd.errors import PrivilegeError, UnpdError

MAX_ANSWER_BYTES = 4 * 1024 * 1024


class ControlClient:
    """A connection to the daemon. UnpdError in one sentence where there is none to be
    had.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise UnpdError(f"unpd is not running: nobody listens on {path}") from None
        except PermissionError:
            raise PrivilegeError(f"this user may not control unpd: no access to {path}") from None
        except OSError as error:
            raise UnpdError(f"cannot reach unpd on {path}: {error.strerror or error}") from error

    def daemon_pid(self) -> int:
        """The pid of the daemon as the kernel knows it (SO_PEERCRED), 0 if it lives in
        another pid namespace.
        """
        return int(
            struct.unpack("iII", self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[
                0
            ]
        )

    def ask(self, request: Request) -> dict[str, Any]:
        """Send the request and wait for its answer, as long as the daemon lives.
        UnpdError with the daemon's reason if it refuses.
        """
        try:
            with contextlib.suppress(
                BrokenPipeError
            ):  # it has answered and hung up already: it does not listen to this user
                self._sock.sendall(encode_request(request))
            answer = decode_answer(self._read_line())
        except ProtocolError as error:
            raise UnpdError(str(error)) from error
        except OSError as error:
            raise UnpdError(f"unpd broke the connection off: {error.strerror or error}") from error
        if not answer["ok"]:
            raise UnpdError(str(answer.get("reason", "refused without a reason")))
        return answer

    def _read_line(self) -> bytes:
        said = bytearray()
        while not said.endswith(b"\n") and len(said) < MAX_ANSWER_BYTES:
            piece = self._sock.recv(65536)
            if not piece:
                raise ProtocolError("unpd ended before it answered")
            said += piece
        return bytes(said)

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
