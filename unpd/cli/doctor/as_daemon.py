"""Tries the places that a daemon needs with the rights of the daemon that runs, and in
its view of the file system, as ``unpd check --as-daemon`` does.

Called by :mod:`unpd.cli.doctor.gather`. Calls :mod:`unpd.kernel.likeness` in a child,
because a process cannot take its own rights back. The child is a fork and no new
interpreter: one would look for unpd in the working directory first, where another user
may have put a program of that name. Raises UnknownFactError, also if the child ends
without an answer.
"""

import json
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unpd.cli.commands import load_path, refuse_unusable
from unpd.cli.doctor.facts import UnknownFactError
from unpd.config.host import this_host
from unpd.errors import ConfigError, UnpdError
from unpd.kernel import likeness

PATIENCE_S = 20.0
MAX_BYTES = 1 << 20
"""How much is read of the child, which runs with the rights of another user."""
NO_ANSWER = "the process that took the daemon's rights gave no answer"

Sentences = tuple[str, ...]


def unusable(pid: int, path: Path | None) -> Sentences:
    """What the daemon ``pid`` could not use of the configuration at ``path`` (None: the
    built-in one), or why it could not load it. UnknownFactError.
    """
    return told_by_child(lambda: _tried(pid, path))


def _tried(pid: int, path: Path | None) -> Sentences:
    likeness.become_like(pid)
    try:
        refuse_unusable(load_path(path, replace(this_host(path), check_interfaces=True)))
    except ConfigError as error:
        return tuple(map(str, error.problems))
    return ()


def told_by_child(work: Callable[[], Sentences], patience_s: float = PATIENCE_S) -> Sentences:
    """Return what ``work`` returns in a child. UnknownFactError."""
    receiving, sending = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(receiving)
        os.close(sending)
        raise UnknownFactError(f"no process can be started: {error.strerror}") from error
    if pid == 0:
        try:
            os.close(receiving)
            _tell(sending, work)
        finally:
            os._exit(0)
    os.close(sending)
    try:
        return _parsed(_read(receiving, time.monotonic() + patience_s))
    finally:
        os.close(receiving)
        os.kill(pid, signal.SIGKILL)  # it has nothing left to do
        os.waitpid(pid, 0)


def _tell(sending: int, work: Callable[[], Sentences]) -> None:
    try:
        answer: dict[str, object] = {"told": work()}
    except OSError as error:
        root = "; root can" if os.geteuid() else ""
        answer = {"reason": f"its rights cannot be taken: {error.strerror or error}{root}"}
    except (UnpdError, likeness.ForeignError) as error:
        answer = {"reason": str(error)}
    with open(sending, "w", encoding="ascii") as pipe:
        json.dump(answer, pipe)


def _read(receiving: int, deadline_at: float) -> bytes:
    """Read to the end, or as far as the child has come at the deadline."""
    read = b""
    poll = select.poll()
    poll.register(receiving, select.POLLIN)
    while len(read) < MAX_BYTES and poll.poll(max(deadline_at - time.monotonic(), 0) * 1000):
        piece = os.read(receiving, 1 << 16)
        if not piece:
            break
        read += piece
    return read


def _parsed(read: bytes) -> Sentences:
    try:
        answer = json.loads(read)
    except (ValueError, RecursionError):
        raise UnknownFactError(NO_ANSWER) from None
    match answer:
        case {"told": [*told]}:
            return tuple(map(str, told))
        case {"reason": str(reason)}:
            raise UnknownFactError(reason)
    raise UnknownFactError(NO_ANSWER)
