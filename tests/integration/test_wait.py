"""``unpd wait`` ends when a condition holds, and says by its exit code whether it
does.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP, SIGTERM

import pytest

from tests.support import clients
from tests.support.daemon import COMMAND, Unpd
from tests.support.held import HeldService
from tests.support.launch import Launch
from tests.support.operating import ask, read_answer, reconfigure, reload, send_request, status
from tests.support.waiting import until
from unpd.control.answer_fields import mismatch
from unpd.control.view_fields import WAIT

ONE = "[pools.default]\nworkers = 1\n"
PATIENT = "[daemon]\nstart_timeout_s = 60\n" + ONE
"""A process that is held back has time."""
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
            assert (answer["held"], answer["why"], answer["stopping"]) == (True, None, False)
    assert status(unpd)["retired"] == []


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
    assert answer["stopping"] is True
    assert unpd.wait_exit() == 0
    for words in (("drained",), ("ready", "--timeout", "0")):
        code, complaint = waited(unpd, *words)
        assert (code, "unpd is not running" in complaint) == (3, True)


@pytest.mark.parametrize("condition", ["drained", "ready"])
def test_a_daemon_that_is_killed_does_not_run(tmp_path: Path, condition: str) -> None:
    """The command notices it while it waits, and does not take it for an answer, nor
    for a daemon that has yet to start.
    """
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [*COMMAND, "wait", condition, "--timeout", "60s", "--control", str(path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as waiting:
            with listener.accept()[0] as daemon:
                assert json.loads(daemon.recv(4096))["condition"] == condition
                listener.close()
            complaint = waiting.communicate()[1].decode()
    assert waiting.returncode == 3
    assert "unpd is not running" in complaint


def test_a_start_and_a_reload_that_last_are_told(launch: Launch, public: Path) -> None:
    """With an exit code of its own, when the time of the command is over."""
    held = HeldService(public)
    unpd = launch(PATIENT + ECHO + held.text, ready=False)
    unpd.wait_event("worker.ready")
    late = waited(unpd, "ready", "--timeout", "0")
    assert late == (4, "unpd: not ready: the daemon is starting\n")
    held.let_go()
    unpd.wait_ready()
    held.hold()
    with contextlib.closing(send_request(unpd.control, verb="reload", all=True)) as reloading:
        until(lambda: status(unpd)["phase"] == "proving", 10.0, "the proof of the new processes")
        late = waited(unpd, "reloaded", "--timeout", "0")
        assert late == (4, "unpd: not reloaded: a reload is under way\n")
        held.let_go()
        assert read_answer(reloading)["ok"]


# --- progress -------------------------------------------------------------------------


@contextlib.contextmanager
def on_a_terminal(
    control: Path, *words: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], None]]]:
    """Run a command whose standard error is a terminal. Yields it, and a function that
    waits until the terminal has shown a text.
    """
    keyboard, screen = os.openpty()
    os.set_blocking(keyboard, False)
    said = bytearray()

    def is_shown(text: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            said.extend(os.read(keyboard, 4096))
        return text.encode() in said

    def shows(text: str) -> None:
        until(lambda: is_shown(text), 20.0, lambda: f"{text!r} on the terminal: {bytes(said)!r}")

    command = [*COMMAND, *words, "--control", str(control)]
    with contextlib.ExitStack() as stack:
        for fd in (keyboard, screen):
            stack.callback(os.close, fd)
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=screen)
        stack.enter_context(running)
        stack.callback(running.kill)  # a test that has failed does not wait for it
        yield running, shows


def holding_one(stack: contextlib.ExitStack, unpd: Unpd) -> None:
    """Hold a connection to echo until the end of the stack."""
    stack.enter_context(clients.idle(unpd.address("echo"), 1))
    unpd.metric_becomes(1, "unpd_connections_active", service="echo")


def test_a_terminal_shows_how_far_a_stop_is(launch: Launch) -> None:
    """How many connections are left, and until when."""
    unpd = launch(ONE + ECHO)
    (worker,) = unpd.workers()
    with contextlib.ExitStack() as stack:
        holding_one(stack, unpd)
        os.kill(worker, SIGSTOP)
        stack.callback(os.kill, worker, SIGCONT)
        with on_a_terminal(unpd.control, "stop") as (command, shows):
            shows("stopping: 1 connection left, until 20")
            stack.close()
            assert command.wait(20.0) == 0
    assert unpd.wait_exit() == 0


def test_a_daemon_may_start_after_the_command(launch: Launch) -> None:
    """The command waits for its control socket, and then until it is ready."""
    control = launch.directory / "unpd-0/control.sock"
    with on_a_terminal(control, "wait", "ready", "--timeout", "60s") as (command, shows):
        shows("not ready: no daemon runs yet; waiting for ")
        unpd = launch(ONE + ECHO, ready=False)
        assert unpd.control == control
        assert command.wait(20.0) == 0
        assert unpd.log_events("master.ready")


@pytest.mark.slow
def test_a_terminal_shows_how_far_a_drain_is(launch: Launch) -> None:
    """How many connections are left, and how long the command waits."""
    unpd = launch(ONE + ECHO)
    with contextlib.ExitStack() as stack:
        holding_one(stack, unpd)
        words = ("drain", "echo", "--timeout", "10m")
        with on_a_terminal(unpd.control, *words) as (command, shows):
            shows("not drained: 1 connection of echo is left; waiting for 10 min at most")
            stack.close()
            assert command.wait(20.0) == 0


@pytest.mark.slow
def test_a_terminal_shows_how_far_a_reload_is(launch: Launch, public: Path) -> None:
    """What the daemon does, and how many connections old processes have; in the end
    also what is left of these.
    """
    held = HeldService(public)
    unpd = launch(PATIENT + ECHO)
    with contextlib.ExitStack() as stack:
        holding_one(stack, unpd)
        reload(unpd, every_pool=True)
        reconfigure(unpd, PATIENT + ECHO + held.text)
        left = "1 connection of retired processes left, until 20"
        with on_a_terminal(unpd.control, "reload") as (command, shows):
            shows(f"reloading (proving); {left}")
            held.let_go()
            assert command.wait(20.0) == 0
            shows(f"\x1b[K{left}")
            shows("; unpd wait drained waits for their end")
