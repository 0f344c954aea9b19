"""``unpd check --as-daemon``: what root may read and the daemon may not is found before
a restart, and root does not follow a daemon into a file system that may deceive it.
tests/packaging has the sandbox of the unit.
"""

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from unpd.kernel.likeness import Rights, become_like, rights_of
from unpd.names import MAX_PID, ExitCode

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
HIDE = 'mount -t tmpfs none "$0" && exec "$@"'


def check(unpd: Unpd, *words: str) -> tuple[int, str]:
    """Run ``unpd check`` with the daemon's file; return the exit code and what it
    prints.
    """
    ended = unpd.run("check", "--config", str(unpd.config_path), *words)
    return ended.returncode, (ended.stdout + ended.stderr).decode()


def test_a_daemon_of_our_own(launch: Launch) -> None:
    """Any user may check as a daemon that has the same rights."""
    unpd = launch(ECHO)
    verdict = f"configuration OK: {unpd.config_path}\n"
    assert check(unpd, "--as-daemon") == (ExitCode.DONE, verdict)


def test_no_daemon(launch: Launch) -> None:
    """Without a daemon the check fails and says so."""
    unpd = launch(ECHO)
    unpd.stop()
    code, printed = check(unpd, "--as-daemon")
    assert code != 0
    assert printed.startswith("unpd: unpd is not running, or its control socket is another one: ")
    assert check(unpd)[0] == ExitCode.DONE


@pytest.mark.slow
def test_a_daemon_whose_control_socket_is_to_change(launch: Launch, tmp_path: Path) -> None:
    """The new file may name another control socket than the daemon has: its pid names
    the daemon then, and the message says so.
    """
    unpd = launch(ECHO)
    elsewhere = tmp_path / "other.toml"
    elsewhere.write_text(f'[daemon]\ncontrol = "{tmp_path}/other.sock"\n{ECHO}')
    ended = unpd.run("check", "--as-daemon", "--config", str(elsewhere))
    assert ended.returncode != ExitCode.DONE
    assert b"if daemon.control has changed, name the daemon: --as-daemon=PID" in ended.stderr
    ended = unpd.run("check", f"--as-daemon={unpd.pid}", "--config", str(elsewhere))
    assert ended.returncode == ExitCode.DONE
    assert ended.stdout.decode() == f"configuration OK: {elsewhere}\n"


@pytest.mark.slow
def test_a_process_that_is_no_master(launch: Launch) -> None:
    """A check as any other process says nothing about the daemon: a worker, the test
    itself or init is refused, and a pid that no process has.
    """
    unpd = launch(ECHO)
    for pid in (unpd.workers()[0], os.getpid(), 1):
        code, printed = check(unpd, f"--as-daemon={pid}")
        assert code == ExitCode.FAILED
        assert f"cannot check as the daemon: process {pid} is no unpd master" in printed
    code, printed = check(unpd, f"--as-daemon={MAX_PID}")
    assert code == ExitCode.FAILED
    assert printed == f"unpd: cannot check as the daemon: no process has pid {MAX_PID}\n"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            '[log]\nfile = "{path}/missing/unpd.log"\n',
            "log.file: there is no directory {path}/missing",
        ),
        ('[log]\nfile = "{path}"\n', "log.file: it is a directory: name a file in it"),
        (
            '[daemon]\npid_file = "{path}/missing/more/unpd.pid"\n',
            "daemon.pid_file: there is no directory {path}/missing/more",
        ),
        (
            '[daemon]\ncontrol = "{path}/missing/more/c.sock"\n',
            "daemon.control: there is no directory {path}/missing/more",
        ),
        (
            '[services.more]\ntype = "echo"\nlisten = ["unix://{path}/missing/e.sock"]\n',
            "services.more.listen: there is no directory {path}/missing",
        ),
    ],
)
def test_a_place_that_the_daemon_could_not_use_is_refused(
    launch: Launch, tmp_path: Path, keys: str, sentence: str
) -> None:
    """A start would fail there, so the check as the daemon does; nothing is made."""
    unpd = launch(ECHO)
    other = tmp_path / "other.toml"
    other.write_text(keys.format(path=tmp_path) + ECHO)
    ended = unpd.run("check", f"--as-daemon={unpd.pid}", "--config", str(other))
    assert ended.returncode == ExitCode.CONFIGURATION
    assert sentence.format(path=tmp_path) in ended.stderr.decode()
    assert not (tmp_path / "missing").exists()


def test_a_directory_that_a_start_would_make_may_be_missing(launch: Launch, tmp_path: Path) -> None:
    """A start makes the directories of the pid file, of the control socket and of the
    file of denials, so the check accepts them, and other files in them; it makes none
    itself.
    """
    unpd = launch(ECHO)
    other = tmp_path / "other.toml"
    lines = f'pid_file = "{tmp_path}/one/unpd.pid"\ncontrol = "{tmp_path}/two/control.sock"\n'
    lines += f'[access]\nstate_file = "{tmp_path}/owe/denials"\n'
    lines += f'[log]\nfile = "{tmp_path}/one/unpd.log"\n'
    more = f'[services.more]\ntype = "echo"\nlisten = ["unix://{tmp_path}/two/echo.sock"]\n'
    other.write_text(f"[daemon]\n{lines}{ECHO}{more}")
    ended = unpd.run("check", f"--as-daemon={unpd.pid}", "--config", str(other))
    assert ended.returncode == ExitCode.DONE
    assert ended.stdout.decode() == f"configuration OK: {other}\n"
    assert list(tmp_path.glob("[ot][nw][eo]")) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("loop", "{path}/loop is a link that leads nowhere"),
        ("gone", "{path}/gone is a link that leads nowhere"),
        ("loop/x", "{path}/loop/x cannot be reached: Too many levels of symbolic links"),
        ("gone/x", "there is no directory {path}/gone/x"),
        ("a" * 300, "cannot be reached: File name too long"),
    ],
)
def test_a_directory_that_no_start_can_make(
    launch: Launch, tmp_path: Path, name: str, sentence: str
) -> None:
    """Nor can a file lie in it."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    unpd = launch(ECHO)
    other = tmp_path / "other.toml"
    place = tmp_path / name
    lines = f'[daemon]\npid_file = "{place}/unpd.pid"\n[log]\nfile = "{place}/unpd.log"\n'
    other.write_text(lines + ECHO)
    ended = unpd.run("check", f"--as-daemon={unpd.pid}", "--config", str(other))
    assert ended.returncode == ExitCode.CONFIGURATION
    assert sentence.format(path=tmp_path) in ended.stderr.decode()
    for key in ("pid_file", "file"):
        assert f"{key}:" in ended.stderr.decode(), key


@faults.requires_root
@faults.requires_tool("setpriv")
@faults.requires_tool("unshare")
def test_the_reason_about_a_log_file_is_that_of_a_start(tmp_path: Path) -> None:
    """Whether the user may not write, or the file system is read-only, the check has
    the sentence of the start, with the user and the right place.
    """
    closed = tmp_path / "closed"
    closed.mkdir()
    log = closed / "unpd.log"
    program = (
        "import os, sys; from unpd import sinks; from unpd.config import places;"
        " from unpd.config.host import this_host; from unpd.config.load import builtin;"
        " loaded = builtin(this_host(None)); log = loaded.config.log;"
        " config = loaded.config.model_copy(update={'log': log.model_copy(update={'file':"
        " sys.argv[1]})}); print(places.unusable(config, 'f')[-1])\n"
        "try: sinks.open_file(sys.argv[1])\n"
        "except OSError as error: print('f: log.file:', sinks.refusal(sys.argv[1], error))\n"
    )
    read_only = f"mount --bind {closed} {closed} && mount -o remount,ro,bind {closed}"
    for prefix, sentence in (
        (f"chmod 755 {tmp_path}", f"the user nobody may make no file in {closed}"),
        (read_only, f"{closed} is read-only here: under unpd.service use /var/log/unpd"),
    ):
        user = "" if prefix is read_only else "setpriv --reuid=nobody --clear-groups "
        command = f'{prefix} && exec {user}"$@"'
        ended = subprocess.run(
            ["unshare", "--mount", "sh", "-c", command, "-", sys.executable, "-c", program, log],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        checked, started = ended.stdout.splitlines() or [ended.stderr, ""]
        assert sentence in checked
        assert checked == started


@pytest.mark.slow
@faults.requires_root
@faults.requires_tool("unshare")
def test_a_root_elsewhere_is_not_followed(launch: Launch, tmp_path: Path) -> None:
    """Root does not enter the file system of another root: it may belong to an
    intruder, whose libraries this process would load.
    """
    (tmp_path / "hidden").mkdir()
    prefix = ("unshare", "--mount", "sh", "-c", HIDE, str(tmp_path / "hidden"))
    unpd = launch(ECHO, prefix=prefix)
    code, printed = check(unpd, "--as-daemon")
    assert code == ExitCode.FAILED
    assert "it is root with another view of the file system: run the check inside" in printed
    assert "with programs.conf, unpd check without --as-daemon" in printed


@pytest.mark.slow
@faults.requires_root
@faults.requires_tool("unshare")
def test_a_user_namespace_is_not_followed(launch: Launch) -> None:
    """Any user can mount anything in a user namespace of their own, and so deceive
    root.
    """
    prefix = ("unshare", "--user", "--map-root-user", "--mount")
    unpd = launch(ECHO, prefix=prefix)
    code, printed = check(unpd, f"--as-daemon={unpd.pid}")
    assert code == ExitCode.FAILED
    assert "its file system belongs to another user namespace" in printed


class Stranger:
    """A child that waits as another user; other children become like it and answer."""

    def __init__(self, rights: Rights) -> None:
        self._ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._ours.close()
            os.setgroups(rights.groups)
            os.setresgid(rights.gid, rights.gid, rights.gid)
            os.setresuid(rights.uid, rights.uid, rights.uid)
            theirs.send(b"ready")
            theirs.recv(1)
            os._exit(0)
        theirs.close()
        assert self._ours.recv(5) == b"ready"

    def ask(self, question: Callable[[], object]) -> str:
        """The answer of a child that became like the stranger."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            answer = b"failed"
            try:
                become_like(self.pid)
                answer = repr(question()).encode()
            except OSError as error:
                answer = repr(error).encode()
            finally:
                os.write(writer, answer)
                os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        with open(reader) as pipe:
            return pipe.read()

    def close(self) -> None:
        """End the stranger."""
        self._ours.close()
        os.waitpid(self.pid, 0)


@faults.requires_root
def test_the_rights_are_those_of_the_other_process(tmp_path: Path) -> None:
    """A process that becomes like another one has its user, its groups and no way back,
    and cannot read what that one cannot.
    """
    nobody = pwd.getpwnam("nobody")
    rights = Rights(uid=nobody.pw_uid, gid=nobody.pw_gid, groups=(4, 1234))
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    stranger = Stranger(rights)
    try:
        assert rights_of(stranger.pid) == rights
        assert stranger.ask(lambda: rights_of(os.getpid())) == repr(rights)
        assert stranger.ask(lambda: os.access(secret, os.R_OK)) == "False"
        assert "PermissionError" in stranger.ask(lambda: os.setuid(0))
    finally:
        stranger.close()


def test_a_process_that_is_gone() -> None:
    """The rights of a process that is gone raise an OSError."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(FileNotFoundError):
        become_like(pid)
