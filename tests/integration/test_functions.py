"""Services of type python: a function is called for each connection, in a process of
its own.
"""

import contextlib
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, clients, faults, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.manual import example
from tests.support.operating import degraded, refused_reload, reload
from tests.support.waiting import holds, until
from unpd.names import ChildKind

CONFIG = """
[daemon]
grace_s = 5
reload_grace_s = 0.5

[services.tasks]
type = "python"
listen = ["tcp://127.0.0.1:0"]
path = ["{path}"]
handler = "tasks:serve"
{keys}
"""


@pytest.fixture
def path(public: Path) -> Path:
    """A directory with the functions, which every user can read."""
    shutil.copy(ROOT / "tests/support/tasks.py", public)
    return public


def config(path: Path, keys: str = "") -> str:
    """The service of the tests, with more ``keys``."""
    return CONFIG.format(path=path, keys=keys)


def ask(daemon: Unpd, deed: str, more: bytes = b"") -> bytes:
    """Have the function do something; return all that it answers."""
    return clients.converse(daemon.address("tasks"), deed.encode() + b"\n" + more)


@contextlib.contextmanager
def asked(daemon: Unpd, deed: str) -> Iterator[socket.socket]:
    """A connection on which the function was asked to do something."""
    with clients.connect(daemon.address("tasks")) as sock:
        sock.sendall(deed.encode() + b"\n")
        yield sock


def ended(daemon: Unpd, **results: int) -> None:
    """Wait until as many functions have ended, by their results."""
    for result, count in results.items():
        daemon.metric_becomes(count, "unpd_programs_ended_total", service="tasks", result=result)


# --- the manual -----------------------------------------------------------------------


def test_the_function_of_the_manual_serves(launch: Launch, public: Path) -> None:
    """unpd-services(7) has a function that answers in upper case, and its table."""
    module = example(
        "unpd-services.7", '"""Answers what its client sends in upper case."""\n\nfrom socket'
    )
    table = example("unpd-services.7", "[services.uppercase]\ntype")
    (public / "uppercase.py").write_text(module)
    text = table.replace("tcp://[::]:10078", "tcp://127.0.0.1:0")
    daemon = launch(text.replace("/opt/handlers", str(public)))
    assert clients.converse(daemon.address("uppercase"), b"hello\n" * 1000) == b"HELLO\n" * 1000


# --- what a function finds ------------------------------------------------------------


def test_a_process_is_an_interpreter_of_its_own(launch: Launch, path: Path) -> None:
    """It has the descriptors 0, 1, 2 and the socket, which waits; signals as in any
    interpreter; a session of its own; and the environment of a program.
    """
    keys = 'environment = { COLOR = "blue" }\npass_environment = ["UNPD_TEST_ID"]\nnice = 3'
    daemon = launch(config(path, keys))
    with asked(daemon, "tell") as sock:
        found = json.loads(clients.read_all(sock))
        port = sock.getsockname()[1]
    assert sorted(found["fds"]) == sorted(["0", "1", "2", str(found["socket"])])
    assert found["fds"]["0"] == "/dev/null"
    assert found["fds"]["1"] == found["fds"]["2"]
    assert found["blocking"]
    assert found["leads"]
    assert found["nice"] == min(os.nice(0) + 3, 19)
    assert found["path"] == [str(path)]
    assert signals_of(found["signals"]["SigBlk"]) == set()
    assert signals_of(found["signals"]["SigIgn"]) == {"SIGPIPE", "SIGXFSZ"}
    of_faulthandler = {"SIGILL", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV"}
    assert signals_of(found["signals"]["SigCgt"]) == of_faulthandler
    environment = found["environment"]
    assert environment["COLOR"] == "blue"
    assert environment["UNPD_TEST_ID"] == daemon.test_id
    assert environment["REMOTE_HOST"] == "127.0.0.1"
    assert environment["TCPREMOTEPORT"] == str(port)
    assert "PYTHONPATH" not in environment


def signals_of(mask: str) -> set[str]:
    """The names of the signals in a line of /proc/PID/status."""
    return {signum.name for signum in signal.Signals if int(mask, 16) & 1 << signum - 1}


def test_the_surroundings_of_a_function(launch: Launch, path: Path) -> None:
    """Directory, umask, nice value and limits are those of its keys."""
    keys = (
        f'directory = "{path}"\numask = "0037"\nnice = 3\n'
        "limits = { nofile = 33, cpu_s = 44, as_mb = 4096, core_mb = 1, nproc = 5555 }"
    )
    daemon = launch(config(path, keys))
    found = json.loads(ask(daemon, "tell"))
    assert (found["directory"], found["umask"]) == (str(path), "0037")
    assert found["nice"] == min(os.nice(0) + 3, 19)
    numbers = {"NOFILE": 33, "CPU": 44, "AS": 4096 << 20, "CORE": 1 << 20, "NPROC": 5555}
    assert found["limits"] == {name: [number] * 2 for name, number in numbers.items()}


@faults.requires_root
def test_two_functions_do_not_disturb_each_other(launch: Launch, public: Path) -> None:
    """Although their modules have one name: each has a dispatcher, a path and a user of
    its own. One that dies, or cannot be imported any more, is no matter of the other.
    """
    users = ("daemon", "nobody")
    text = ""
    for user in users:
        (public / user).mkdir()
        (public / user / "part.py").write_text(f'NAME = "{user}"\n')
        (public / user / "who.py").write_text(WHO)
        table = config(public / user, f'user = "{user}"').partition("[services.tasks]")[2]
        text += f"[services.{user}]{table}".replace("tasks:serve", "who:serve")
    daemon = launch(text)

    def who(user: str) -> int:
        name, uid, dispatcher = clients.ask(daemon.address(user)).decode().split()
        assert (name, int(uid)) == (user, pwd.getpwnam(user).pw_uid)
        return int(dispatcher)

    first, second = map(who, users)
    assert {first, second} == set(daemon.children(ChildKind.PYTHON))
    assert first != second
    daemon.expect_errors("python.failed")
    (public / users[0] / "who.py").rename(public / users[0] / "aside.py")
    os.kill(first, signal.SIGKILL)
    daemon.wait_event("python.failed")
    assert who(users[1]) == second
    (public / users[0] / "aside.py").rename(public / users[0] / "who.py")
    assert who(users[0]) != first
    assert who(users[1]) == second


WHO = """
import os, part
def serve(sock): sock.sendall(f"{part.NAME} {os.getuid()} {os.getppid()}".encode())
"""


@faults.requires_root
def test_a_function_runs_as_its_user(launch: Launch, path: Path) -> None:
    """Its dispatcher has become that user, with its environment, before it imported the
    function, and has no way back.
    """
    (path / "who.py").write_text(
        "import os\nAT_IMPORT = os.getresuid(), os.getgroups(), os.environ.get('COLOR')\n"
        "def serve(sock): sock.sendall(repr((AT_IMPORT, os.getresuid())).encode())\n"
    )
    keys = 'user = "daemon"\ngroups = ["mail"]\nenvironment = { COLOR = "blue" }'
    daemon = launch(config(path, keys).replace("tasks:serve", "who:serve"))
    ids, mail = (pwd.getpwnam("daemon").pw_uid,) * 3, grp.getgrnam("mail").gr_gid
    assert ask(daemon, "").decode() == repr(((ids, [mail], "blue"), ids))
    (child,) = daemon.children(ChildKind.PYTHON)
    assert int(procs.status(child)["CapEff"], 16) == 0


def test_what_a_function_prints_goes_to_the_log(launch: Launch, path: Path) -> None:
    """A line each, the last one also without an end; but not again what the import has
    printed.
    """
    with (path / "tasks.py").open("a") as module:
        module.write('print("said by the import")\n')
    daemon = launch(config(path), env={"PYTHONUNBUFFERED": None})
    assert ask(daemon, "say") == b""
    daemon.wait_event("program.stderr", text="said last", service="tasks")
    assert [event.fields["text"] for event in daemon.log_events("program.stderr")] == [
        "said on standard output",
        "said on standard error",
        "said last",
    ]


# --- how it ends ----------------------------------------------------------------------


def test_functions_that_end_well(launch: Launch, path: Path) -> None:
    """Whether they return or exit, close the socket or leave it open, or a thread."""
    daemon = launch(config(path))
    deeds = ("upper", "exit 0", "leave", "close", "say", "thread")
    for deed in deeds:
        ask(daemon, deed)
    ended(daemon, ok=len(deeds))
    assert not daemon.log_events("program.failed")


def test_functions_that_exit(launch: Launch, path: Path) -> None:
    """An exit code other than 0 is a failure. A text is printed. A signal kills."""
    daemon = launch(config(path))
    for deed in ("exit 3", "_exit 4", "leave_text", "die"):
        ask(daemon, deed)
    ended(daemon, failed=3, signal=1)
    for report in ("exit code 3", "exit code 4", "exit code 1", "killed by SIGKILL"):
        daemon.wait_event("program.failed", ended=report)
    daemon.wait_event("program.failed", ended="exit code 1", last_line="no way")


def test_an_exception_ends_one_session(launch: Launch, path: Path) -> None:
    """It is one line of the log, with the end of its traceback; other sessions, and the
    dispatcher, go on.
    """
    daemon = launch(config(path))
    daemon.expect_errors("function.raised")
    daemon.expect_traceback()
    (dispatcher,) = daemon.children(ChildKind.PYTHON)
    with asked(daemon, "upper") as other:
        assert ask(daemon, "fail") == b""
        ended(daemon, failed=1)
        (line,) = daemon.log_events("function.raised")
        assert line.fields["error"] == "ValueError: on purpose"
        assert line.fields["trace"].endswith("ValueError: on purpose\n")
        assert f'File "{path}/tasks.py"' in line.fields["trace"]
        assert "unpd/dispatcher" not in line.fields["trace"]
        assert line.fields["service"] == "tasks"
        other.sendall(b"on")
        assert clients.read_exactly(other, 2) == b"ON"
    assert daemon.children(ChildKind.PYTHON) == [dispatcher]
    daemon.metric_becomes(1, "unpd_connections_ended_total", service="tasks", cause="error")


def test_a_client_gets_everything_although_nobody_read_it(launch: Launch, path: Path) -> None:
    """A function returns with bytes of its client unread: the kernel must not reset the
    connection before the client has read the answer.
    """
    daemon = launch(config(path))
    with asked(daemon, "leave") as sock:
        sock.sendall(b"unread" * 1000)
        until(lambda: not daemon.sessions("tasks") or sock.recv(1, socket.MSG_PEEK), 10.0, "an end")
        sock.sendall(b"unread" * 1000)
        assert clients.read_all(sock) == b"farewell"
    ended(daemon, ok=1)


def test_a_client_that_goes_on_sending_gets_everything(launch: Launch, path: Path) -> None:
    """The answer is still in our queue when the function returns, and more comes from
    the client than both queues hold. It reads nothing before it has sent all.
    """
    daemon = launch(config(path))
    with clients.connect(daemon.address("tasks"), receive_buffer=1) as sock:
        sock.sendall(b"leave_much\n")
        sock.sendall(bytes(4 << 20))
        sock.shutdown(socket.SHUT_WR)
        assert clients.read_all(sock) == b"farewell" * 15_000
    ended(daemon, ok=1)


def send_for(sock: socket.socket, duration_s: float) -> None:
    """Send as fast as the peer takes it."""
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        sock.sendall(bytes(65536))


@pytest.mark.slow
def test_a_client_that_sends_without_end_is_cut_off(launch: Launch, path: Path) -> None:
    """After the two seconds of unpd-services(7): its process does not stay for it."""
    daemon = launch(config(path))
    with asked(daemon, "leave") as sock:
        begin = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for(sock, 20.0)
        assert time.monotonic() > begin + 1.0
    ended(daemon, ok=1)


def test_a_process_that_a_function_forks_is_no_second_session(launch: Launch, path: Path) -> None:
    """Both return from the function, and one session is counted."""
    daemon = launch(config(path))
    first, second = ask(daemon, "fork").split()
    assert first != second
    ended(daemon, ok=1)
    daemon.metric_becomes(1, "unpd_connections_ended_total", service="tasks", cause="done")


@pytest.mark.parametrize("deed", ["stay", "defy"])
def test_a_function_that_never_returns_is_ended(launch: Launch, path: Path, deed: str) -> None:
    """After session_timeout_s, also if it ignores SIGTERM."""
    daemon = launch(config(path, "session_timeout_s = 0.5\nkill_after_s = 0.5"))
    with asked(daemon, deed) as sock:
        assert clients.read_exactly(sock, 5) == b"here\n"
        assert sock.recv(1) == b""
    ended(daemon, timeout=1)
    assert len(daemon.log_events("program.killed")) == (deed == "defy")


@pytest.mark.parametrize("deed", ["stay", "defy"])
def test_a_stop_ends_functions(launch: Launch, path: Path, deed: str) -> None:
    """With SIGTERM, and with SIGKILL where that does not help."""
    daemon = launch(config(path, "kill_after_s = 0.5"))
    with asked(daemon, deed) as sock:
        assert clients.read_exactly(sock, 5) == b"here\n"
        assert daemon.stop() == 0
        assert sock.recv(1) == b""


# --- reloads --------------------------------------------------------------------------


def test_a_reload_brings_a_changed_function_into_use(launch: Launch, path: Path) -> None:
    """Although the configuration is the same; sessions of the old one go on."""
    daemon = launch(config(path))
    with asked(daemon, "upper") as old:
        # Else it may be the new dispatcher that takes it.
        until(lambda: daemon.sessions("tasks"), 10.0, "the session")
        (path / "tasks.py").write_text("def serve(sock): sock.sendall(b'the new function')\n")
        reload(daemon)
        # The old dispatcher may still take what waits in its queue.
        until(lambda: ask(daemon, "upper") == b"the new function", 10.0, "the new function")
        holds(lambda: daemon.sessions("tasks"), 1.0, "a session after reload_grace_s")
        old.sendall(b"on")
        assert clients.read_exactly(old, 2) == b"ON"


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
def serve(sock): pass
"""


def test_a_faulty_module_refuses_the_reload(launch: Launch, path: Path) -> None:
    """With the last line of the traceback and the file; the old function serves on."""
    daemon = launch(config(path))
    daemon.expect_errors("python.failed")
    for module, reason in (
        ("import absent\n", f"No module named 'absent' ({path}/tasks.py, line 1)"),
        ("def serve(): pass\n", "cannot be called with a socket alone"),
        (THREAD, "starts threads when it is imported"),
    ):
        (path / "tasks.py").write_text(module)
        said = refused_reload(daemon)
        assert 'services.tasks.handler: "tasks:serve" ' in said
        assert reason in said
        assert ask(daemon, "upper", b"on") == b"ON"


def test_a_faulty_module_ends_the_start(launch: Launch, path: Path) -> None:
    """With the exit code of a wrong configuration, and the reason."""
    (path / "tasks.py").write_text("1 / 0\n")
    daemon = launch(config(path), ready=False)
    daemon.expect_exit(78)
    daemon.expect_errors("python.failed", "master.refused")
    assert daemon.wait_exit() == 78
    assert f"ZeroDivisionError: division by zero ({path}/tasks.py, line 1)" in daemon.stderr()


# --- the dispatcher -------------------------------------------------------------------


def test_sessions_outlive_their_dispatcher(launch: Launch, path: Path) -> None:
    """The next one serves, has imported the function again, and books how the sessions
    of the first one end, also that they raised.
    """
    daemon = launch(config(path))
    daemon.expect_errors("function.raised")
    daemon.expect_traceback()
    (first,) = daemon.children(ChildKind.PYTHON)
    with clients.connect(daemon.address("tasks")) as sock:
        sock.sendall(b"fa")
        until(lambda: daemon.sessions("tasks"), 10.0, "a session")
        os.kill(first, signal.SIGKILL)
        daemon.wait_event("python.died")
        assert ask(daemon, "upper", b"on") == b"ON"
        sock.sendall(b"il\n")
        assert clients.read_all(sock) == b""
    ended(daemon, ok=1, failed=1)
    daemon.wait_event("function.raised", error="ValueError: on purpose")


def test_a_dispatcher_that_cannot_import_any_more_is_a_fault(launch: Launch, path: Path) -> None:
    """Until it can again: the daemon goes on trying."""
    daemon = launch(config(path) + "\n[services.daytime]\nlisten = ['tcp://127.0.0.1:0']\n")
    daemon.expect_errors("python.failed")
    (path / "tasks.py").rename(path / "aside.py")
    os.kill(daemon.children(ChildKind.PYTHON)[0], signal.SIGKILL)
    daemon.wait_event("python.failed")
    until(
        lambda: "service tasks has no ready python dispatcher" in degraded(daemon),
        10.0,
        lambda: f"the fault; there are {degraded(daemon)}",
    )
    assert clients.ask(daemon.address("daytime"))
    (path / "aside.py").rename(path / "tasks.py")
    assert ask(daemon, "upper", b"on") == b"ON"
    until(lambda: not degraded(daemon), 10.0, "no fault")
