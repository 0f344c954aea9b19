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


def become_its_root(*groups: int, users: int = 1) -> None:
    """Become the root of a new user namespace with this number of users, as ``unshare
    -Ur`` does, with these supplementary groups of before. Only a process outside may
    map more than one user.
    """
    os.setgroups(groups)
    unshared, told = os.pipe()
    inside = os.getpid()
    outside = os.fork()
    if outside == 0:
        os.close(told)
        os.read(unshared, 1)
        numbers = f"0 0 {users}"
        for name, text in (("setgroups", "deny"), ("uid_map", numbers), ("gid_map", numbers)):
            Path(f"/proc/{inside}/{name}").write_text(text)
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.close(told)
    os.close(unshared)
    if os.waitpid(outside, 0)[1] != 0:
        raise OSError("the numbers could not be mapped")


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


def test_groups_stay_where_the_user_stays(launch: Launch) -> None:
    """Supplementary groups that cannot be dropped are no obstacle if the children stay
    root of the namespace: outside they are the ordinary user who has these groups.
    """
    unpd = launch(ECHO, preexec=lambda: become_its_root(0, 27))
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"


def test_groups_that_another_user_would_keep_refuse_the_start(launch: Launch) -> None:
    """Another user must not keep the groups: they would be a way to other files. The
    refusal says what would be right.
    """
    text = f'[daemon]\nuser = "daemon"\n{ECHO}'
    unpd = launch(text, ready=False, preexec=lambda: become_its_root(0, 27, users=2))
    unpd.expect_exit(77)
    unpd.expect_errors("worker.failed", "exporter.failed", "master.refused")
    assert unpd.wait_exit() == 77
    assert (
        "cannot drop privileges to daemon: this user namespace denies setgroups(2), and"
        ' supplementary groups would stay (gid 0, 65534): set daemon.user = "root"' in unpd.stderr()
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
