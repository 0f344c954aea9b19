"""Says what the kernel refused where a program could not be started: which file or
directory, to which user, and which interpreter is missing.

Called by the roll of programs and by trials, when the process that was to become the
program has ended. Reads the first line of the program, with the rights of its user.
Raises nothing.

Known gap: it looks after the start; the file may have changed meanwhile.
"""

import contextlib
import errno
import functools
import os
import re
from dataclasses import dataclass

from unpd.dispatcher.launch import Launch
from unpd.errors import quoted
from unpd.kernel.privileges import file_rights_of, user_name
from unpd.names import StartStep

MAX_LINE_BYTES = 256
"""How much of a first line the kernel reads (execve(2))."""
_INTERPRETER = re.compile(rb"#![ \t]*([^ \t\n]+)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """``step``: the one of the start that failed, for ``reason``. ``path``: what was
    refused to ``user``; both are "" if that is not known, and for the other steps.
    """

    step: StartStep
    reason: str
    path: str = ""
    user: str = ""


def refusal_of(failed: tuple[StartStep, int], launch: Launch | None) -> Refusal:
    """The refusal of a step with this errno. ``launch``: of the program, if known."""
    step, number = failed
    reason, path = os.strerror(number), _path(step, launch)
    if launch is None or not path:
        return Refusal(step, reason)
    if step is StartStep.PROGRAM and number == errno.ENOENT:
        reason += _missing(path, launch)
    user = launch.identity.user if launch.identity else _name_of(os.geteuid())
    return Refusal(step, reason, os.fsdecode(path), user)


@functools.cache
def _name_of(uid: int) -> str:
    """The name of a user, asked for once: a directory service may be slow to answer."""
    return user_name(uid)


def _path(step: StartStep, launch: Launch | None) -> bytes:
    if launch is not None and step is StartStep.DIRECTORY:
        return launch.directory
    return launch.argv[0] if launch and launch.argv and step is StartStep.PROGRAM else b""


def _missing(path: bytes, launch: Launch) -> str:
    """What a program that exists needs and what is missing, as the end of a sentence;
    "" if the program itself is missing, or if nobody can tell.
    """
    rights = file_rights_of(launch.identity) if launch.identity else contextlib.nullcontext()
    with contextlib.suppress(OSError), rights:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            first = os.read(fd, MAX_LINE_BYTES)
        finally:
            os.close(fd)
        if first.startswith(b"\x7fELF"):
            return ": its loader (ld.so), or what runs its architecture, is missing"
        named = _INTERPRETER.match(first)
        # The kernel looks from the directory in which the program is to start.
        if named and not os.path.exists(os.path.join(launch.directory, named[1])):
            return f": the interpreter {quoted(os.fsdecode(named[1]))} is missing"
    return ""
