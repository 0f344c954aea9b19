"""unpd with hostile workers. ``python -m tests.support.hostile run ...`` is ``python -m
unpd run ...``, but each worker first does what an attacker who took it over would do,
and writes what came of it to the file hostile-PID in $HOSTILE_REPORTS. Then it serves.

If root runs it, it becomes the user nobody first, with the one capability that
unpd.service gives: so the workers share the master's user. Before that it imports what
the commands need, because nobody may not be able to read the libraries.
"""

import codecs
import contextlib
import ctypes
import json
import os
import pwd
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.clients import connect
from tests.support.operating import ask
from tests.support.waiting import until
from unpd.cli import commands, dispatch, verbs
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.master.children import kinds
from unpd.worker.main import Worker

FLOOD = 300
CAP_NET_BIND_SERVICE = 10
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 4, 8, 47, 2
PTRACE_SEIZE = 0x4206
SYS_PIDFD_GETFD = 438
CAPABILITY_VERSION_3 = 0x20080522
LIBC = ctypes.CDLL(None, use_errno=True)


def become_nobody() -> None:
    """Become the user nobody for good, and keep CAP_NET_BIND_SERVICE."""
    account = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setresgid(*(account.pw_gid,) * 3)
    LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setresuid(*(account.pw_uid,) * 3)
    one = 1 << CAP_NET_BIND_SERVICE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(one, one, one, 0, 0, 0)
    assert LIBC.capset(header, sets) == 0
    assert LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0
    assert LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0, "as after an exec by systemd"


def read_memory(master: int) -> str:
    """Open the memory of the master."""
    with open(f"/proc/{master}/mem", "r+b"):
        return "opened"


def list_descriptors(master: int) -> str:
    """Look at the descriptors of the master."""
    return f"seen: {os.listdir(f'/proc/{master}/fd')}"


def take_descriptor(master: int) -> str:
    """Duplicate a descriptor of the master (pidfd_getfd(2))."""
    if LIBC.syscall(SYS_PIDFD_GETFD, os.pidfd_open(master), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "taken"


def trace(master: int) -> str:
    """Attach to the master as a debugger."""
    if LIBC.ptrace(PTRACE_SEIZE, master, None, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "attached"


def bind_low_port(_: int) -> str:
    """Bind a port below 1024."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", 7))
    return "bound"


def command(_: int) -> str:
    """Command the master."""
    return json.dumps(ask(control(), verb="status").get("reason", "obeyed"))


def command_often(master: int) -> str:
    """Connect and leave again and again for longer than a second, then command the
    master.
    """
    done, enough_at = 0, time.monotonic() + 1.2
    while done < FLOOD or time.monotonic() < enough_at:
        with contextlib.suppress(BlockingIOError), connect(str(control())):
            done += 1
    while True:
        with contextlib.suppress(BlockingIOError):  # the queue is full of our own
            return command(master)


def command_from(prepare: Callable[[], None]) -> Callable[[int], str]:
    """Command the master from an own child that ``prepare`` makes."""

    def attempt(master: int) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                prepare()
                os.write(writer, command(master).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            answer = pipe.read()
        os.waitpid(pid, 0)
        return answer

    return attempt


def as_child() -> None:
    """Be a child of the worker."""


def as_orphan() -> None:
    """Be a grandchild whose parent has ended."""
    parent = os.getpid()
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    until(lambda: os.getppid() != parent, 10.0, "the parent to end")


def behind_a_hidden_parent() -> None:
    """Be a grandchild whose parent is not dumpable, so that /proc may hide it."""
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def as_hidden() -> None:
    """Be a child that is not dumpable."""
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


ATTEMPTS: dict[str, Callable[[int], str]] = {
    "read_memory": read_memory,
    "list_descriptors": list_descriptors,
    "take_descriptor": take_descriptor,
    "trace": trace,
    "bind_low_port": bind_low_port,
    "command": command,
    "command_often": command_often,
    "command_as_child": command_from(as_child),
    "command_as_orphan": command_from(as_orphan),
    "command_behind_a_hidden_parent": command_from(behind_a_hidden_parent),
    "command_as_hidden": command_from(as_hidden),
}


def control() -> Path:
    """The control socket of the daemon under test."""
    return Path(os.environ["HOSTILE_CONTROL"])


class HostileWorker(Worker):
    """A worker that an attacker took over."""

    def run(self) -> None:
        """Attack, write the report, then serve."""
        results: dict[str, Any] = {}
        for name, attempt in ATTEMPTS.items():
            try:
                results[name] = attempt(os.getppid())
            except OSError as error:
                results[name] = type(error).__name__
        reports = Path(os.environ["HOSTILE_REPORTS"])
        report = reports / f".{os.getpid()}"
        report.write_text(json.dumps(results))
        report.rename(reports / f"hostile-{os.getpid()}")
        super().run()


def import_lazy_modules() -> None:
    """Import the modules that the commands import only when they run."""
    assert {commands.__name__, verbs.__name__} <= sys.modules.keys()
    for encoding in ("utf-8-sig", "idna"):
        codecs.lookup(encoding)
    loads('[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n', this_host())


@contextlib.contextmanager
def hostile_workers() -> Iterator[None]:
    """Have the master start hostile workers."""
    genuine = vars(kinds)["Worker"]
    vars(kinds)["Worker"] = HostileWorker
    try:
        yield
    finally:
        vars(kinds)["Worker"] = genuine


if __name__ == "__main__":
    if os.geteuid() == 0:
        import_lazy_modules()
        become_nobody()
    with hostile_workers():
        sys.exit(dispatch.run_command(sys.argv[1:]))
