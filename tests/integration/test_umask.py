"""The umask of the caller changes no mode of what unpd makes."""

import os
import stat
from pathlib import Path

import pytest

from tests.support.launch import Launch

MASKS = [0, 0o022, 0o077, 0o777]


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("mask", MASKS)
def test_the_modes_are_the_documented_ones(launch: Launch, tmp_path: Path, mask: int) -> None:
    """The directories of the pid file and of the control socket, and all files in them,
    have the modes that the manual gives. A directory that exists keeps its mode.
    """
    run, other, mine = tmp_path / "run", tmp_path / "other", tmp_path / "mine"
    mine.mkdir(mode=0o750)
    directory_mode = 0o755 if os.geteuid() == 0 else 0o700
    unpd = launch(
        f'[daemon]\npid_file = "{run}/unpd.pid"\ncontrol = "{other}/control.sock"\n'
        f'[log]\nfile = "{mine}/unpd.log"\n'
        f'[services.echo]\nlisten = ["unix://{mine}/echo.sock"]\n',
        preexec=lambda: os.umask(mask),
    )
    found = {
        path.name: mode(path)
        for path in (run, other, mine, unpd.pid_file, unpd.control, unpd.log_path)
    }
    assert found == {
        "run": directory_mode,
        "other": directory_mode,
        "mine": 0o750,
        "unpd.pid": 0o600,
        "control.sock": 0o660,
        "unpd.log": 0o640,
    }
    assert mode(mine / "echo.sock") == 0o666
