"""Reading and parsing a configuration file that may be broken or hostile."""

import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.etc import ORDINARY_UID
from unpd.config.host import Host
from unpd.config.load import load
from unpd.config.source import MAX_BYTES, Source, distrust, parse, read
from unpd.errors import ConfigError
from unpd.kernel.privileges import user_name

ECHO = b"[services.echo]\n"
FILE = stat.S_IFREG
DIRECTORY = stat.S_IFDIR


def refusal(path: Path) -> str:
    """The sentence with which the file at ``path`` is refused, without its path."""
    with pytest.raises(ConfigError) as caught:
        parse(read(path, trusted_only=False))
    assert len(caught.value.problems) == 1
    return str(caught.value).removeprefix(str(path))


def write(tmp_path: Path, content: bytes, mode: int = 0o644) -> Path:
    """Write a file with this content and mode."""
    path = tmp_path / "unpd.toml"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x7fELF\x02\x01\x01\0\0", ": this is a binary file, not TOML"),
        (b"[log]\nfile = '\xff'\n", ":2: the text is not UTF-8: byte 0xff is wrong here"),
        (b"[log]\nfile = '\xc3", ":2: the text is not UTF-8: byte 0xc3 is wrong here"),
        (b"\n\xff", ":2: the text is not UTF-8: byte 0xff is wrong here"),
        (b"[log]\n\nlevel = \n", ":3: not valid TOML: the value of level is missing"),
        (
            b"\xff\xfe[\0l\0o\0g\0]\0",
            ": the text is UTF-16: save the file as UTF-8",
        ),
        (b"x = " + b"[" * 5000, ": the nesting is too deep"),
        (b"x = " + b"{a = " * 4000, ": the nesting is too deep"),
        (
            b"# deep\n" + b".".join([b"a"] * 4000) + b" = 1\n",
            ":2: a key has more than 8 dots: the nesting is too deep",
        ),
        (b"x = " + b"9" * 5000, ": a number has too many digits"),
        (
            b"#" * (MAX_BYTES + 1),
            (
                ": the file has 262145 bytes, but all files of a configuration together may"
                " have at most 262144"
            ),
        ),
    ],
)
def test_refuses_text(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A text that is not TOML, or is too large, is refused with one sentence, and with
    the line if it is known.
    """
    assert refusal(write(tmp_path, content)) == sentence


@pytest.mark.parametrize(
    "content",
    [
        ECHO,
        b"\xef\xbb\xbf" + ECHO,
        ECHO.replace(b"\n", b"\r\n"),
        ECHO + b"#" * (MAX_BYTES - len(ECHO)),
    ],
)
def test_accepts_text(tmp_path: Path, content: bytes) -> None:
    """A byte order mark, CR LF line ends and a size of exactly 256 KiB are accepted."""
    assert parse(read(write(tmp_path, content), trusted_only=False)) == {"services": {"echo": {}}}


def test_dots_in_strings_and_comments() -> None:
    """Only the dots of keys count as nesting."""
    dots = "." * 1000
    assert parse(Source("unpd.toml", f"# {dots}\na = \"\\\"{dots}\" # '{dots}\nb = '{dots}'")) == {
        "a": f'"{dots}',
        "b": dots,
    }


def test_the_most_dots_of_a_key() -> None:
    """A key with 8 dots is accepted; one more is refused, also if its parts are quoted.
    A line may have many keys and numbers with dots.
    """
    key = ".".join("a" * 9)
    assert "a" in parse(Source("unpd.toml", f"{key} = 1"))
    assert "a" in parse(Source("unpd.toml", f"a = [{'{b.c = 1.5}, ' * 50}]"))
    for deeper in (f"a.{key}", ' . "a" . '.join("abcdef")):
        with pytest.raises(ConfigError, match="a key has more than 8 dots"):
            parse(Source("unpd.toml", f"{deeper} = 1"))


def test_missing(tmp_path: Path) -> None:
    """A missing file is reported as missing."""
    assert refusal(tmp_path / "unpd.toml") == ": there is no such file"


def test_below_a_file(tmp_path: Path) -> None:
    """A path through a regular file gets the reason of the system."""
    assert (
        refusal(write(tmp_path, ECHO) / "unpd.toml") == ": the file cannot be read: Not a directory"
    )


def test_directory(tmp_path: Path) -> None:
    """A directory is reported as one, and its descriptor is closed."""
    before = set(os.listdir("/proc/self/fd"))
    assert refusal(tmp_path) == ": this is a directory, not a file"
    assert set(os.listdir("/proc/self/fd")) == before


def test_fifo(tmp_path: Path) -> None:
    """A FIFO is refused without waiting for a writer."""
    os.mkfifo(tmp_path / "fifo")
    assert refusal(tmp_path / "fifo") == ": this is not a regular file"


def test_device() -> None:
    """An endless device is not read."""
    assert refusal(Path("/dev/zero")) == ": this is not a regular file"


def test_socket(tmp_path: Path) -> None:
    """A socket, which cannot be opened, gets the reason of the system."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert (
            refusal(tmp_path / "socket") == ": the file cannot be read: No such device or address"
        )


def test_unreadable(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A file without permission to read is reported so."""
    path = write(tmp_path, ECHO, 0)
    request.getfixturevalue("no_root")
    user = user_name(os.geteuid())
    assert refusal(path) == f": the file cannot be read by user {user}: permission denied"


@pytest.mark.parametrize(
    ("mode", "owner", "group", "objections"),
    [
        (0o644, 0, 0, ()),
        (0o600, 0, 0, ()),
        (0o664, 0, 0, ()),
        (0o640, 0, 50, ()),
        (
            0o664,
            0,
            50,
            ("gid 50 can write to the file (mode 0664): run chmod g-w on it",),
        ),
        (
            0o666,
            0,
            0,
            ("every user can write to the file (mode 0666): run chmod o-w on it",),
        ),
        (
            0o602,
            0,
            50,
            ("every user can write to the file (mode 0602): run chmod o-w on it",),
        ),
        (
            0o644,
            1000,
            0,
            ("the file belongs to uid 1000 instead of root: run chown root on it",),
        ),
        (
            0o666,
            1000,
            1000,
            (
                "the file belongs to uid 1000 instead of root: run chown root on it",
                "every user can write to the file (mode 0666): run chmod o-w on it",
            ),
        ),
    ],
)
def test_what_root_distrusts(
    mode: int, owner: int, group: int, objections: tuple[str, ...]
) -> None:
    """Root trusts only a file that it owns and that no other user can write to."""
    assert distrust(FILE | mode, owner, group) == objections


def test_a_directory_is_called_one() -> None:
    """The sentences about a directory call it a directory."""
    assert distrust(DIRECTORY | 0o777, 1000, 0) == (
        "the directory belongs to uid 1000 instead of root: run chown root on it",
        "every user can write to the directory (mode 0777): run chmod o-w on it",
    )
    assert distrust(DIRECTORY | 0o775, 0, 50) == (
        "gid 50 can write to the directory (mode 0775): run chmod g-w on it",
    )
    assert distrust(DIRECTORY | 0o755, 0, 50) == ()


def test_root_refuses_a_world_writable_file(tmp_path: Path, host: Host) -> None:
    """For root, a file to which every user can write is refused before it is parsed."""
    path = write(tmp_path, b"not TOML", 0o666)
    with pytest.raises(ConfigError) as caught:
        load(path, host)
    assert f"{path}: every user can write to the file (mode 0666): run chmod o-w on it" in str(
        caught.value
    ).split("\n")


@faults.requires_root
def test_root_trusts_its_own_file(tmp_path: Path) -> None:
    """For root, a file of root's is read, even one to which root's group can write."""
    source = read(write(tmp_path, ECHO, 0o664), trusted_only=True)
    assert (source.text, source.warnings) == (ECHO.decode(), ())


def test_other_users_get_a_warning(tmp_path: Path, host: Host) -> None:
    """For another user, the same file loads with a warning; a file to which its group
    can write loads without.
    """
    ordinary = replace(host, uid=ORDINARY_UID, user="ada")
    path = write(tmp_path, ECHO, 0o666)
    assert load(path, ordinary).warnings == (
        f"{path}: every user can write to the file (mode 0666): run chmod o-w on it",
    )
    path.chmod(0o664)
    assert load(path, ordinary).warnings == ()
