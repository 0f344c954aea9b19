"""The mode of a UNIX listener's file, in a directory that another user may write to."""

import os
import socket
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import reconfigure, send_request
from tests.support.waiting import pause, until


def listening_on(path: Path, mode: str) -> str:
    """An echo at ``path``."""
    return f'[services.echo]\nlisten = ["unix://{path}"]\nsocket_mode = "{mode}"\n'


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that only its owner may read."""
    path = tmp_path / "victim"
    path.write_text("secret")
    path.chmod(0o600)
    return path


def swap(path: Path, victim: Path) -> None:
    """Put a link to ``victim`` in the place of the socket."""
    path.with_suffix(".link").symlink_to(victim)
    os.replace(path.with_suffix(".link"), path)


CHMODS = "?chmod,?fchmodat,?fchmodat2"


@faults.requires_strace()
def test_a_link_in_the_place_of_a_new_socket_changes_no_file(
    launch: Launch, tmp_path: Path, victim: Path
) -> None:
    """A user who may write to the directory puts a link there in the moment when the
    socket is made. The mode of the link's target does not change.
    """
    path = tmp_path / "echo.sock"
    prefix = faults.strace_prefix(
        tmp_path / "trace", CHMODS, f"{CHMODS}:delay_enter=2000000", options=("-f",)
    )
    unpd = launch(listening_on(path, "0666"), ready=False, prefix=prefix)
    until(path.is_socket, 20.0, "the socket")
    pause(0.5)  # the start is refused if the socket is gone when it looks at it at once
    swap(path, victim)
    unpd.expect_errors("listener.broken")
    unpd.expect_leftover(path)
    unpd.wait_ready()
    assert victim.stat().st_mode & 0o7777 == 0o600


@pytest.mark.slow
@faults.requires_strace()
def test_a_link_in_the_moment_of_a_change_of_mode_changes_no_file(
    launch: Launch, tmp_path: Path, victim: Path
) -> None:
    """The same for a reload that changes socket_mode."""
    path = tmp_path / "echo.sock"
    unpd = launch(listening_on(path, "0600"))
    unpd.expect_errors("listener.broken")
    unpd.expect_leftover(path)
    with faults.straced(
        unpd.pid, tmp_path / "trace", CHMODS, f"{CHMODS}:delay_enter=2000000", follow=False
    ) as trace:
        text = listening_on(path, "0666")
        asked = reload_begun(unpd, text)
        until(lambda: any("chmod" in line for line in trace.lines()), 20.0, "the change")
        swap(path, victim)
        unpd.wait_event("reload.succeeded", generation=2)
        asked.close()
    assert victim.stat().st_mode & 0o7777 == 0o600


def reload_begun(unpd: Unpd, text: str) -> socket.socket:
    """Ask for a reload with ``text``, without waiting for its end."""
    reconfigure(unpd, text)
    return send_request(unpd.control, verb="reload")
