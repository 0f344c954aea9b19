"""``unpd try``: starts the program of a service with the descriptors of the terminal,
as the daemon does for a client, or without a daemon by itself.
"""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT

from tests.support import faults, procs
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.programs import (
    PATIENCE_S,
    TELL_PID,
    executable,
    gone,
    launcher,
    service,
    shell,
)
from tests.support.terminal import CTRL_C, Terminal, terminal
from tests.support.waiting import until

TELL = shell("pwd; umask; echo $A; cat; echo error >&2; exit 3")


def tried(unpd: Unpd, name: str, text: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return unpd.run("try", name, "--control", str(unpd.control), data=text.encode())


@contextmanager
def trying(unpd: Unpd, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command until the block ends."""
    command = [*unpd.setting.command, "try", name, "--control", str(unpd.control)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def trying_on(screen: Terminal, unpd: Unpd, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command on a terminal until the block ends."""
    with subprocess.Popen(
        [*unpd.setting.command, "try", name, "--control", str(unpd.control)],
        start_new_session=True,
        preexec_fn=screen.attach,  # noqa: PLW1509 - the test run has no thread
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_program_gets_the_terminal(launch: Launch, public: Path) -> None:
    """Its standard input, output and error are those of the command, whatever stderr
    is; the rest is as for a client. The command tells the end, and no metric counts it.
    """
    unpd = launch(
        service(
            "tell",
            *TELL,
            directory=str(public),
            umask="0037",
            environment={"A": "B"},
            stderr="log",
        )
    )
    done = tried(unpd, "tell", "input\n")
    assert done.stdout.decode() == f"{public}\n0037\nB\ninput\n"
    error, told = done.stderr.decode().splitlines()
    assert error == "error"
    assert told.startswith("the program ended after ")
    assert told.endswith(" s: exit code 3")
    assert done.returncode == 1
    assert tried(unpd, "tell").returncode == 1
    assert unpd.total("unpd_programs_ended_total", service="tell") == 0
    assert unpd.log_events("control.asked", verb="try")


@faults.requires_root
def test_it_has_the_user_of_the_program(launch: Launch) -> None:
    """Not that of the command."""
    unpd = launch(service("who", *shell("id -u; id -g; exec true"), user="daemon"))
    done = tried(unpd, "who")
    daemon = pwd.getpwnam("daemon")
    assert done.stdout.decode().split() == [str(daemon.pw_uid), str(daemon.pw_gid)]
    assert done.returncode == 0


def test_a_program_that_cannot_be_started(launch: Launch, public: Path) -> None:
    """The command says which step failed, for which file and user, and why."""
    path = executable(public / "bad", "#!/bin/sh\r\n")
    unpd = launch(service("bad", path))
    done = tried(unpd, "bad")
    assert done.returncode == 1
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    assert done.stderr.decode() == (
        f'unpd: the program could not be started: the program "{path}", as the user {user}:'
        ' No such file or directory: the interpreter "/bin/sh\\r" is missing\n'
    )


def test_an_interrupt_ends_the_program(launch: Launch) -> None:
    """With the command, as a client that goes; also where the program ignores
    SIGTERM.
    """
    stubborn = shell('trap "" TERM; echo $$; while :; do sleep 1; done')
    unpd = launch(service("cat", *TELL_PID) + service("stubborn", *stubborn, kill_after_s=0.3))
    for name in ("cat", "stubborn"):
        with trying(unpd, name) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            assert procs.stat(pid) is not None
            process.send_signal(SIGINT)
            assert process.wait(PATIENCE_S) == 130
            gone(pid)


def test_a_program_sees_the_terminal(launch: Launch) -> None:
    """All three descriptors are the terminal: it shows what the program writes, and the
    program gets what is typed. Ctrl-C ends both.
    """
    script = "test -t 0 && test -t 1 && test -t 2 && tty; echo pid=$$; exec cat"
    unpd = launch(service("cat", *shell(script)))
    with terminal("fg") as screen, trying_on(screen, unpd, "cat") as process:
        until(lambda: "pid=" in screen.said, PATIENCE_S, "the program")
        name, told, *_ = screen.said.splitlines()
        assert name == screen.path
        screen.type(b"hello\n")
        until(lambda: screen.said.count("hello\n") == 2, PATIENCE_S, "the echo and the answer")
        screen.type(CTRL_C)
        assert process.wait(PATIENCE_S) == 130
        gone(int(told.removeprefix("pid=")))


def test_limits_hold_in_a_trial(launch: Launch) -> None:
    """Those of the service, with the daemon and without one."""
    limits = {"nofile": 33, "cpu_s": 44, "as_mb": 512}
    unpd = launch(service("limited", *shell("ulimit -n; ulimit -t; ulimit -v"), limits=limits))
    expected = ["33", "44", str(512 * 1024)]
    assert tried(unpd, "limited").stdout.decode().split() == expected
    unpd.stop()
    alone = unpd.run("try", "limited", "--config", str(unpd.config_path))
    assert alone.stdout.decode().split() == expected


def test_a_reload_leaves_a_trial_alone(launch: Launch) -> None:
    """Its launcher retires, and waits for it. A stop ends it."""
    unpd = launch(service("cat", *TELL_PID, umask="0022"))
    with trying(unpd, "cat") as process, trying(unpd, "cat") as other:
        assert process.stdout is not None
        assert process.stdin is not None
        assert other.stdout is not None
        pid, other_pid = int(process.stdout.readline()), int(other.stdout.readline())
        before = launcher(unpd)
        reload(unpd, unpd.config_path.read_text().replace("0022", "0027"))
        until(lambda: launcher(unpd) != before, PATIENCE_S, "another launcher")
        process.stdin.write(b"still there\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"still there\n"
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
        gone(pid)
        assert procs.stat(other_pid) is not None
        unpd.stop()
        gone(other_pid)


def test_a_launcher_keeps_nothing_of_a_trial(launch: Launch) -> None:
    """Neither a descriptor nor a zombie."""
    unpd = launch(service("true", "/bin/true"))
    pids = launcher(unpd), unpd.pid
    before = [len(procs.fds(pid)) for pid in pids]
    for _ in range(3):
        assert tried(unpd, "true").returncode == 0
    until(lambda: [len(procs.fds(pid)) for pid in pids] == before, 10.0, "no descriptor more")
    assert procs.children(launcher(unpd)) == []


def test_what_cannot_be_tried(launch: Launch) -> None:
    """A service that is none, or has no program, or one that expects a socket."""
    unpd = launch(
        service("whole", "/bin/true", wait=True)
        + '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
    )
    for name, reason in {
        "none": 'the daemon has no service "none"; it has "whole", "echo"',
        "echo": '"echo" is no service of type exec, and has no program',
        "whole": '"whole" has a program that expects a socket, and not standard input and output',
    }.items():
        done = tried(unpd, name)
        assert (done.returncode, done.stderr.decode()) == (2, f"unpd: {reason}\n")


def test_without_a_daemon(launch: Launch, public: Path) -> None:
    """The command starts the program itself, and says so."""
    unpd = launch(
        service("tell", *TELL, directory=str(public), umask="0037", environment={"A": "B"})
    )
    unpd.stop()
    done = unpd.run("try", "tell", "--config", str(unpd.config_path), data=b"input\n")
    assert done.stdout.decode() == f"{public}\n0037\nB\ninput\n"
    lines = done.stderr.decode().splitlines()
    assert "this command starts the program itself" in lines[0]
    own = "" if os.geteuid() == 0 else "the user, the groups, "
    assert lines[1] == (
        "warning: without the daemon, the program has neither the sandbox nor the limits of its"
        f" unit, and {own}the umask, the nice value and the variables of pass_environment of this"
        " command"
    )
    assert lines[2] == "error"
    assert lines[3].endswith(" s: exit code 3")
    assert done.returncode == 1
    unknown = unpd.run("try", "tall", "--config", str(unpd.config_path))
    assert unknown.returncode == 2
    assert b' has no service "tall"; it has "tell"' in unknown.stderr
