"""``unpd doctor`` on this host, and the facts that it asks the kernel for."""

import contextlib
import errno
import grp
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.configs import compose
from tests.support.faults import requires_root
from tests.support.launch import Launch
from tests.support.ports import free_port
from tests.support.programs import executable
from tests.support.threads import beside
from unpd.cli.dispatch import run_command
from unpd.cli.doctor import as_daemon, process_facts
from unpd.cli.doctor.as_daemon import NO_ANSWER, told_by_child
from unpd.cli.doctor.facts import Unit, UnknownFactError
from unpd.cli.doctor.report import FIELDS
from unpd.control.answer_fields import mismatch
from unpd.control.protocol import encode_answer
from unpd.kernel import likeness
from unpd.kernel.clock import clock
from unpd.kernel.socket_diag import BoundSocket, bound_sockets
from unpd.names import ExitCode

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

NOBODY: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": "/"}
"""How a process of a user with no rights starts."""


@contextlib.contextmanager
def listening(family: socket.AddressFamily, host: str, backlog: int) -> Iterator[socket.socket]:
    """A TCP listener with a free port."""
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        sock.listen(backlog)
        yield sock


def listed(sock: socket.socket) -> BoundSocket:
    """The entry of a socket of this process."""
    inode = os.fstat(sock.fileno()).st_ino
    (found,) = [one for one in bound_sockets() if one.inode == inode]
    return found


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_the_kernel_lists_a_listener_with_its_queue_and_its_drops(
    family: socket.AddressFamily, host: str
) -> None:
    """A queue for one has room for two; the next client is dropped and counted."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listening(family, host, 1))
        address = sock.getsockname()[:2]
        for _ in range(2):
            client = stack.enter_context(socket.socket(family))
            client.connect(address)
        found = listed(sock)
        assert (found.transport, found.host, found.port) == ("tcp", *address)
        assert (found.queued, found.limit, found.drops) == (2, 1, 0)
        late = stack.enter_context(socket.socket(family))
        late.setblocking(False)
        late.connect_ex(address)
        assert listed(sock).drops >= 1
        holder = process_facts.holder(found.inode)
        assert holder is not None
        assert holder.pid == os.getpid()


def test_the_kernel_lists_a_socket_of_datagrams() -> None:
    """With what found no room in its buffer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        sock.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(b"x" * 1000, sock.getsockname())
        found = listed(sock)
        assert (found.transport, found.port) == ("udp", sock.getsockname()[1])
        assert found.drops > 0


def test_the_kernel_tells_about_its_clock() -> None:
    """Whatever it says: reading it needs no right."""
    found = clock()
    assert isinstance(found.synchronised, bool)
    assert found.max_error_s >= 0


def test_the_doctor_names_the_process_that_holds_a_port(
    launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It works with a daemon, whose own listeners are no finding, and finds the port
    that its file wants and this process holds. The exit code says so.
    """
    with listening(socket.AF_INET, "127.0.0.1", 5) as held:
        taken = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        unpd = launch(ECHO)
        text = unpd.config_path.read_text()
        unpd.config_path.write_text(f'{text}\n[services.discard]\nlisten = ["{taken}"]\n')
        code = run_command(["doctor", "--json", "--config", str(unpd.config_path)])
        report = json.loads(capsys.readouterr().out)
        assert mismatch(report, FIELDS) == ""
        assert (code, report["daemon"]) == (ExitCode.DEGRADED, unpd.pid)
        (finding,) = [one for one in report["findings"] if one["check"] == "ports"]
        assert finding["subject"] == "services.discard.listen"
        assert f"process {os.getpid()} (" in finding["found"]


def test_the_doctor_needs_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and makes the checks of the host; its exit code is that of its
    findings.
    """
    config = tmp_path / "unpd.toml"
    listen = f'listen = ["tcp://127.0.0.1:{free_port()}"]\n'
    config.write_text(compose(f"[services.echo]\n{listen}", tmp_path))
    code = run_command(["doctor", "--json", "--config", str(config)])
    report = json.loads(capsys.readouterr().out)
    faults = [one for one in report["findings"] if not one["note"]]
    assert code == (ExitCode.DEGRADED if faults else ExitCode.DONE)
    assert report["daemon"] is None
    assert "ports" not in {one["check"] for one in report["findings"]}


def test_a_directory_that_a_start_makes_is_no_finding(
    launch: Launch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is what lies in it: before the first start, /run/unpd is missing."""
    new = launch.directory / "new"
    daemon = f'[daemon]\npid_file = "{new}/unpd.pid"\ncontrol = "{new}/control.sock"\n'
    text = f'{daemon}[services.echo]\nlisten = ["unix://{new}/echo.sock"]\n'
    config = launch.directory / "unpd.toml"
    config.write_text(compose(text, launch.directory))
    run_command(["doctor", "--json", "--config", str(config)])
    report = json.loads(capsys.readouterr().out)
    assert [one for one in report["findings"] if one["check"] == "usable"] == []
    assert not new.exists()
    launch(text)
    assert (new / "echo.sock").is_socket()


@requires_root
def test_a_user_who_cannot_start_the_daemon_is_told_who_can(public: Path) -> None:
    """What this user may not do is no fault of the daemon, and its mend would give a
    directory away.
    """
    config = public / "unpd.toml"
    config.write_text(compose('[daemon]\nuser = "daemon"\n', public))
    report = run_doctor("--config", str(config), **NOBODY)
    assert [one for one in report["findings"] if one["check"] == "usable"] == []
    unknown = {one["check"]: one["reason"] for one in report["not_checked"]}
    assert unknown["usable"].startswith("only root can become daemon (daemon.user in ")


@requires_root
def test_a_directory_that_is_closed_to_the_user_is_a_finding(public: Path) -> None:
    """With a sentence, also where it cannot be looked at."""
    (public / "closed").mkdir(mode=0o700)
    config = public / "unpd.toml"
    text = f'[daemon]\npid_file = "{public}/closed/more/unpd.pid"\ncontrol = "/tmp/unpd.sock"\n'
    config.write_text(compose(text, public))
    report = run_doctor("--config", str(config), **NOBODY)
    (finding,) = [one for one in report["findings"] if one["check"] == "usable"]
    assert f"the user nobody may make nothing in {public}/closed" in finding["problem"]


def unit_of_nobody(given: Path) -> Unit:
    """A unit whose user is nobody, and which has this directory."""
    return Unit(
        name="x.service",
        type="notify",
        kill_mode="mixed",
        stop_s=15.0,
        user="nobody",
        directories=(given,),
    )


@requires_root
def test_a_start_by_a_unit_is_tried_as_its_user(
    public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this user may not read or do is a finding for root too, but no directory
    that systemd makes or gives to the user, nothing of the session of root, and nothing
    that a group of the unit may do.
    """
    public.chmod(0o755)
    config = public / "unpd.toml"
    given, more = public / "given", public / "more"
    unit = unit_of_nobody(given)
    daemon = f'[daemon]\npid_file = "{given}/unpd.pid"\ncontrol = "{more}/unpd.sock"\n'
    config.write_text(f"{daemon}{ECHO}")
    refused, (sentence,) = as_daemon.starting(unit, config)
    assert refused == ()
    assert f"daemon.control: there is no directory {more}, and the user nobody" in sentence
    program = f'{daemon}[services.cat]\ntype = "exec"\nlisten = ["tcp://127.0.0.1:0"]\n'
    config.write_text(f'{program}user = "daemon"\ncommand = ["/bin/cat"]\n')
    (sentence,), unusable = as_daemon.starting(unit, config)
    assert "install the drop-in programs.conf" in sentence
    assert unusable == ()
    (public / "closed").mkdir(mode=0o700)
    hidden = Path(executable(public / "closed/program", "#!/bin/sh\n"))
    config.write_text(f'{program}command = ["{hidden}"]\n')
    (sentence,), _ = as_daemon.starting(unit, config)
    assert sentence.endswith(f'the user nobody may not execute "{hidden}", or may not reach it')
    shared = Path(executable(public / "shared", "#!/bin/sh\n"))
    shared.chmod(0o750)
    os.chown(shared, 0, grp.getgrnam("daemon").gr_gid)
    config.write_text(f'{program}command = ["{shared}"]\n')
    assert as_daemon.starting(unit, config)[0] != ()
    assert as_daemon.starting(replace(unit, group="daemon"), config)[0] == ()
    assert as_daemon.starting(replace(unit, groups=("daemon",)), config)[0] == ()
    given.mkdir(mode=0o700)
    state = f'[access]\nstate_file = "{given}/denials"\n[log]\nfile = "{given}/unpd.log"\n'
    config.write_text(f"{daemon.replace(str(more), str(given))}{state}{ECHO}")
    assert as_daemon.starting(unit, config) == ((), ())
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(given))
    config.write_text(ECHO)
    assert as_daemon.starting(replace(unit, directories=()), config) == ((), ())
    with pytest.raises(UnknownFactError, match="there is no user 'no-such'"):
        as_daemon.starting(replace(unit, user="no-such"), config)


@requires_root
def test_what_is_in_a_directory_of_the_unit_is_looked_at(public: Path) -> None:
    """If it is the user's already: systemd leaves what is in it, as a log that root has
    written. Else systemd gives all of it to the user.
    """
    public.chmod(0o755)
    given, config = public / "given", public / "unpd.toml"
    given.mkdir()
    (given / "unpd.log").touch(mode=0o600)
    unit = unit_of_nobody(given)
    config.write_text(f'[log]\nfile = "{given}/unpd.log"\n{ECHO}')
    assert as_daemon.starting(unit, config) == ((), ())
    account = pwd.getpwnam("nobody")
    os.chown(given, account.pw_uid, account.pw_gid)
    (sentence,) = as_daemon.starting(unit, config)[1]
    assert "log.file: " in sentence


def run_doctor(*args: str, **how: Any) -> dict[str, Any]:
    """The report of the command in a process of its own."""
    command = (sys.executable, "-P", "-m", "unpd", "doctor", "--json", *args)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, **how
    )
    assert ended.returncode in (ExitCode.DONE, ExitCode.DEGRADED), ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def test_a_program_in_the_working_directory_is_never_run(launch: Launch, tmp_path: Path) -> None:
    """Also where another user has put an unpd there. The places of the daemon are tried
    all the same.
    """
    hostile = tmp_path / "here/unpd"
    hostile.mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        (hostile / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    unpd = launch(ECHO)
    lines = unpd.config_path.read_text()
    listen = f'listen = ["unix://{tmp_path}/none/discard"]'
    unpd.config_path.write_text(f"{lines}\n[services.discard]\n{listen}\n")
    report = run_doctor("--config", str(unpd.config_path), cwd=hostile.parent)
    assert report["daemon"] == unpd.pid
    (finding,) = [one for one in report["findings"] if one["check"] == "usable"]
    assert f"there is no directory {tmp_path}/none" in finding["problem"]
    assert not (tmp_path / "ran").exists()


def test_what_the_child_cannot_tell_is_unknown() -> None:
    """It may lack the rights, fail, die, say nonsense, or never end."""

    def refused() -> tuple[str, ...]:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def foreign() -> tuple[str, ...]:
        raise likeness.ForeignError("it lives elsewhere")

    def dead() -> tuple[str, ...]:
        os.kill(os.getpid(), signal.SIGKILL)
        return ()

    def hung() -> tuple[str, ...]:
        signal.pause()
        return ()

    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    assert told_by_child(lambda: ("a", "b\u00e9")) == ("a", "b\u00e9")
    for work, reason in (
        (refused, "cannot be taken: Operation not permitted"),
        (foreign, "it lives elsewhere"),
        (dead, NO_ANSWER),
    ):
        with pytest.raises(UnknownFactError, match=reason):
            told_by_child(work)
    with pytest.raises(UnknownFactError, match=NO_ANSWER):
        told_by_child(hung, patience_s=0.05)
    assert children.read_text() == before


def test_a_daemon_that_refuses_this_user_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then its own ports are not taken for those of another process. The daemon that is
    meant can be named by its control socket.
    """
    config, control = tmp_path / "unpd.toml", tmp_path / "refusing.sock"
    with listening(socket.AF_INET, "127.0.0.1", 5) as held, socket.socket(socket.AF_UNIX) as sock:
        port = held.getsockname()[1]
        config.write_text(
            compose(f'[services.echo]\nlisten = ["tcp://127.0.0.1:{port}"]\n', tmp_path)
        )
        sock.bind(str(control))
        sock.listen()
        with answering(sock, encode_answer(ok=False, reason="you may not ask")):
            run_command(["doctor", "--json", "--config", str(config), "--control", str(control)])
        report = json.loads(capsys.readouterr().out)
    unknown = {one["check"]: one["reason"] for one in report["not_checked"]}
    assert unknown["daemon"] == "you may not ask"
    assert {"ports", "drops", "queue", "usable"} <= unknown.keys()
    assert "ports" not in {one["check"] for one in report["findings"]}


@contextlib.contextmanager
def answering(listener: socket.socket, answer: bytes) -> Iterator[None]:
    """Give one client this answer."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(answer)

    with beside(serve):
        yield
