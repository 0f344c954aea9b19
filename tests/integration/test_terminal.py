"""A daemon that was started from a terminal: in the foreground, in the background, and
after the terminal was closed.
"""

import os
from pathlib import Path
from signal import SIGABRT, SIGHUP, SIGSEGV, SIGTERM, SIGTTOU, SIGUSR1, Signals

import pytest

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.terminal import CTRL_C, CTRL_Z, Terminal, controlling, terminal
from tests.support.waiting import until

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def logged(unpd: Unpd, screen: Terminal, event: str) -> None:
    """Wait until the terminal shows ``event``. Copy what it shows to the place where
    the test's tools look for the log.
    """
    until(lambda: f'"{event}"' in screen.said, 20.0, lambda: f"{event} in: {screen.said[-2000:]}")
    unpd.stderr_path.write_text(screen.said)


def begun(unpd: Unpd, screen: Terminal) -> None:
    """Wait until the daemon and all its children are ready."""
    until(screen.shows_ready, 20.0, lambda: f"four that are ready in: {screen.said[-2000:]}")
    unpd.stderr_path.write_text(screen.said)


def test_a_background_job_may_log_on_its_terminal(launch: Launch) -> None:
    """With ``stty tostop`` the kernel sends SIGTTOU to a background job that writes.
    The daemon writes all the same, takes no order from that signal, and can be stopped.
    """
    with terminal("bg", tostop=True) as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        begun(unpd, screen)
        clients.converse(unpd.address("echo"), b"served")
        logged(unpd, screen, "connection.ended")
        os.kill(unpd.pid, SIGTERM)
        assert unpd.wait_exit() == 0
        assert '"pool.resized"' not in screen.said


@pytest.mark.parametrize("fault", [SIGABRT, SIGSEGV])
def test_a_background_job_may_crash_on_its_terminal(launch: Launch, fault: Signals) -> None:
    """The trace of a crash is no log line: faulthandler writes it in a handler, and
    begins again when a signal interrupts it. It too gets no SIGTTOU.
    """
    with terminal("bg", tostop=True) as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        begun(unpd, screen)
        unpd.expect_exit(256 - fault)
        unpd.expect_traceback()
        unpd.expect_leftover(unpd.pid_file)
        unpd.expect_leftover(unpd.control)
        os.kill(unpd.pid, fault)
        until(lambda: unpd.process.poll() is not None, 10.0, "the end of the crashed master")
        procs.kill_and_reap(unpd.family())  # its children die with it
        assert unpd.wait_exit() == 256 - fault
        assert "Fatal Python error" in screen.said


@pytest.mark.slow
def test_a_worker_fewer_can_be_asked_for_on_a_terminal(launch: Launch) -> None:
    """The kernel sends no SIGTTOU to a daemon that logs on its terminal, whatever
    writes there. So one that comes is an order, and is obeyed within a second or so.
    """
    with terminal("bg", tostop=True) as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        begun(unpd, screen)
        assert SIGTTOU in procs.signals(unpd.pid).blocked
        until(lambda: not blocking(unpd.pid), 10.0, "children without blocked signals")
        os.kill(unpd.pid, SIGTTOU)
        logged(unpd, screen, "pool.resized")
        assert '"workers":1' in screen.said
        os.kill(unpd.pid, SIGTERM)
        assert unpd.wait_exit() == 0


def blocking(master: int) -> list[procs.Stat]:
    """The children that block signals."""
    return [child for child in procs.children(master) if procs.signals(child.pid).blocked]


def test_children_serve_while_their_master_is_stopped(launch: Launch) -> None:
    """Ctrl-Z stops the master alone. After ``bg`` it goes on, and its next log line
    does not stop it again.
    """
    with terminal("fg", tostop=True) as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        begun(unpd, screen)
        master = unpd.pid
        workers = unpd.workers()
        screen.type(CTRL_Z)
        until(lambda: (found := procs.stat(master)) and found.state == "T", 5.0, "the stop")
        assert clients.converse(unpd.address("echo"), b"served") == b"served"
        os.kill(unpd.process.pid, SIGUSR1)
        until(lambda: (found := procs.stat(master)) and found.state != "T", 5.0, "the end of it")
        procs.kill(workers[:1])
        logged(unpd, screen, "worker.died")
        os.kill(master, SIGTERM)
        assert unpd.wait_exit() == 0
        assert '"pool.resized"' not in screen.said


def test_children_cannot_reach_the_terminal(launch: Launch) -> None:
    """A child has no controlling terminal, into whose input it could put characters
    (TIOCSTI). It has no descriptor from which it could read what is typed, and
    descriptor 0 is /dev/null.
    """
    with terminal("fg") as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        begun(unpd, screen)
        assert controlling(unpd.pid)
        for child in procs.children(unpd.pid):
            assert not controlling(child.pid)
            assert child.session == child.pid
            opened = procs.fds(child.pid)
            assert opened[0] == opened[1] == "/dev/null"
            screens = [fd for fd, target in opened.items() if target == screen.path]
            assert screens == [2]
            assert access_mode(child.pid, 2) == os.O_WRONLY
        screen.type(CTRL_C)
        assert unpd.wait_exit() == 0
        logged(unpd, screen, "master.stopped")
        assert '"ended":"exit code 0"' in screen.said


def access_mode(pid: int, fd: int) -> int:
    """Return how ``pid`` has opened ``fd`` (proc(5), fdinfo)."""
    lines = (procs.PROC / str(pid) / "fdinfo" / str(fd)).read_text().splitlines()
    return int(lines[1].split()[1], 8) & os.O_ACCMODE


def in_a_file(path: Path) -> str:
    """The configuration of a daemon that logs to a file."""
    return f'[log]\nfile = "{path}"\n{ECHO}'


def test_a_closed_terminal_ends_a_run_in_the_foreground(launch: Launch, tmp_path: Path) -> None:
    """The daemon stops gracefully when its window is closed, and says why in its log
    file. It does not live on where nobody sees it.
    """
    with terminal("fg") as screen:
        unpd = launch(
            in_a_file(tmp_path / "log"), prefix=screen.prefix, preexec=screen.attach_input
        )
        screen.hang_up()
        assert unpd.wait_exit() == 0
        by = "SIGHUP, because the terminal was closed"
        assert unpd.log_events("master.stopping", quick=False, by=by)


def test_a_hangup_by_hand_is_a_reload_in_the_foreground_too(launch: Launch, tmp_path: Path) -> None:
    """As long as the terminal is there, SIGHUP means what it means elsewhere."""
    with terminal("fg") as screen:
        unpd = launch(
            in_a_file(tmp_path / "log"), prefix=screen.prefix, preexec=screen.attach_input
        )
        unpd.signal(SIGHUP)
        unpd.wait_event("reload.succeeded")
        unpd.signal(SIGTERM)
        assert unpd.wait_exit() == 0


def test_nohup_keeps_a_daemon_alive(launch: Launch, tmp_path: Path) -> None:
    """Under nohup(1) a closed terminal is not the end of the daemon."""
    with terminal("fg") as screen:
        unpd = launch(
            in_a_file(tmp_path / "log"),
            prefix=(*screen.prefix, "nohup"),
            preexec=screen.attach_input,
        )
        screen.hang_up()
        unpd.wait_event("reload.succeeded")
        unpd.signal(SIGTERM)
        assert unpd.wait_exit() == 0
