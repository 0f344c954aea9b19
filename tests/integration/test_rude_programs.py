"""Programs (type exec) that behave badly, or cannot begin. The client gets what it can
get, unpd counts and logs what happened, and serves on.
"""

import contextlib
import os
import socket
import sys
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from tests.support import clients, faults, procs
from tests.support.launch import Launch
from tests.support.operating import refused_reload
from tests.support.programs import (
    PATIENCE_S,
    TELL_PID,
    begun,
    ended,
    executable,
    gone,
    launcher,
    read_line,
    service,
    shell,
)
from tests.support.waiting import until
from unpd.names import StartStep

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
LONG_BYTES = 400 * 1024
WRITE_LONG = f"""#!{os.path.realpath(sys.executable)} -IS
import array, fcntl, os, termios
left = memoryview(bytes({LONG_BYTES}))
while left:
    left = left[os.write(1, left) :]
unacknowledged = array.array("i", [1])
while unacknowledged[0]:
    fcntl.ioctl(1, termios.TIOCOUTQ, unacknowledged)
"""
"""Writes LONG_BYTES, reads nothing, and ends when its client's kernel has all of them
(SIOCOUTQ of tcp(7)).
"""

# --- that cannot begin ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "#! /no/such/interpreter -x\n",
            'No such file or directory: the interpreter "/no/such/interpreter" is missing',
        ),
        ("#!/bin/sh\r\n", 'No such file or directory: the interpreter "/bin/sh\\r" is missing'),
        ("\x7fELF", "Exec format error"),
        ("neither a script nor a program\n", "Exec format error"),
    ],
)
def test_a_bad_file_is_not_started(launch: Launch, public: Path, text: str, reason: str) -> None:
    """The client gets the end, and the log says which step failed and why."""
    unpd = launch(service("bad", executable(public / "bad", text)))
    unpd.expect_errors("program.not_started")
    assert clients.ask(unpd.address("bad")) == b""
    event = unpd.wait_event("program.not_started", service="bad")
    assert (event.fields["step"], event.fields["reason"]) == ("the program", reason)
    ended(unpd, "bad", not_started=1)
    unpd.metric_becomes(1, "unpd_connections_ended_total", service="bad", cause="error")


def test_a_program_that_was_removed_or_replaced(launch: Launch, public: Path) -> None:
    """A program that runs goes on, a missing one is not started, and a new file at its
    path is the program of the next client, without a reload.
    """
    path = public / "program"
    executable(path, "#!/bin/sh\necho old\nexec cat\n")
    unpd = launch(service("cat", str(path)))
    unpd.expect_errors("program.not_started")
    with clients.connect(unpd.address("cat")) as sock:
        assert read_line(sock) == b"old"
        path.unlink()
        assert clients.ask(unpd.address("cat")) == b""
        unpd.wait_event("program.not_started", reason="No such file or directory")
        executable(path, "#!/bin/sh\necho new\n")
        assert clients.ask(unpd.address("cat")) == b"new\n"
        sock.sendall(b"x\n")
        assert read_line(sock) == b"x"
    ended(unpd, "cat", not_started=1, ok=2)


@faults.requires_root
def test_a_program_that_its_user_may_not_execute(launch: Launch, public: Path) -> None:
    """Neither the program nor the directory is opened with root's rights."""
    program = executable(public / "program", "#!/bin/sh\n")
    Path(program).chmod(0o700)
    closed = public / "closed"
    closed.mkdir(mode=0o700)
    unpd = launch(
        service("one", program, user="daemon")
        + service("two", "/bin/cat", user="daemon", directory=str(closed))
    )
    unpd.expect_errors("program.not_started")
    for name, step, path in (("one", "the program", program), ("two", "directory", str(closed))):
        assert clients.ask(unpd.address(name)) == b""
        event = unpd.wait_event("program.not_started", service=name)
        assert (event.fields["step"], event.fields["reason"]) == (step, "Permission denied")
        assert (event.fields["path"], event.fields["user"]) == (path, "daemon")


def test_limits_that_the_kernel_refuses(launch: Launch) -> None:
    """More descriptors than a process can ever have, whatever fs.nr_open is."""
    unpd = launch(service("cat", "/bin/cat", limits={"nofile": 1 << 31}))
    unpd.expect_errors("program.not_started")
    assert clients.ask(unpd.address("cat")) == b""
    event = unpd.wait_event("program.not_started", service="cat")
    assert (event.fields["step"], event.fields["reason"]) == ("limits", "Operation not permitted")


@pytest.mark.parametrize(
    ("keys", "call", "step"),
    [
        ({}, "setsid", StartStep.SESSION),
        ({"nice": 1}, "setsid", StartStep.SESSION),
        ({}, "?dup2,dup3", StartStep.DESCRIPTORS),
        ({"nice": 1}, "?dup2,dup3", StartStep.DESCRIPTORS),
        ({"nice": 1}, "setpriority", StartStep.NICE),
        ({"limits": {"nofile": 99}}, "prlimit64", StartStep.LIMITS),
        ({"user": "daemon"}, "setgroups", StartStep.USER),
        ({"user": "daemon"}, "setresgid", StartStep.USER),
        ({"user": "daemon"}, "setresuid", StartStep.USER),
        ({"nice": 1}, "?chdir,fchdir", StartStep.DIRECTORY),
    ],
)
@faults.requires_root
@faults.requires_strace()
def test_a_failed_step_starts_no_program(
    launch: Launch, public: Path, keys: dict[str, Any], call: str, step: StartStep
) -> None:
    """Whichever it is, above all the change of the user: nothing runs with more rights
    than it should. The process ends, and the client gets the end.
    """
    public.chmod(0o777)
    trail = public / "trail"
    unpd = launch(service("never", *shell(f"id -u >{trail}; echo ran"), **keys))
    unpd.expect_errors("program.not_started")
    with faults.straced(launcher(unpd), public / "trace", call, f"{call}:error=EPERM"):
        assert clients.ask(unpd.address("never")) == b""
    event = unpd.wait_event("program.not_started", service="never")
    assert (event.fields["step"], event.fields["reason"]) == (step, "Operation not permitted")
    ended(unpd, "never", not_started=1)
    assert not trail.exists()
    assert clients.ask(unpd.address("never")) == b"ran\n"
    ended(unpd, "never", not_started=1, ok=1)


@faults.requires_root
def test_a_greater_priority_than_that_of_the_daemon(launch: Launch) -> None:
    """Only root lowers a nice value, so the launcher stays root until then."""
    unpd = launch(service("cat", *TELL_PID, nice=-3))
    with contextlib.ExitStack() as stack:
        _, pid = begun(stack, unpd.address("cat"))
        own = os.getpriority(os.PRIO_PROCESS, launcher(unpd))
        assert os.getpriority(os.PRIO_PROCESS, pid) == max(-20, own - 3)
        assert procs.status(pid)["Uid"].split()[0] != "0"


@faults.requires_root
def test_a_user_that_is_gone_refuses_a_reload(launch: Launch) -> None:
    """The configuration names a user that does not exist: the old one serves on."""
    unpd = launch(service("cat", *TELL_PID, user="daemon"))
    text = unpd.config_path.read_text().replace('user = "daemon"', 'user = "no-such-user"')
    unpd.expect_errors("reload.refused", "launcher.failed")
    assert "there is no user" in refused_reload(unpd, text)
    with contextlib.ExitStack() as stack:
        begun(stack, unpd.address("cat"))


def test_a_missing_program_refuses_the_configuration(launch: Launch) -> None:
    """At the start, with the line and the reason."""
    unpd = launch(service("cat", "/no/such/program"), ready=False)
    unpd.expect_exit(78)
    assert unpd.wait_exit() == 78
    assert 'services.cat.command: "/no/such/program" cannot be started: No such file' in (
        unpd.stderr()
    )


def test_floods_of_failures_are_bounded_in_the_log(launch: Launch, public: Path) -> None:
    """A line says how many were left out; the counters have all."""
    unpd = launch(service("bad", *shell("exit 1")))
    number = 60
    for _ in range(number):
        clients.ask(unpd.address("bad"))
    ended(unpd, "bad", failed=number)
    events = unpd.log_events("program.failed")
    logged = len(events) + sum(one.fields["suppressed"] for one in events)
    assert len(events) <= number
    assert logged <= number


@faults.requires_root
@faults.requires_pids_cgroup()
def test_a_refused_fork_keeps_the_client(launch: Launch) -> None:
    """At the limit of processes the connection waits until there is room."""
    unpd = launch(service("cat", *TELL_PID))
    unpd.expect_errors("session.fork_failed")
    with faults.pids_limit([unpd.pid, launcher(unpd)]) as limit:
        limit.set(limit.current())
        with clients.connect(unpd.address("cat")) as sock:
            unpd.wait_event("session.fork_failed", service="cat")
            limit.set(None)
            assert int(read_line(sock)) > 0
    assert unpd.metric("unpd_session_fork_failures_total", service="cat") >= 1


# --- that behave badly ----------------------------------------------------------------


def test_it_exits_before_it_reads(launch: Launch) -> None:
    """The client gets what was written, although its own bytes were never read. They
    make the kernel reset the connection behind the answer.
    """
    unpd = launch(service("deaf", *shell("printf '%s' answer")))
    with contextlib.ExitStack() as stack:
        with procs.stopped([launcher(unpd)]):
            sock = stack.enter_context(clients.connect(unpd.address("deaf")))
            sock.sendall(b"never read\n")
        assert clients.read_exactly(sock, 6) == b"answer"
        with pytest.raises(ConnectionResetError):
            clients.read_all(sock)
    ended(unpd, "deaf", ok=1)


def test_a_long_answer_of_a_program_that_does_not_read(launch: Launch, public: Path) -> None:
    """A client that reads at once gets all of it, as far as the kernel has delivered it
    when the program ends. The program of this test waits for that.
    """
    unpd = launch(service("deaf", executable(public / "deaf", WRITE_LONG)))
    with contextlib.ExitStack() as stack:
        with procs.stopped([launcher(unpd)]):
            sock = stack.enter_context(clients.connect(unpd.address("deaf")))
            sock.sendall(b"never read\n")
        assert len(clients.read_exactly(sock, LONG_BYTES)) == LONG_BYTES
        with pytest.raises(ConnectionResetError):
            clients.read_all(sock)
    ended(unpd, "deaf", ok=1)


def test_a_program_that_reads_to_the_end_loses_nothing(launch: Launch) -> None:
    """Whatever the kernel has not sent yet when the program ends: with nothing unread
    no connection is reset.
    """
    script = f"head -c {LONG_BYTES} /dev/zero; cat >/dev/null"
    unpd = launch(service("patient", *shell(script)))
    for _ in range(5):
        answer = clients.converse(unpd.address("patient"), b"request\n")
        assert len(answer) == LONG_BYTES
    ended(unpd, "patient", ok=5)


def test_it_closes_its_descriptors_early(launch: Launch) -> None:
    """The client gets the end at once, while the program works on and counts."""
    unpd = launch(service("early", *shell("echo $$; exec <&- >&- 2>&-; exec sleep 60")))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("early"))
        assert clients.read_all(sock) == b""
    assert procs.alive(pid)
    assert unpd.metric("unpd_connections_active", service="early") == 1
    os.kill(pid, SIGKILL)
    ended(unpd, "early", signal=1)


def test_a_grandchild_keeps_the_connection(launch: Launch) -> None:
    """The program has ended and was reaped; its grandchild talks on, and the connection
    no longer counts. A client that then resets ends nobody else.
    """
    unpd = launch(service("parent", *shell("echo $$; exec 3<&0; cat <&3 & echo $!; exit 0")))
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("parent"))
        child = int(read_line(sock))
        gone(pid)
        unpd.metric_becomes(0, "unpd_connections_active", service="parent")
        ended(unpd, "parent", ok=1)
        assert procs.alive(child)
        other, _ = begun(stack, unpd.address("parent"))
        clients.reset(sock)
        gone(child)
        grandchild = int(read_line(other))
        assert procs.alive(grandchild)
        os.kill(grandchild, SIGKILL)
        gone(grandchild)


def test_it_writes_without_reading(launch: Launch) -> None:
    """To a client that does not read. It waits in the kernel, not in unpd: others are
    served, and it ends with its client.
    """
    unpd = launch(
        service("flood", *shell("echo $$; exec cat /dev/zero"), kill_after_s=0.2)
        + service("cat", *TELL_PID)
    )
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("flood"))
        begun(stack, unpd.address("cat"))
        cpu_s = procs.cpu_s(launcher(unpd))
        clients.reset(sock)
        gone(pid)
        assert procs.cpu_s(launcher(unpd)) - cpu_s < 1.0


def test_it_fills_standard_error(launch: Launch) -> None:
    """Without end, in long lines, with binary bytes: what is logged is bounded, the
    launcher serves others, and their lines come through.
    """
    flood = f"{sys.executable} -c 'import os\nwhile True: os.write(2, bytes(range(256)) * 64)'"
    unpd = launch(
        service("flood", *shell(f"echo $$; exec {flood}"), stderr="log", kill_after_s=0.2)
        + service("quiet", *shell("echo $$; echo quiet >&2; exec cat"), stderr="log")
    )
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("flood"))
        unpd.wait_event("program.stderr", session_pid=pid)
        _, quiet = begun(stack, unpd.address("quiet"))
        unpd.wait_event("program.stderr", session_pid=quiet, text="quiet")
        clients.reset(sock)
        gone(pid)
    assert all(
        len(event.fields["text"].encode()) <= 4 * 1024
        for event in unpd.log_events("program.stderr")
    )


def test_lines_of_several_processes_do_not_mix(launch: Launch) -> None:
    """They are the program's, and a line that comes in pieces is one line."""
    unpd = launch(
        service(
            "two",
            *shell(
                "(printf ab >&2; sleep 0.2; echo cd >&2) & echo $$; "
                "printf 12 >&2; sleep 0.1; echo 34 >&2; wait"
            ),
            stderr="log",
        )
    )
    with clients.connect(unpd.address("two")) as sock:
        pid = int(read_line(sock))
        assert clients.read_all(sock) == b""
    unpd.wait_event("program.stderr", session_pid=pid, text="1234")
    unpd.wait_event("program.stderr", session_pid=pid, text="abcd")


@faults.requires_root
@pytest.mark.skipif(
    CORE_PATTERN.read_text().startswith(("|", "/")),
    reason="needs a kernel.core_pattern that names a file in the directory of the process",
)
@pytest.mark.parametrize(("core_mb", "dumps"), [(64, True), (0, False)])
def test_it_dumps_core(launch: Launch, public: Path, core_mb: int, dumps: bool) -> None:
    """Where it may, into its directory, and the exit report says so."""
    public.chmod(0o777)
    keys: dict[str, Any] = {"limits": {"core_mb": core_mb}, "directory": str(public)}
    unpd = launch(service("core", *shell("kill -ABRT $$"), **keys))
    assert clients.ask(unpd.address("core")) == b""
    event = unpd.wait_event("program.failed", service="core")
    assert event.fields["ended"] == f"killed by SIGABRT{' (core dumped)' if dumps else ''}"
    ended(unpd, "core", signal=1)
    assert len(list(public.iterdir())) == dumps


def test_it_leaves_its_group(launch: Launch) -> None:
    """A process that made itself a session of its own is not ended with the program.
    The stop of the daemon ends it, as every process that is left.
    """
    unpd = launch(
        service("escape", *shell("echo $$; setsid sh -c 'echo $$; exec sleep 60' & wait"))
    )
    with contextlib.ExitStack() as stack:
        sock, pid = begun(stack, unpd.address("escape"))
        escaped = int(read_line(sock))
        sock.shutdown(socket.SHUT_RDWR)
        os.kill(pid, SIGKILL)
        gone(pid)
        assert procs.alive(escaped)
        unpd.stop()
        until(lambda: not procs.alive(escaped), PATIENCE_S, "the process to be ended")
    assert unpd.log_events("orphans.killed")
