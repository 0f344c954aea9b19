"""A log that a daemon cannot open again, because its terminal or its pipe belongs to
another user (su, ``sudo -u``).
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGABRT, SIGINT

import pytest

from tests.support import clients, descriptors, faults, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.observed import parse_log
from tests.support.operating import wait_all_ready
from tests.support.terminal import Terminal, terminal
from tests.support.waiting import until

pytestmark = [faults.requires_root, faults.requires_tool("setpriv")]

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
CONFIG = """
[daemon]
pid_file = "{run}/unpd.pid"
control = "{run}/control.sock"

[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


@pytest.fixture
def launch(no_process_left: None) -> Iterator[Launch]:
    """Start daemons in a directory that the user nobody can reach."""
    base = Path(tempfile.mkdtemp(prefix="unpd-inherited-"))
    base.chmod(0o755)
    (base / "run").mkdir()
    os.chown(base / "run", NOBODY, -1)
    launcher = Launch(base)
    yield launcher
    problems = launcher.finish()
    shutil.rmtree(base)
    assert not problems, "\n".join(problems)


def on(screen: Terminal, launch: Launch) -> Unpd:
    """Start a daemon of nobody on a terminal of root; wait until all of it is ready."""
    unpd = launch(
        CONFIG.format(run=launch.directory / "run"),
        ready=False,
        prefix=(*screen.prefix, *AS_NOBODY),
        preexec=screen.attach,
    )
    until(screen.shows_ready, 20.0, lambda: f"four that are ready in: {screen.said[-2000:]}")
    unpd.stderr_path.write_text(screen.said)
    return unpd


def shows(unpd: Unpd, screen: Terminal, words: str) -> None:
    """Wait until the terminal shows these words. Copy what it shows to the place where
    the test's tools look for the log.
    """
    until(lambda: words in screen.said, 20.0, lambda: f"{words} in: {screen.said[-2000:]}")
    unpd.stderr_path.write_text(screen.said)


def test_no_child_can_read_the_terminal_of_another_user(launch: Launch) -> None:
    """A shell gives its one description of the terminal to all three descriptors, for
    reading too. The children write to a pipe of the master's, which passes their lines
    and the trace of a crash on, up to the last.
    """
    with terminal("fg") as screen:
        unpd = on(screen, launch)
        assert procs.fds(unpd.pid)[2] == screen.path
        for child in procs.children(unpd.pid):
            opened = procs.fds(child.pid)
            assert screen.path not in opened.values()
            assert opened[2].startswith("pipe:")
        workers = unpd.workers()
        clients.converse(unpd.address("echo"), b"served")
        shows(unpd, screen, '"received":6')
        procs.kill(workers[:1], SIGABRT)
        shows(unpd, screen, "Fatal Python error: Aborted")
        unpd.expect_traceback()
        unpd.wait_respawned(workers[:1])
        with clients.connect(unpd.address("echo")) as sock:
            sock.sendall(b"to the end")
            assert clients.read_exactly(sock, 10) == b"to the end"
            os.kill(unpd.pid, SIGINT)
            assert unpd.wait_exit() == 0
        unpd.stderr_path.write_text(screen.said)
        *_, last = unpd.log_events("connection.ended")
        assert (last.fields["received"], last.fields["cause"]) == (10, "shutdown")
        assert unpd.log_events()[-1].name == "master.stopped"


@contextmanager
def piped(launch: Launch) -> Iterator[tuple[Unpd, int, int]]:
    """Start a daemon of nobody on a pipe of root, and read that until it is ready.
    Yields (daemon, read end, write end).
    """
    reader, writer = os.pipe()
    unpd = launch(
        CONFIG.format(run=launch.directory / "run"),
        ready=False,
        prefix=AS_NOBODY,
        preexec=lambda: os.dup2(writer, 2),
    )
    said = b""
    while said.count(b".ready") < 4 or not said.endswith(b"\n"):
        said += os.read(reader, 4096)
    unpd.stderr_path.write_bytes(said)
    os.set_blocking(reader, False)
    yield unpd, reader, writer
    for end in (reader, writer):
        os.close(end)


@pytest.mark.slow
@faults.requires_strace()
def test_no_child_can_make_the_master_wait_for_the_pipe_of_another_user(launch: Launch) -> None:
    """A faulty worker clears O_NONBLOCK on its log and fills it. The master shares that
    description with no child, and does its work.
    """
    with piped(launch) as (unpd, reader, writer):
        workers = unpd.workers()
        for worker in workers:
            assert not {fd for fd, _ in descriptors.shared(unpd.pid, worker) if fd == 2}
        fd = descriptors.borrow(workers[0], 2)
        os.set_blocking(fd, True)
        os.write(fd, b'{"level":"info","event":"noise"}\n' * 5000)  # more than both pipes hold
        os.close(fd)
        procs.kill(workers)
        unpd.wait_respawned(workers)
        wait_all_ready(unpd)
        until(lambda: unpd.metric("unpd_log_lines_dropped_total") > 0, 10.0, "dropped lines")
        assert unpd.stop() == 0
        assert os.get_blocking(writer)
        assert parse_log(os.read(reader, 1 << 20).decode())


def test_no_line_of_an_ended_child_is_lost(launch: Launch) -> None:
    """At a quick stop each worker writes many lines and ends. The master passes them on
    before its own last line.
    """
    with piped(launch) as (unpd, reader, _):
        # Nobody reads until the end, and the lines of debug fill a pipe of 64 KiB.
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
        with clients.idle(unpd.address("echo"), 100) as connected:
            for sock in connected:
                sock.sendall(b"x")
                assert clients.read_exactly(sock, 1) == b"x"
            unpd.signal(SIGINT)
            assert unpd.wait_exit() == 0
        events = parse_log(os.read(reader, 1 << 20).decode())
        assert sum(event.name == "connection.ended" for event in events) == 100
        assert events[-1].name == "master.stopped"
