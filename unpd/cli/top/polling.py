"""Asks a daemon for its status again and again, and never waits for it: a daemon that
is gone, stopped or busy must not keep the keys of ``unpd top`` from working.

Owns the connection of the question that is open. Called by the screen and by the plain
text; calls the protocol, and :mod:`unpd.control.client` for its sentences. Errors:
PrivilegeError if this user may not ask and never could; everything else may pass, and
is a sentence in :attr:`Asker.trouble`.
"""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

from unpd.cli.asking import checked
from unpd.cli.top.answers import Answer
from unpd.control.client import (
    ANSWER_TIMEOUT_S,
    RefusedError,
    in_sentences,
    silence,
    unanswered,
    unreachable,
)
from unpd.control.protocol import MAX_ANSWER_BYTES, Request, decode_answer, encode_request
from unpd.control.status_fields import STATUS
from unpd.errors import PrivilegeError, UnpdError
from unpd.json_lines import LineBuffer
from unpd.kernel.credentials import peer_credentials


class Asker:
    """``trouble``: why the last question had no answer, "" if it had one."""

    def __init__(self, path: Path, request: Request, interval_s: float) -> None:
        self._path = path
        self._line = encode_request(request)
        self._interval_s = interval_s
        self._sock: socket.socket | None = None
        self._lines = LineBuffer(MAX_ANSWER_BYTES)
        self._asked_at = 0.0
        self._next_at = 0.0
        self._was_answered = False
        self.trouble = ""

    def fileno(self) -> int | None:
        """The descriptor that is readable when a part of the answer has come; None
        while no question is open.
        """
        return self._sock.fileno() if self._sock else None

    def due_in_s(self) -> float:
        """After what time :meth:`turn` has something to do, if nothing comes before."""
        at = self._asked_at + ANSWER_TIMEOUT_S if self._sock else self._next_at
        return max(at - time.monotonic(), 0.0)

    def turn(self) -> Answer | None:
        """Ask if it is time, read what has come, and return the answer if it is
        complete. PrivilegeError.
        """
        now = time.monotonic()
        if self._sock is None:
            if now < self._next_at:
                return None
            self._asked_at, self._next_at = now, now + self._interval_s
            self._ask()
            return None
        try:
            with in_sentences():
                return self._read(self._sock, now)
        except UnpdError as error:
            self._failed(str(error))
        return None

    def close(self) -> None:
        """Close the connection of an open question."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _ask(self) -> None:
        """Connect and send: both are done at once on a UNIX socket, or fail at once.
        PrivilegeError, but not after an answer: while a daemon is started anew, its
        socket has other rights for a moment.
        """
        self._lines = LineBuffer(MAX_ANSWER_BYTES)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        try:
            self._sock.connect(str(self._path))
            # A broken pipe: the daemon refuses this user, and has said so already.
            with contextlib.suppress(BrokenPipeError):
                self._sock.sendall(self._line)
        except BlockingIOError:
            self._failed(f"unpd takes no connections on {self._path}: it is stopped or hung")
        except (OSError, ValueError) as error:
            problem = unreachable(self._path, error)
            self._failed(str(problem))
            if isinstance(problem, PrivilegeError) and not self._was_answered:
                raise problem from None

    def _read(self, sock: socket.socket, now: float) -> Answer | None:
        """Read what is there. OSError, ProtocolError, LineError, UnpdError."""
        complete: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while not complete:
                piece = sock.recv(1 << 16)
                if not piece:
                    raise unanswered()
                complete = self._lines.feed(piece)
        if complete:
            self.close()
            return self._taken(decode_answer(complete[0]), now)
        if now >= self._asked_at + ANSWER_TIMEOUT_S:
            raise silence(self._path, peer_credentials(sock).pid)
        return None

    def _taken(self, answer: dict[str, Any], now: float) -> Answer:
        if not answer["ok"]:
            raise RefusedError(answer)
        status = checked(answer.get("status"), STATUS)
        self.trouble, self._was_answered = "", True
        return Answer(status, now)

    def _failed(self, sentence: str) -> None:
        self.close()
        self.trouble = sentence
