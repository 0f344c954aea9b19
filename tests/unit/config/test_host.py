"""The machine and the user: runtime directory, defaults of the user, limits."""

import os
import resource
from pathlib import Path

import pytest

from unpd.config.host import (
    SOMAXCONN,
    Host,
    instance_of,
    read_somaxconn,
    runtime_dir,
    this_host,
)
from unpd.kernel.cpus import usable_cpus
from unpd.kernel.privileges import user_name
from unpd.names import Resource

TEMPORARY = "/tmp"  # noqa: S108  only its name is looked at


@pytest.mark.parametrize(
    ("uid", "environment", "expected"),
    [
        (0, {"XDG_RUNTIME_DIR": "/run/user/0", "TMPDIR": "/scratch"}, "/run/unpd"),
        (7, {"XDG_RUNTIME_DIR": "/run/mine/", "TMPDIR": "/scratch"}, "/run/mine/unpd"),
        (7, {"RUNTIME_DIRECTORY": "/run/unpd", "XDG_RUNTIME_DIR": "/run/mine"}, "/run/unpd"),
        (7, {"RUNTIME_DIRECTORY": "/run/ours:/run/other"}, "/run/ours"),
        (0, {"RUNTIME_DIRECTORY": "/run/elsewhere"}, "/run/unpd"),
        (7, {"XDG_RUNTIME_DIR": "relative", "TMPDIR": "/scratch"}, "/scratch/unpd-7"),
        (7, {"TMPDIR": "relative"}, f"{TEMPORARY}/unpd-7"),
        (7, {}, f"{TEMPORARY}/unpd-7"),
        (1000, {"TMPDIR": "/scratch"}, "{run}/1000/unpd"),
    ],
)
def test_runtime_dir(tmp_path: Path, uid: int, environment: dict[str, str], expected: str) -> None:
    """The runtime directory is /run/unpd for root, else the unit's, else the user's,
    else one in the temporary directory; relative paths do not count.
    """
    (tmp_path / "1000").mkdir()
    assert runtime_dir(uid, environment, tmp_path) == expected.format(run=tmp_path)


@pytest.mark.parametrize(
    ("uid", "environment", "expected"),
    [
        (0, {}, "/run/unpd-lab"),
        (7, {"RUNTIME_DIRECTORY": "/run/unpd-lab"}, "/run/unpd-lab"),
        (7, {"XDG_RUNTIME_DIR": "/run/mine/"}, "/run/mine/unpd-lab"),
    ],
)
def test_runtime_dir_of_an_instance(uid: int, environment: dict[str, str], expected: str) -> None:
    """An instance has a directory of its own, the one that its unit makes."""
    assert runtime_dir(uid, environment, instance="lab") == expected


@pytest.mark.parametrize(
    ("config", "instance"),
    [
        ("/etc/unpd/lab/unpd.toml", "lab"),
        ("/etc/unpd/../unpd/lab/./unpd.toml", "lab"),
        ("/etc/unpd/unpd.toml", ""),
        ("/etc/unpd/lab/other.toml", ""),
        ("/etc/unpd/lab/sub/unpd.toml", ""),
        ("/etc/elsewhere/lab/unpd.toml", ""),
        ("/srv/lab/unpd.toml", ""),
    ],
)
def test_instance_of(config: str, instance: str) -> None:
    """Only /etc/unpd/NAME/unpd.toml belongs to an instance."""
    assert instance_of(Path(config)) == instance
    assert instance_of(None) == ""


def test_user_name() -> None:
    """A uid is shown by its name, or by its digits if the user database has none."""
    assert user_name(0) == "root"
    assert user_name(3_999_999_999) == "3999999999"


def test_user_of_defaults() -> None:
    """By default root drops to nobody, or to the one that its namespace has; another
    user stays the same.
    """
    alone = Host(0, "root", "/run/unpd", None, 1, drops_to="root")
    assert alone.daemon_defaults()["user"] == "root"
    assert Host(0, "root", "/run/unpd", None, 1).daemon_defaults()["user"] == "nobody"
    assert Host(1000, "ada", "/x", None, 1).daemon_defaults() == {
        "user": "ada",
        "pid_file": "/x/unpd.pid",
        "control": "/x/control.sock",
    }


@pytest.mark.parametrize(("content", "limit"), [("4096\n", 4096), ("", None), ("many", None)])
def test_somaxconn(tmp_path: Path, content: str, limit: int | None) -> None:
    """The kernel's limit is a number, or None for any other text."""
    (tmp_path / "somaxconn").write_text(content)
    assert read_somaxconn(tmp_path / "somaxconn") == limit


def test_somaxconn_hidden(tmp_path: Path) -> None:
    """A limit that cannot be read is None."""
    assert read_somaxconn(tmp_path / "somaxconn") is None


def test_this_host() -> None:
    """This machine and the user of this process are described as they are, and accounts
    are looked up.
    """
    uid = os.geteuid()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert this_host() == Host(
        uid,
        user_name(uid),
        runtime_dir(uid, os.environ),
        read_somaxconn(SOMAXCONN),
        usable_cpus(),
        gid=os.getegid(),
        open_files=None if hard == resource.RLIM_INFINITY else hard,
        check_accounts=True,
        check_files=True,
        drops_to="nobody",
    )
    assert this_host().cpus >= 1


def test_this_host_knows_what_tells_how_busy_it_is() -> None:
    """The pressures of this machine that can be read are those for which the kernel has
    a file; sysinfo(2) tells the load everywhere.
    """
    host = this_host()
    assert host.tells_load
    if Path("/proc/pressure").exists():
        assert host.pressures == frozenset(Resource)
