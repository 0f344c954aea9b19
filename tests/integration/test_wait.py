"""``unpd wait`` ends when a condition holds, and says by its exit code whether it
does.
"""

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTERM

from tests.support import clients
from tests.support.daemon import COMMAND, Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, read_answer, reconfigure, reload, send_request, status
from tests.support.waiting import until
from unpd.control.answer_fields import mismatch
from unpd.control.view_fields import WAIT

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'


def waited(unpd: Unpd, *words: str) -> tuple[int, str]:
    """The exit code of the command, and what it complains about."""
    done = unpd.run("wait", *words, "--control", str(unpd.control))
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def test_a_drain_is_waited_for(launch: Launch) -> None:
    """The command ends in time, or as soon as the last connection of before has."""
    unpd = launch(ECHO)
    with contextlib.ExitStack() as stack:
        stack.enter_context(clients.idle(unpd.address("echo"), 1))
        unpd.metric_becomes(1, "unpd_connections_active", service="echo")
        reload(unpd, every_pool=True)
        until(lambda: len(unpd.workers()) == 3, 10.0, "the idle worker of before to end")
        assert waited(unpd, "ready") == (0, "")
        late = waited(unpd, "drained", "--timeout", "0")
        assert late == (4, "unpd: not drained: 1 retired process is left, with 1 connection\n")
        command = ("wait", "drained", "--timeout", "0", "--json", "--control", str(unpd.control))
        told = json.loads(unpd.run(*command).stdout)
        assert (told["held"], told["connections"]) == (False, 1)
        assert told["until"] == status(unpd)["retired"][0]["drain_ends_at"]
        with contextlib.closing(send_request(unpd.control, verb="wait", condition="drained")) as it:
            assert ask(unpd.control, verb="status")["ok"] is True
            stack.close()
            answer = read_answer(it)
            assert mismatch(answer, WAIT) == ""
            assert (answer["held"], answer["why"]) == (True, None)
    assert status(unpd)["retired"] == []


def test_a_terminal_shows_how_far_a_stop_is(launch: Launch) -> None:
    """How many connections are left, and until when."""
    unpd = launch("[pools.default]\nworkers = 1\n" + ECHO)
    keyboard, screen = os.openpty()
    command = [*COMMAND, "stop", "--control", str(unpd.control)]
    (worker,) = unpd.workers()
    said = bytearray()

    def shows() -> bool:
        with contextlib.suppress(BlockingIOError):
            said.extend(os.read(keyboard, 4096))
        return b"stopping: 1 connection left, until 20" in said

    with contextlib.ExitStack() as stack:
        stack.enter_context(clients.idle(unpd.address("echo"), 1))
        unpd.metric_becomes(1, "unpd_connections_active", service="echo")
        os.kill(worker, SIGSTOP)
        os.set_blocking(keyboard, False)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=screen) as stopping:
            try:
                until(shows, 20.0, lambda: f"the progress of the stop: {bytes(said)!r}")
            finally:
                os.kill(worker, SIGCONT)
                stack.close()
    assert stopping.returncode == 0
    assert unpd.wait_exit() == 0
    for fd in (keyboard, screen):
        os.close(fd)


def test_a_reload_by_signal_is_waited_for(launch: Launch) -> None:
    """The signal came first, so the command waits for its reload; a refusal is a
    failure with its reason.
    """
    unpd = launch(ECHO)
    unpd.signal(SIGHUP)
    assert waited(unpd, "reloaded", "--timeout", "60s") == (0, "")
    assert status(unpd)["generation"] == 2
    unpd.expect_errors("reload.refused")
    reconfigure(unpd, b"[x")
    unpd.signal(SIGHUP)
    code, complaint = waited(unpd, "reloaded")
    assert code == 1
    assert complaint.startswith("unpd: the last reload was refused: ")


def test_a_daemon_that_ends_is_waited_for_in_vain(launch: Launch) -> None:
    """One that stops answers at once, and afterwards no daemon runs."""
    unpd = launch(ECHO)
    with clients.idle(unpd.address("echo"), 1):
        unpd.metric_becomes(1, "unpd_connections_active", service="echo")
        reload(unpd, every_pool=True)
        with contextlib.closing(send_request(unpd.control, verb="wait", condition="drained")) as it:
            assert ask(unpd.control, verb="status")["ok"] is True
            unpd.signal(SIGTERM)
            answer = read_answer(it)
    assert (answer["held"], answer["why"]) == (False, "the daemon is stopping")
    assert unpd.wait_exit() == 0
    code, complaint = waited(unpd, "ready")
    assert (code, "unpd is not running" in complaint) == (3, True)


def test_a_daemon_that_is_killed_does_not_run(tmp_path: Path) -> None:
    """The command notices it while it waits, and does not take it for an answer."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [*COMMAND, "wait", "drained", "--control", str(path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as waiting:
            with listener.accept()[0] as daemon:
                assert json.loads(daemon.recv(4096))["condition"] == "drained"
                listener.close()
            complaint = waiting.communicate()[1].decode()
    assert waiting.returncode == 3
    assert "unpd is not running" in complaint
