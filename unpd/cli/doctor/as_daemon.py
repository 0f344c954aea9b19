"""Loads the configuration, and tries the places that a daemon needs, with the rights of
the daemon that runs, and in its view of the file system, as ``unpd check --as-daemon``
does; or with the rights of the user of the unit that would start it.

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
from unpd.cli.doctor.facts import Unit, UnknownFactError
from unpd.config.host import Host, this_host
from unpd.errors import ConfigError, PrivilegeError, UnpdError
from unpd.kernel import likeness, privileges

PATIENCE_S = 20.0
MAX_BYTES = 1 << 20
"""How much is read of the child, which runs with the rights of another user."""
NO_ANSWER = "the process that took the daemon's rights gave no answer"

Sentences = tuple[str, ...]


def running(pid: int, path: Path | None) -> tuple[Sentences, Sentences]:
    """Why the daemon ``pid`` would refuse the configuration at ``path`` (None: the
    built-in one), and what it could not use of it. UnknownFactError.
    """
    return _both(lambda: likeness.become_like(pid), path, frozenset())


def starting(unit: Unit, path: Path | None) -> tuple[Sentences, Sentences]:
    """The same of the daemon that this unit would start, but for its sandbox. This
    process is root, or has the user of the unit. UnknownFactError.
    """
    return _both(lambda: _become_user_of(unit), path, frozenset(unit.directories))


def _become_user_of(unit: Unit) -> None:
    """Become the user of a unit for good, with its groups, and the defaults that it has
    there.
    """
    if os.geteuid() == 0 and unit.user:
        try:
            identity = privileges.identify(unit.user, unit.group or None, unit.groups)
        except KeyError as error:
            raise PrivilegeError(f"{unit.name}: {error.args[0]}") from None
        own = os.getgrouplist(identity.user, identity.gid)
        privileges.become(replace(identity, groups=(*own, *identity.groups)))
    for of_session in ("XDG_RUNTIME_DIR", "TMPDIR"):
        os.environ.pop(of_session, None)
    runtime = (str(path) for path in unit.directories if path.is_relative_to("/run"))
    os.environ["RUNTIME_DIRECTORY"] = ":".join(runtime)


def _both(
    become: Callable[[], None], path: Path | None, given: frozenset[Path]
) -> tuple[Sentences, Sentences]:
    def refused() -> Sentences:
        become()
        return _problems(lambda: load_path(path, _host(path)))

    def unusable() -> Sentences:
        become()
        return _problems(lambda: refuse_unusable(load_path(path, _host(path)), given))

    found = told_by_child(refused)
    return (found, ()) if found else ((), told_by_child(unusable))


def _host(path: Path | None) -> Host:
    return replace(this_host(path), check_interfaces=True)


def _problems(step: Callable[[], object]) -> Sentences:
    try:
        step()
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
