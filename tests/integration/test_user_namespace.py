"""unpd as the root of a user namespace with a single user, as ``unshare -Ur`` and
rootless containers make it. There setgroups(2) is denied, and there is no user to
change to (user_namespaces(7)).
"""

import ctypes
import os
from pathlib import Path

import pytest

from tests.support import clients, faults, procs
from tests.support.launch import Launch

CLONE_NEWUSER = 0x10000000
ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""

pytestmark = faults.requires_root


def become_its_root(*groups: int) -> None:
    """Become the only user of a new user namespace, as ``unshare -Ur`` does, with these
    supplementary groups of before.
    """
    os.setgroups(groups)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
        (Path("/proc/self") / name).write_text(text)


@pytest.mark.parametrize("daemon", ["", '[daemon]\nuser = "root"\n'], ids=["default", "root"])
def test_unpd_serves_where_there_is_nothing_to_drop(launch: Launch, daemon: str) -> None:
    """The daemon serves; its children are the namespace's only user, without a
    capability and without a way to one.
    """
    unpd = launch(daemon + ECHO, preexec=lambda: become_its_root(0))
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    workers = unpd.workers()
    assert len(workers) == 2
    for pid in workers:
        ids = procs.credentials(pid)
        assert (ids.uids, ids.groups) == ((0,) * 4, (0,))
        assert {ids.capabilities[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert ids.no_new_privileges


def test_groups_that_cannot_be_dropped_refuse_the_start(launch: Launch) -> None:
    """A supplementary group stays a way to other files: the daemon does not serve with
    one that it cannot drop, and says so.
    """
    unpd = launch(
        f'[daemon]\nuser = "root"\n{ECHO}',
        ready=False,
        preexec=lambda: become_its_root(0, 27),
    )
    unpd.expect_exit(77)
    unpd.expect_errors("worker.failed", "exporter.failed", "master.refused")
    assert unpd.wait_exit() == 77
    assert (
        "cannot drop privileges to root: this user namespace denies setgroups(2), and"
        " supplementary groups would stay (gid 65534)" in unpd.stderr()
    )


def test_a_user_that_the_namespace_lacks_is_named(launch: Launch) -> None:
    """A configured user without a number in the namespace refuses the start with a
    sentence that says what would be right.
    """
    text = f'[daemon]\nuser = "daemon"\n{ECHO}'
    unpd = launch(text, ready=False, preexec=lambda: become_its_root(0))
    unpd.expect_exit(77)
    unpd.expect_errors("worker.failed", "exporter.failed", "master.refused")
    assert unpd.wait_exit() == 77
    assert (
        "this user namespace has no user daemon (uid 1) or no group daemon (gid 1): map them, or"
        ' set daemon.user = "root"' in unpd.stderr()
    )
