"""``unpd check --as-daemon``: what root may read and the daemon may not, or cannot see,
is found before a restart.
"""

import os
import pwd
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from unpd.kernel.likeness import Rights, become_like, rights_of
from unpd.names import ExitCode

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
    assert check(launch(ECHO), "--as-daemon") == (ExitCode.DONE, "configuration OK\n")


def test_no_daemon(launch: Launch) -> None:
    """Without a daemon the check fails and says so."""
    unpd = launch(ECHO)
    unpd.stop()
    code, printed = check(unpd, "--as-daemon")
    assert code != 0
    assert printed.startswith("unpd: unpd is not running: ")
    assert check(unpd)[0] == ExitCode.DONE


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
    assert (ended.returncode, ended.stdout) == (ExitCode.DONE, b"configuration OK\n")


@faults.requires_root
@faults.requires_tool("unshare")
def test_what_the_daemon_does_not_see_is_refused(launch: Launch, tmp_path: Path) -> None:
    """A drop-in in a directory that the daemon's mounts hide passes root's own check,
    and not the check as the daemon. The reload, which does no harm, agrees with it.
    """
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    unpd = launch(ECHO, prefix=("unshare", "--mount", "sh", "-c", HIDE, str(hidden)))
    (hidden / "more.toml").write_text("[log]\nlevel = 'debug'\n")
    drop_in = unpd.config_path.parent / "conf.d" / "more.toml"
    drop_in.parent.mkdir()
    drop_in.symlink_to(hidden / "more.toml")
    assert check(unpd) == (ExitCode.DONE, "configuration OK\n")
    refused = f"{drop_in}: there is no such file\n"
    assert check(unpd, "--as-daemon") == (ExitCode.CONFIGURATION, f"unpd: {refused}")
    unpd.expect_errors("reload.refused")
    assert refused in unpd.run("reload", "--control", str(unpd.control)).stderr.decode()


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
