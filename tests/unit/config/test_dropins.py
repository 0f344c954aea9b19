"""Which files are drop-ins, and whether their directory is trusted."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.etc import Etc
from unpd.config.dropins import MAX_DROP_INS, find
from unpd.config.host import Host
from unpd.config.load import load
from unpd.errors import ConfigError
from unpd.kernel.privileges import user_name

ECHO = "[services.echo]\n"
WORLD_WRITABLE = "every user can write to the directory (mode 0777): run chmod o-w on it"


def drop_in_names(etc: Etc) -> list[str]:
    """The names of the drop-ins, in their order."""
    return [path.name for path in find(etc.main, trusted_only=False).files]


def refusal(etc: Etc) -> str:
    """The sentence with which the directory is refused, without its path."""
    with pytest.raises(ConfigError) as caught:
        find(etc.main, trusted_only=False)
    return str(caught.value).removeprefix(str(etc.conf_d))


def test_name_order(etc: Etc) -> None:
    """Drop-ins are sorted by the bytes of their names, in every locale: digits,
    capitals, small letters, then what is not ASCII.
    """
    for name in ("é", "b", "20-a", "B", "9", "10-z", "a", "a-b"):
        (etc.conf_d / f"{name}.toml").touch()
    (etc.conf_d / os.fsdecode(b"c\xff.toml")).touch()
    assert drop_in_names(etc) == [
        "10-z.toml",
        "20-a.toml",
        "9.toml",
        "B.toml",
        "a-b.toml",
        "a.toml",
        "b.toml",
        "c\udcff.toml",
        "é.toml",
    ]


def test_order_of_names_that_are_not_text(etc: Etc) -> None:
    """Bytes that are not UTF-8 are sorted by their values, like all others."""
    names = [b"\x80.toml", "é.toml".encode(), "\U0001f600.toml".encode(), b"\xff.toml"]
    for name in reversed(names):
        (etc.conf_d / os.fsdecode(name)).touch()
    assert [os.fsencode(name) for name in drop_in_names(etc)] == names


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.toml",
        ".#lock.toml",
        "x.toml~",
        "#x.toml#",
        ".x.toml.swp",
        "x.toml.bak",
        "x.toml.dpkg-dist",
        "x.toml.rpmnew",
        "x.TOML",
        "x.conf",
        "README",
        ".toml",
    ],
)
def test_ignored_names(etc: Etc, name: str) -> None:
    """Hidden files, files of editors and package managers, and files with another
    suffix are not even opened.
    """
    (etc.conf_d / name).write_text("not TOML")
    etc.write(ECHO)
    assert drop_in_names(etc) == []
    assert etc.load().drop_ins == 0


def test_without_the_directory(etc: Etc) -> None:
    """A missing directory is no fault."""
    etc.conf_d.rmdir()
    etc.write(ECHO)
    assert (drop_in_names(etc), etc.load().warnings) == ([], ())


def test_too_many(etc: Etc) -> None:
    """256 drop-ins are accepted, 257 are refused with one sentence."""
    for number in range(MAX_DROP_INS):
        (etc.conf_d / f"{number}.toml").touch()
    assert len(drop_in_names(etc)) == MAX_DROP_INS
    (etc.conf_d / "more.toml").touch()
    assert refusal(etc) == ": 257 drop-ins are here, but at most 256 are allowed"


def test_a_file_in_place_of_the_directory(etc: Etc) -> None:
    """A file called conf.d is refused, not ignored; faults of the main file are
    reported together with it.
    """
    etc.conf_d.rmdir()
    etc.conf_d.touch()
    assert refusal(etc) == ": the directory cannot be read: Not a directory"
    etc.main.write_text("x = \n")
    assert [line.split(": ")[0] for line in etc.refusal()] == [
        "conf.d",
        "unpd.toml:1",
    ], "the main file is reported too"


def test_a_fifo_in_place_of_the_directory(etc: Etc) -> None:
    """A FIFO called conf.d is refused without waiting for a writer."""
    etc.conf_d.rmdir()
    os.mkfifo(etc.conf_d)
    assert refusal(etc) == ": the directory cannot be read: Not a directory"


def test_a_closed_directory(tmp_path: Path, etc: Etc, request: pytest.FixtureRequest) -> None:
    """A directory without permission to read is refused: it could change anything."""
    etc.conf_d.chmod(0)
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    request.getfixturevalue("no_root")
    user = user_name(os.geteuid())
    assert refusal(etc) == f": the directory cannot be read by user {user}: permission denied"


def test_descriptors_are_closed(etc: Etc) -> None:
    """find() leaves no descriptor open."""
    before = set(os.listdir("/proc/self/fd"))
    drop_in_names(etc)
    assert set(os.listdir("/proc/self/fd")) == before


def test_root_refuses_a_world_writable_directory(etc: Etc, host: Host) -> None:
    """For root, a directory to which every user can write is refused, whatever it
    holds.
    """
    etc.write(ECHO)
    etc.conf_d.chmod(0o777)
    with pytest.raises(ConfigError) as caught:
        load(etc.main, host)
    assert f"{etc.conf_d}: {WORLD_WRITABLE}" in str(caught.value).split("\n")


@faults.requires_root
def test_root_trusts_its_own_directory(etc: Etc) -> None:
    """For root, a directory of root's is read, even one to which root's group can
    write.
    """
    etc.conf_d.chmod(0o775)
    (etc.conf_d / "a.toml").touch()
    assert find(etc.main, trusted_only=True).files == (etc.conf_d / "a.toml",)


@faults.requires_root
def test_root_refuses_a_world_writable_file(etc: Etc, host: Host) -> None:
    """For root, a drop-in to which every user can write is refused."""
    etc.write(ECHO, a="")
    (etc.conf_d / "a.toml").chmod(0o666)
    with pytest.raises(ConfigError) as caught:
        load(etc.main, host)
    assert (
        f"{etc.conf_d / 'a.toml'}: every user can write to the file (mode 0666): run chmod o-w"
        " on it" in str(caught.value).split("\n")
    )


def test_other_users_get_a_warning(etc: Etc) -> None:
    """For another user, a directory or drop-in to which every user can write gives a
    warning with its path.
    """
    etc.write(ECHO, a="")
    etc.conf_d.chmod(0o777)
    (etc.conf_d / "a.toml").chmod(0o666)
    assert etc.load().warnings == (
        f"{etc.conf_d}: {WORLD_WRITABLE}",
        (
            f"{etc.conf_d / 'a.toml'}: every user can write to the file (mode 0666): run chmod"
            " o-w on it"
        ),
    )


@faults.requires_root
def test_a_link_counts_as_its_target(etc: Etc, host: Host) -> None:
    """A drop-in may be a symbolic link; its target is read, and is trusted or not."""
    target = etc.main.with_name("elsewhere")
    target.write_text("[log]\nlevel = 'debug'\n")
    target.chmod(0o644)
    etc.write(ECHO)
    (etc.conf_d / "a.toml").symlink_to(target)
    assert etc.load().config.log.level == "debug"
    target.chmod(0o666)
    with pytest.raises(ConfigError, match=r"conf\.d/a\.toml: every user can write to the file"):
        load(etc.main, replace(host, uid=0))


def test_anything_but_a_regular_file_is_refused(etc: Etc) -> None:
    """A dangling link, a directory and a FIFO called like a drop-in are refused, all
    together and without waiting.
    """
    etc.write(ECHO)
    (etc.conf_d / "a.toml").symlink_to("nothing")
    (etc.conf_d / "b.toml").mkdir()
    os.mkfifo(etc.conf_d / "c.toml")
    assert etc.refusal() == [
        "conf.d/a.toml: there is no such file",
        "conf.d/b.toml: this is a directory, not a file",
        "conf.d/c.toml: this is not a regular file",
    ]


def test_a_name_that_cannot_be_printed(etc: Etc) -> None:
    """A file with an unprintable name is quoted on one printable line."""
    etc.write(ECHO)
    for name in (b"a\n\x1b[2J.toml", b"b\xff.toml"):
        (etc.conf_d / os.fsdecode(name)).write_text("x = ")
    lines = etc.refusal()
    assert len(lines) == 2
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert "\\n\\u001b[2J.toml" in lines[0]
    assert "\\udcff.toml" in lines[1]
