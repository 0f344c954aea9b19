"""The metrics on a UNIX socket, with rules about the user and the group of who asks."""

import contextlib
import http.client
import os
from pathlib import Path

import pytest

from tests.support.launch import Launch
from tests.support.operating import reload
from tests.support.waiting import until

ME = {"uid": os.getuid(), "gid": os.getgid()}
SOMEBODY = 12345
"""The number of no user or group of the test run."""


@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_users_and_groups_of_a_unix_socket(launch: Launch, tmp_path: Path, kind: str) -> None:
    """Who is not in the list is turned away, with a line that names the user; a reload
    that names it lets it in.
    """
    assert SOMEBODY not in (ME[kind], *os.getgroups())
    text = f'[metrics]\nlisten = "unix://{tmp_path}/metrics.sock"\nallow = ["{kind}:{{}}"]\n'
    unpd = launch(text.format(SOMEBODY))

    def is_shown() -> bool:
        with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):
            return unpd.get("/metrics").status == http.client.OK
        return False

    assert not is_shown()
    line = unpd.wait_event("connection.refused", service="metrics").fields
    assert (line["peer"], line["reason"]) == (f"uid:{ME['uid']}", "allow")
    assert line["rule"] == f'allow = ["{kind}:{SOMEBODY}"]'
    reload(unpd, text.format(ME[kind]))
    until(is_shown, 10.0, "the next exporter to answer alone")
    reload(unpd, text.format(SOMEBODY))
    until(lambda: not is_shown(), 10.0, "the next exporter to answer alone")
