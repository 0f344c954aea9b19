"""The asking end of the control socket: one request, and its answer.

Called by the verbs of the command line; calls the protocol. Owns one connection. The
sentences are also those of ``unpd top``, which waits for no answer.
Errors: UnpdError in one sentence, for a daemon that cannot be reached, does not answer,
breaks off, answers nonsense or refuses. An answer in parts is broken off where no line
says that it is the last.

No call waits for ever on a daemon that is stopped or hung. The daemon answers every
request at once but those that last, such as a reload. While the answer to one of these
is awaited, and the end of a daemon that stops, :meth:`ControlClient.probe` asks every
few seconds whether the daemon still answers other requests.
"""

import contextlib
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unpd.control.protocol import (
    MAX_ANSWER_BYTES,
    ProtocolError,
    Request,
    decode_answer,
    encode_request,
)
from unpd.control.verb import Answered, Verb
from unpd.control.verbs import VERBS
from unpd.errors import PrivilegeError, UnpdError
from unpd.json_lines import LineBuffer, LineError
from unpd.kernel.credentials import peer_credentials
from unpd.kernel.privileges import user_name
from unpd.names import ExitCode

ANSWER_TIMEOUT_S = 5.0
"""How long a daemon may take to answer. One that works takes milliseconds."""
MEANWHILE_S = 1.0
"""How often a caller may do something else while it waits."""


class NotRunningError(UnpdError):
    """No daemon listens on the control socket."""


class SilentError(UnpdError):
    """The daemon does not answer in time."""


class RefusedError(UnpdError):
    """The daemon refuses the request, for the reason in its ``answer``, which says
    whether that is wrong usage (:class:`~unpd.control.verb.VerbError`).
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer = answer
        if answer.get("usage") is True:
            self.exit_code = ExitCode.USAGE
        super().__init__(str(answer.get("reason", "unpd refused without a reason")))


class BrokenOffError(UnpdError):
    """The connection ended before the answer did: the daemon has ended, or does not
    want this connection.
    """


def unreachable(path: Path, error: OSError | ValueError) -> UnpdError:
    """Why no connection can be made, as NotRunningError, PrivilegeError or another
    UnpdError.
    """
    match error:
        case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
            return NotRunningError(
                f"unpd is not running, or its control socket is another one: no process listens on"
                f" {path}"
            )
        case PermissionError():
            return PrivilegeError(
                f"user {user_name(os.geteuid())} may not use the control socket {path}: ask as"
                " root, as the user that unpd runs as, or, in order to look, as a member of the"
                " group in control.read_group"
            )
    reason = getattr(error, "strerror", None) or error
    return UnpdError(f"cannot reach unpd on {path}: {reason}")


def unanswered() -> BrokenOffError:
    """Why the connection has ended without an answer."""
    return BrokenOffError(
        "unpd closed the connection without an answer: it has ended, or has too many control"
        " connections"
    )


def silence(path: Path, pid: int, *, changes: bool = False) -> SilentError:
    """Why the daemon ``pid``, 0 if that is not known, has not answered. ``changes``: it
    was asked to change something.
    """
    who = f"unpd (pid {pid})" if pid > 0 else "unpd"
    later = "; it may still carry the request out when it goes on" if changes else ""
    return SilentError(
        f"{who} has not answered on {path} for {ANSWER_TIMEOUT_S:g} s: it is stopped (SIGSTOP) or"
        f" hung{later}"
    )


@contextlib.contextmanager
def in_sentences() -> Iterator[None]:
    """Raise every failure of a conversation as UnpdError."""
    try:
        yield
    except ProtocolError as error:
        raise UnpdError(str(error)) from error
    except LineError as error:
        raise UnpdError(f"the daemon's answer is {error}") from error
    except OSError as error:
        raise BrokenOffError(f"unpd broke the connection off: {error.strerror or error}") from error


class ControlClient:
    """A connection to the daemon. UnpdError if none can be made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = LineBuffer(MAX_ANSWER_BYTES)
        self._complete: deque[bytes] = deque()
        self._begun = False
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A connect to a UNIX socket waits only where the accept queue is full
        # (connect(2)), and then without a limit, but for this one (socket(7)).
        self._sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(ANSWER_TIMEOUT_S), 0)
        )
        try:
            self._connect(path)
        except BaseException:
            self._sock.close()
            raise

    def _connect(self, path: Path) -> None:
        try:
            self._sock.connect(str(path))
        except BlockingIOError:
            raise self._silence() from None
        except (OSError, ValueError) as error:
            raise unreachable(path, error) from error

    def daemon_pid(self) -> int:
        """Return the pid of the daemon as the kernel knows it; 0 if the daemon lives in
        another pid namespace.
        """
        return peer_credentials(self._sock).pid

    def ask(
        self,
        request: Request,
        fds: Sequence[int] = (),
        meanwhile: Callable[[], object] = lambda: None,
    ) -> dict[str, Any]:
        """Send the request and wait for its answer. RefusedError, with the daemon's
        reason, if it refuses; SilentError if it does not answer. ``fds``: a descriptor
        that goes with it, if any. ``meanwhile`` is called every second.
        """
        with in_sentences():
            self._send(request, fds)
            return self._read_answer(VERBS[request.verb], meanwhile)

    def ask_in_parts(self, request: Request) -> Iterator[dict[str, Any]]:
        """Send the request, and yield the lines of its answer as they come. UnpdError
        as for :meth:`ask`, and if the daemon breaks the answer off.
        """
        with in_sentences():
            self._send(request)
            more = True
            while more:
                answer = self._read_answer(VERBS[request.verb])
                self._begun = more = answer.get("more") is True
                yield answer

    def _send(self, request: Request, fds: Sequence[int] = ()) -> None:
        # A broken pipe: the daemon refuses this user. It has answered and closed the
        # connection before the request came.
        with contextlib.suppress(BrokenPipeError):
            line = encode_request(request)
            sent = socket.send_fds(self._sock, (line,), fds) if fds else 0
            self._sock.sendall(line[sent:])

    def _read_answer(
        self, verb: Verb, meanwhile: Callable[[], object] = lambda: None
    ) -> dict[str, Any]:
        answer = decode_answer(self._read_line(verb, meanwhile))
        if not answer["ok"]:
            raise RefusedError(answer)
        return answer

    def _read_line(self, verb: Verb, meanwhile: Callable[[], object]) -> bytes:
        deadline_at = time.monotonic() + ANSWER_TIMEOUT_S
        while not self._complete:
            left_s = deadline_at - time.monotonic()
            if left_s <= 0:
                if verb.answered is Answered.AT_ONCE:
                    raise self._silence(changes=verb.changes)
                self._probe_during(verb)
                deadline_at = time.monotonic() + ANSWER_TIMEOUT_S
                continue
            self._sock.settimeout(min(left_s, MEANWHILE_S))
            try:
                piece = self._sock.recv(65536)
            except TimeoutError:
                meanwhile()
                continue
            if not piece:
                raise self._broken_off()
            self._complete.extend(self._lines.feed(piece))
        return self._complete.popleft()

    def _broken_off(self) -> BrokenOffError:
        if self._begun:
            return BrokenOffError(
                "unpd broke its answer off: it has ended, or this command has not read for too long"
            )
        return unanswered()

    def _probe_during(self, verb: Verb) -> None:
        try:
            self.probe()
        except SilentError:
            raise self._silence(changes=verb.changes) from None

    def probe(self) -> None:
        """Ask on a connection of its own whether the daemon still answers. SilentError
        if it does not. A daemon that has ended is no error: the first connection and
        the process show that.
        """
        try:
            with contextlib.closing(ControlClient(self._path)) as other:
                other.ask(Request("status"))
        except SilentError:
            raise
        except UnpdError:
            return

    def _silence(self, *, changes: bool = False) -> SilentError:
        pid = self.daemon_pid()  # 0 also where it never accepted
        return silence(self._path, pid, changes=changes)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()
