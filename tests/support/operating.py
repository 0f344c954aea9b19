"""Does what an operator does to a running daemon: edits its configuration, runs
commands, and speaks to its control socket. Integration and chaos tests use it.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

from tests.support import procs
from tests.support.clients import connect
from tests.support.configs import compose
from tests.support.daemon import Unpd
from tests.support.waiting import holds, until
from unpd.names import ChildKind

VERSION = 1
ACCEPTING = (ChildKind.WORKER, ChildKind.DISPATCHER, ChildKind.ITERATIVE)
"""The kinds of children that accept the clients of each model."""
CONNECTED = "03"
"""The state SS_CONNECTED of <linux/net.h>, as /proc/net/unix has it."""


def reconfigure(unpd: Unpd, text: str | bytes) -> None:
    """Replace the configuration with a rename. A text is completed as at the start;
    bytes are written as they are.
    """
    log_file = unpd.log_path if unpd.setting.detached else None
    content = (
        text
        if isinstance(text, bytes)
        else compose(text, unpd.directory, log_file=log_file).encode()
    )
    new = unpd.config_path.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, unpd.config_path)


def reload(unpd: Unpd, text: str | bytes | None = None, *, every_pool: bool = False) -> int:
    """Reload, with the configuration ``text`` if given, and assert success. Return the
    generation that serves now. ``every_pool``: as ``unpd reload --all``.
    """
    if text is not None:
        reconfigure(unpd, text)
    arguments = {"all": True} if every_pool else {}
    answer = ask(unpd.control, verb="reload", **arguments)
    assert answer["ok"], f"the reload was refused: {answer}"
    return int(answer["generation"])


def renew(unpd: Unpd, text: str) -> None:
    """Reload with a ``text`` that changes every pool, and wait until the children of
    before accept nobody: at the moment of a reload they may still take a client, which
    they treat by their own configuration.
    """
    before = [pid for kind in ACCEPTING for pid in unpd.children(kind)]
    reload(unpd, text)
    until(
        lambda: not any(" ready," in procs.title(pid) for pid in before),
        10.0,
        "the children of before to drain",
    )


def refused_reload(unpd: Unpd, text: str | bytes | None = None) -> str:
    """Reload and assert the refusal, in the answer and in the log. Return the reason
    that ``unpd reload`` prints.
    """
    if text is not None:
        reconfigure(unpd, text)
    unpd.expect_errors("reload.refused")
    ended = unpd.run("reload", "--control", str(unpd.control))
    assert ended.returncode != 0, f"the reload succeeded: {ended.stdout.decode()}"
    return ended.stderr.decode()


def ask(control: Path, **request: Any) -> dict[str, Any]:
    """Send one request over the control socket. Return its answer."""
    with contextlib.closing(send_request(control, **request)) as sock:
        return read_answer(sock)


def send_request(control: Path, **request: Any) -> socket.socket:
    """Send a request. Return the connection on which the answer will come."""
    sock = connect(str(control), timeout_s=30.0)
    # A client without permission is answered before it sends.
    with contextlib.suppress(BrokenPipeError):
        sock.sendall(json.dumps({"version": VERSION, **request}).encode() + b"\n")
    return sock


def read_answer(sock: socket.socket) -> dict[str, Any]:
    """Return the answer. AssertionError if the daemon closes without one."""
    with sock.makefile("rb") as lines:
        line = lines.readline()
    assert line.endswith(b"\n"), f"{line!r} instead of an answer"
    answer = json.loads(line)
    assert isinstance(answer, dict)
    return answer


def reload_behind_a_stop(unpd: Unpd) -> dict[str, Any]:
    """Have the daemon find an order to stop and a request to reload in one turn. Return
    the answer to the request.
    """
    with procs.stopped([unpd.pid]):
        unpd.signal(SIGTERM)
        waiting = send_request(unpd.control, verb="reload")
    with contextlib.closing(waiting):
        return read_answer(waiting)


def descriptors(unpd: Unpd, births: int) -> int:
    """Count the master's open descriptors, after ``births`` children in total have
    reported ready. Until then the master holds a readiness pipe for each; and for a
    moment longer what belongs to a child that has ended, or to a control client.
    """

    def reported() -> bool:
        return (
            len(unpd.log_events("worker.ready")) + len(unpd.log_events("exporter.ready")) >= births
        )

    def reaped() -> bool:
        ended = len(unpd.log_events("child.reaped"))
        return ended + len(procs.children(unpd.pid)) == births

    until(reported, 10.0, f"{births} children to report ready")
    until(reaped, 10.0, "all children that have ended to be reaped")
    status(unpd)  # the turn in which the last one was reaped is over
    until(lambda: not _control_clients(unpd), 10.0, "the control clients to be gone")
    return len(procs.fds(unpd.pid))


def _control_clients(unpd: Unpd) -> list[str]:
    """The connections to the control socket that the master has not closed yet, as rows
    of /proc/net/unix (proc(5)): its listener is there too, in another state.
    """
    table = Path(f"/proc/{unpd.pid}/net/unix").read_text().splitlines()
    rows = (line for line in table if line.endswith(f" {unpd.control}"))
    return [row for row in rows if row.split()[5] == CONNECTED]


def status(unpd: Unpd) -> dict[str, Any]:
    """Return the status that the daemon reports."""
    answer = ask(unpd.control, verb="status")
    found = answer["status"]
    assert isinstance(found, dict)
    return found


def wait_all_ready(unpd: Unpd) -> None:
    """Wait until the daemon says that it is ready: a worker that has a title need not
    be.
    """
    until(lambda: status(unpd)["ready"], 10.0, "the daemon to be ready")


def degraded(unpd: Unpd) -> list[str]:
    """Return the sentences about the faults that stand."""
    return [str(fault["text"]) for fault in status(unpd)["degraded"]]


@contextlib.contextmanager
def nothing_remains() -> Iterator[None]:
    """Assert that no process remains of an ``unpd start`` that fails in the block.
    Processes that detached themselves became children of this process.
    """
    before = procs.child_pids(os.getpid())
    yield

    def gone() -> bool:
        return not [
            pid for pid in procs.child_pids(os.getpid()) - before if procs.reap(pid) is None
        ]

    until(
        gone,
        10.0,
        lambda: (
            "the processes of `unpd start` to end:"
            f" {[procs.stat(pid) for pid in procs.child_pids(os.getpid()) - before]}"
        ),
    )


@contextlib.contextmanager
def another_listens_at(path: Path) -> Iterator[None]:
    """Have another program take the place of a UNIX socket for the length of the
    block. Its file stays.
    """
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{path}.new")
        other.listen()
        os.replace(f"{path}.new", path)
        yield


def says_once_and_leaves_alone(unpd: Unpd, event: str, path: Path) -> None:
    """Assert that the daemon, which has logged ``event``, does so once, and leaves the
    file of another program as it is.
    """
    inode = path.stat().st_ino
    holds(
        lambda: len(unpd.log_events(event)) == 1 and path.stat().st_ino == inode,
        2.5,
        "the daemon says it once and leaves the file alone",
    )
