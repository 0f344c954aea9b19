"""Surroundings that lack what unpd needs: the start is refused with one sentence."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from tests.support.launch import Launch
from unpd.names import ExitCode

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:0"]\n'
LEAVE = 'cd "$0" && rmdir "$0" && exec "$@"'
HIDE = 'mount -t tmpfs none "$0" && exec "$@"'


@pytest.mark.parametrize(
    ("size", "named"), [(8192, "the scoreboard of "), (1 << 30, "the counts of sources, ")]
)
def test_a_limit_that_shared_memory_exceeds_is_named(launch: Launch, size: int, named: str) -> None:
    """The sentence names the memory, and the limits that apply to it."""

    def allow_small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    unpd = launch(ECHO, ready=False, preexec=allow_small_files)
    unpd.expect_exit(ExitCode.CANNOT_CREATE)
    unpd.expect_errors("master.refused")
    assert unpd.wait_exit() == ExitCode.CANNOT_CREATE
    assert f"cannot make {named}" in unpd.stderr()
    assert "(ulimit -f)" in unpd.stderr()
    assert "Traceback" not in unpd.stderr()


@faults.requires_root
@faults.requires_tool("unshare")
def test_a_system_without_dev_null_is_refused(launch: Launch) -> None:
    """Every child needs /dev/null: the start says so before it forks one."""
    prefix = ("unshare", "--mount", "sh", "-c", HIDE, "/dev")
    unpd = launch(ECHO, ready=False, prefix=prefix)
    unpd.expect_exit(ExitCode.CANNOT_CREATE)
    assert unpd.wait_exit() == ExitCode.CANNOT_CREATE
    assert "cannot open /dev/null, which every child needs: " in unpd.stderr()


@pytest.mark.parametrize("command", ["check", "status"])
def test_a_removed_working_directory_is_named(tmp_path: Path, command: str) -> None:
    """A relative name means nothing there: the message asks for the whole path."""
    gone = tmp_path / "gone"
    gone.mkdir()
    ended = subprocess.run(
        ["sh", "-c", LEAVE, gone, sys.executable, "-m", "unpd", command, "--config", "unpd.toml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30.0,
        check=False,
    )
    assert ended.returncode == ExitCode.CONFIGURATION
    assert b"unpd.toml: the working directory was removed: give the whole path" in ended.stderr
