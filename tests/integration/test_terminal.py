"""A daemon that was started from a terminal: in the foreground, in the background, and
after the terminal was closed.
"""

import os
from signal import SIGTERM, SIGUSR1

from tests.support import clients, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.terminal import CTRL_Z, Terminal, terminal
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


def test_a_background_job_may_log_on_its_terminal(launch: Launch) -> None:
    """With ``stty tostop`` the kernel sends SIGTTOU to a background job that writes.
    The daemon writes all the same, takes no order from that signal, and can be stopped.
    """
    with terminal("bg", tostop=True) as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        logged(unpd, screen, "master.ready")
        clients.converse(unpd.address("echo"), b"served")
        logged(unpd, screen, "connection.ended")
        os.kill(unpd.pid, SIGTERM)
        assert unpd.wait_exit() == 0
        assert '"pool.resized"' not in screen.said


def test_children_serve_while_their_master_is_stopped(launch: Launch) -> None:
    """Ctrl-Z stops the master alone. After ``bg`` it goes on, and its next log line
    does not stop it again.
    """
    with terminal("fg", tostop=True) as screen:
        unpd = launch(ECHO, ready=False, prefix=screen.prefix, preexec=screen.attach)
        logged(unpd, screen, "master.ready")
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
