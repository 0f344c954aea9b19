"""Which files are drop-ins, and whether their directory can be trusted."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.etc import Etc
from unpd.config.dropins import MAX_DROP_INS, find
from unpd.config.host import Host
from unpd.config.load import load
from unpd.errors import ConfigError

ORDINARY_UID = 1000
ECHO = "[services.echo]\n"
OPEN = "every user can write to the directory (mode 0777): run chmod o-w on it"


def found(etc: Etc) -> list[str]:
    """The names of the drop-ins, in their order."""
    return [path.name for path in find(etc.main, trusted_only=False).files]


def refusal(etc: Etc) -> str:
    """The one sentence with which the directory is refused, without its path."""
    with pytest.raises(ConfigError) as caught:
        find(etc.main, trusted_only=False)
    return str(caught.value).removeprefix(str(etc.conf_d))


def test_name_order(etc: Etc) -> None:
    """They stand in the order of the bytes of their names, in every locale: digits,
    capitals, small letters, and what is not ASCII last.
    """
    for name in ("é", "b", "20-a", "B", "9", "10-z", "a", "a-b"):
        (etc.conf_d / f"{name}.toml").touch()
    (etc.conf_d / os.fsdecode(b"c\xff.toml")).touch()
    assert found(etc) == [
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
def test_what_is_no_drop_in(etc: Etc, name: str) -> None:
    """Hidden files, what editors and package managers leave behind, and other suffixes
    are not even opened.
    """
    (etc.conf_d / name).write_text("not TOML")
    etc.write(ECHO)
    assert found(etc) == []
    assert etc.load().drop_ins == 0


def test_without_the_directory(etc: Etc) -> None:
    """The directory may be missing."""
    etc.conf_d.rmdir()
    etc.write(ECHO)
    assert (found(etc), etc.load().warnings) == ([], ())


def test_too_many(etc: Etc) -> None:
    """More files than anybody writes are refused with one sentence; as many as are
    allowed are not.
    """
    for number in range(MAX_DROP_INS):
        (etc.conf_d / f"{number}.toml").touch()
    assert len(found(etc)) == MAX_DROP_INS
    (etc.conf_d / "more.toml").touch()
    assert refusal(etc) == ": 257 drop-ins are here, but at most 256 are allowed"


def test_a_file_in_place_of_the_directory(etc: Etc) -> None:
    """A file called conf.d is refused, not passed over."""
    etc.conf_d.rmdir()
    etc.conf_d.touch()
    assert refusal(etc) == ": the directory cannot be read: Not a directory"
    etc.main.write_text("x = \n")
    assert [line.split(": ")[0] for line in etc.refusal()] == [
        "conf.d",
        "unpd.toml:1",
    ], "the main file is told at the same time"


@pytest.fixture
def no_root() -> Iterator[None]:
    """For the time of a test we are not root, who may read everything."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(ORDINARY_UID)
    yield
    os.seteuid(uid)


def test_a_closed_directory(tmp_path: Path, etc: Etc, request: pytest.FixtureRequest) -> None:
    """A directory that we may not read is refused: what it would change nobody
    knows.
    """
    etc.conf_d.chmod(0)
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(parent.stat().st_mode | 0o011)
    request.getfixturevalue("no_root")
    assert refusal(etc) == ": the directory cannot be read: Permission denied"


def test_descriptors_are_closed(etc: Etc) -> None:
    """Looking for drop-ins leaves no descriptor open."""
    before = set(os.listdir("/proc/self/fd"))
    found(etc)
    assert set(os.listdir("/proc/self/fd")) == before


def test_root_refuses_an_open_directory(etc: Etc, host: Host) -> None:
    """Started as root, a directory into which everybody can put files is refused,
    whatever it holds.
    """
    etc.write(ECHO)
    etc.conf_d.chmod(0o777)
    with pytest.raises(ConfigError) as caught:
        load(etc.main, host)
    assert f"{etc.conf_d}: {OPEN}" in str(caught.value).split("\n")


@faults.requires_root
def test_root_refuses_an_open_file(etc: Etc, host: Host) -> None:
    """Started as root, a drop-in that everybody can write is refused like the main
    file.
    """
    etc.write(ECHO, a="")
    (etc.conf_d / "a.toml").chmod(0o666)
    with pytest.raises(ConfigError) as caught:
        load(etc.main, host)
    assert (
        f"{etc.conf_d / 'a.toml'}: every user can write to the file (mode 0666): run chmod o-w"
        " on it" in str(caught.value).split("\n")
    )


def test_others_are_warned(etc: Etc) -> None:
    """Not started as root, an open directory and an open drop-in are warnings, each
    with its path.
    """
    etc.write(ECHO, a="")
    etc.conf_d.chmod(0o777)
    (etc.conf_d / "a.toml").chmod(0o666)
    assert etc.load().warnings == (
        f"{etc.conf_d}: {OPEN}",
        (
            f"{etc.conf_d / 'a.toml'}: every user can write to the file (mode 0666): run chmod"
            " o-w on it"
        ),
    )


@faults.requires_root
def test_a_link_counts_as_its_target(etc: Etc, host: Host) -> None:
    """A drop-in may be a symbolic link; it is the file behind it that is read, and
    trusted or not.
    """
    target = etc.main.with_name("elsewhere")
    target.write_text("[log]\nlevel = 'debug'\n")
    target.chmod(0o644)
    etc.write(ECHO)
    (etc.conf_d / "a.toml").symlink_to(target)
    assert etc.load().config.log.level == "debug"
    target.chmod(0o666)
    with pytest.raises(ConfigError, match=r"conf\.d/a\.toml: every user can write to the file"):
        load(etc.main, replace(host, uid=0))


def test_what_is_no_file(etc: Etc) -> None:
    """A link to nothing, a directory and a FIFO with the name of a drop-in are refused,
    all at once and without waiting.
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
    """Whatever a file is called, it is named in one harmless line."""
    etc.write(ECHO)
    for name in (b"a\n\x1b[2J.toml", b"b\xff.toml"):
        (etc.conf_d / os.fsdecode(name)).write_text("x = ")
    lines = etc.refusal()
    assert len(lines) == 2
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert "\\n\\u001b[2J.toml" in lines[0]
    assert "\\udcff.toml" in lines[1]
