"""Lists of access rules: files, bounds, and where each entry stands."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.etc import Etc
from unpd.access.peer import Peer
from unpd.access.rules import Origin
from unpd.config.access_lists import (
    MAX_ACCOUNTS,
    MAX_ENTRIES,
    MAX_FAULTS,
    MAX_FILE_BYTES,
    MAX_FILE_ENTRIES,
)
from unpd.config.files import LISTS
from unpd.config.host import Host
from unpd.config.load import Loaded, loads
from unpd.config.plan import effective, values_of
from unpd.errors import ConfigError

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
PEER = Peer(4, int.from_bytes(bytes((192, 0, 2, 7)), "big"))
PATIENCE = 10
"""Lists within the bounds take about a second of processor time; this machine may be
slow.
"""


@pytest.fixture
def deny_list(tmp_path: Path) -> Path:
    """A list file that only its owner can change."""
    file = tmp_path / "deny.list"
    file.touch(mode=0o644)
    return file


def found(config: Loaded, key: str = "deny") -> Origin | None:
    """Where the rule stands that matches the peer."""
    service = config.config.services["echo"]
    entry = (service.allow if key == "allow" else service.deny).rules.find(PEER)
    return entry.origin if entry else None


def test_an_entry_knows_its_line(accept: Accept, deny_list: Path) -> None:
    """In the configuration, in [defaults], and in a list file."""
    assert found(accept(f"{ECHO}deny = [\n'10.0.0.0/8',\n'192.0.2.0/24']\n")) == Origin(
        "unpd.toml", 4
    )
    assert found(accept(f"[defaults]\nallow = ['192.0.2.7']\n{ECHO}"), "allow") == Origin(
        "unpd.toml", 2
    )
    deny_list.write_text("# comment\n\n10.0.0.1 # one\n192.0.2.0/24\n")
    assert found(accept(f"{ECHO}deny = ['file:{deny_list}']\n")) == Origin(str(deny_list), 4)


def test_an_entry_of_a_drop_in_knows_its_file(etc: Etc) -> None:
    """A rule is named by the file that has it."""
    etc.write(ECHO, a="\n[defaults]\ndeny = ['192.0.2.7']\n")
    entry = etc.load().config.services["echo"].deny.rules.find(PEER)
    assert entry is not None
    assert (Path(entry.origin.file).name, entry.origin.line) == ("a.toml", 3)


def test_two_services_with_the_same_list_know_their_own_lines(accept: Accept) -> None:
    """A refusal names the line of the service that refuses."""
    table = "[services.{}]\ntype = 'echo'\nlisten = ['tcp://[::]:0']\ndeny = ['all']\n"
    services = accept(table.format("a") + table.format("b")).config.services
    lines = [service.deny.rules.find(PEER) for service in services.values()]
    assert [entry.origin.line for entry in lines if entry] == [4, 8]


def test_a_bad_line_of_a_list_file_is_named(refuse: Refuse, deny_list: Path) -> None:
    """With the file and the line, and the line of the configuration that names the
    file. Of many, the first are named.
    """
    deny_list.write_text("10.0.0.1\n\u00e9 # x\nlocalhost\nfile:/etc/passwd\n")
    place = "unpd.toml:3: services.echo.deny"
    assert [
        line.removeprefix(f"{place}: {deny_list}:")
        for line in refuse(f"{ECHO}deny = [\n'file:{deny_list}']\n")
    ] == [
        (
            '2: "\\u00e9" must be an address such as "192.0.2.1", a network such as "192.0.2.0/24"'
            ' or "2001:db8::/32", "all", "private", "loopback", "unix", "uid:NAME" or "gid:NAME",'
            ' and in the configuration "file:/PATH"'
        ),
        '3: "localhost" is not known here: write "loopback"',
        (
            '4: "file:/etc/passwd" names a file: only the configuration does, a list file has no'
            " other in it"
        ),
    ]
    deny_list.write_text("x\n" * (MAX_FAULTS + 5))
    lines = refuse(f"{ECHO}deny = ['file:{deny_list}']\n")
    assert len(lines) == MAX_FAULTS + 1
    assert lines[-1] == f"unpd.toml:2: services.echo.deny: {deny_list}: more lines are wrong"


def test_a_list_of_nobody_is_no_list_of_everybody(
    accept: Accept, refuse: Refuse, deny_list: Path
) -> None:
    """A file without entries allows nobody, but an empty allow refuses nobody: a
    generator that failed must not open a service.
    """
    deny_list.write_text("# generated\n")
    for table in (ECHO, f"{ECHO}[metrics]\n"):
        (sentence,) = refuse(f"{table}allow = ['file:{deny_list}']\n")
        assert "the list would let everybody in: for that write allow = []" in sentence
    for line in ("allow = []", f"deny = ['file:{deny_list}']"):
        assert accept(f"{ECHO}{line}\n").warnings == ()


def test_a_comment_may_be_in_any_encoding(accept: Accept, deny_list: Path) -> None:
    """And a byte order mark, or CR LF, changes nothing."""
    deny_list.write_bytes(b"\xef\xbb\xbf192.0.2.0/24\r\n# K\xf6ln\r\n")
    assert found(accept(f"{ECHO}deny = ['file:{deny_list}']\n")) == Origin(str(deny_list), 1)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", "there is no such file"),
        ("directory", "this is a directory, not a file"),
        ("fifo", "this is not a regular file"),
        ("open", "every user can write to the file (mode 0666): run chmod o-w on it"),
    ],
)
def test_a_file_that_cannot_be_used(
    refuse: Refuse, tmp_path: Path, name: str, sentence: str
) -> None:
    """Is an error of the key that names it."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    assert refuse(f"{ECHO}allow = ['file:{tmp_path / name}']\n") == [
        f"unpd.toml:2: services.echo.allow: {tmp_path / name}: {sentence}"
    ]


def test_all_that_is_wrong_with_a_list_is_said_at_once(refuse: Refuse, deny_list: Path) -> None:
    """A file that cannot be read hides neither a bad line of another one nor a bad
    entry.
    """
    deny_list.write_text("10.0.0.0/8\nnowhere\n")
    missing = deny_list.with_name("missing.list")
    told = refuse(f"{ECHO}deny = ['file:{missing}', 'here', 'file:{deny_list}']\n")
    assert len(told) == 3
    assert "there is no such file" in told[0]
    assert '"here" is a name' in told[1]
    assert f'{deny_list}:2: "nowhere" is a name' in told[2]


@pytest.mark.parametrize("path", ["", "deny.list", "/etc//x"])
def test_a_path_that_is_none(refuse: Refuse, path: str) -> None:
    """The daemon's working directory is /."""
    (line,) = refuse(f"{ECHO}deny = ['file:{path}']\n")
    assert line.startswith(f'unpd.toml:2: services.echo.deny: "{path}" ')


def test_a_reload_notices_the_content_of_a_file(accept: Accept, deny_list: Path) -> None:
    """But a list whose entries only moved to other lines is the same list."""

    def values(text: str, head: str = "") -> object:
        deny_list.write_text(text)
        config = accept(f"{head}{ECHO}deny = ['file:{deny_list}', '10.0.0.1']\n").config
        assert f'deny = ["file:{deny_list}", "10.0.0.1"]' in effective(config)
        return values_of(config.services["echo"])

    before = values("192.0.2.1\n")
    assert values("# moved\n192.0.2.1\n", head="\n") == before
    assert values("192.0.2.2\n") != before


def test_the_number_behind_a_name_is_part_of_a_list(accept: Accept) -> None:
    """Users have other names for the same list."""
    by_name, by_number = (
        accept(f"{ECHO}allow = ['{text}']\n").config.services["echo"].allow
        for text in ("uid:root", "uid:0")
    )
    assert (by_name.accounts, by_number.accounts) == ((0,), (0,))
    assert by_name != replace(by_name, accounts=(1,))


@pytest.mark.slow
def test_as_many_entries_as_a_file_may_have(
    accept: Accept, refuse: Refuse, deny_list: Path
) -> None:
    """They load in time. One more is refused, with both numbers."""
    lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(MAX_FILE_ENTRIES)]
    deny_list.write_text("".join(lines))
    before = time.process_time()
    loaded = accept(f"{ECHO}deny = ['file:{deny_list}']\n")
    assert time.process_time() - before < PATIENCE
    assert len(loaded.config.services["echo"].deny.rules) == MAX_FILE_ENTRIES
    deny_list.write_text("".join(lines) + "192.0.2.1\n")
    assert refuse(f"{ECHO}deny = ['file:{deny_list}']\n") == [
        (
            f"unpd.toml:2: services.echo.deny: {deny_list} has {MAX_FILE_ENTRIES + 1} entries, but"
            f" may have at most {MAX_FILE_ENTRIES}"
        )
    ]


def test_the_worst_list_is_refused_in_time(refuse: Refuse, deny_list: Path) -> None:
    """Every line of it is bad, and every service names it with a line of its own."""
    deny_list.write_text("1.2.3.x\n" * MAX_FILE_ENTRIES)
    before = time.process_time()
    refuse(
        "".join(
            f"[services.e{n}]\ntype = 'echo'\ndeny = ['file:{deny_list}', '10.0.0.{n}']\n"
            for n in range(64)
        )
    )
    assert time.process_time() - before < PATIENCE


@pytest.mark.slow
def test_all_lists_together_are_bounded(host: Host, tmp_path: Path) -> None:
    """A file that several services name alone, and a list of [defaults], count once."""
    texts = []
    for number in range(3):
        file = tmp_path / f"{number}.list"
        file.write_text("unix\n" * (MAX_ENTRIES // 2))
        file.chmod(0o644)
        texts.append(
            f"[services.e{number}]\ntype = 'echo'\nlisten = ['tcp://[::]:0']\n"
            f"allow = ['file:{tmp_path}/0.list']\ndeny = ['file:{file}']\n"
        )
    assert loads("".join(texts[:2]), host).config.services
    with pytest.raises(
        ConfigError,
        match=rf"services\.e2\.deny: the lists up to this one have {3 * MAX_ENTRIES // 2} entries",
    ):
        loads("".join(texts), host)


def test_the_names_in_all_lists_are_bounded(refuse: Refuse, deny_list: Path) -> None:
    """Each is looked up in the user database, which is slow."""
    deny_list.write_text("uid:0\n" * MAX_ACCOUNTS)
    assert refuse(f"{ECHO}allow = ['gid:0']\ndeny = ['file:{deny_list}']\n") == [
        (
            f"unpd.toml:3: services.echo.deny: the lists up to this one name {MAX_ACCOUNTS + 1}"
            f" users and groups, but may name at most {MAX_ACCOUNTS} together"
        )
    ]


def test_the_bytes_of_list_files_are_bounded(
    refuse: Refuse, accept: Accept, tmp_path: Path
) -> None:
    """Those of one file, and of all together."""
    names = []
    for number in range(3):
        file = tmp_path / f"{number}.list"
        file.write_bytes(b"#" * MAX_FILE_BYTES)
        file.chmod(0o644)
        names.append(f"'file:{file}'")
    assert not accept(f"{ECHO}deny = [{', '.join(names[:2])}]\n").config.services["echo"].deny.rules
    (line,) = refuse(f"{ECHO}deny = [{', '.join(names)}]\n")
    assert line.endswith(
        f"the list files up to this one have {3 * MAX_FILE_BYTES} bytes, but may have at most"
        f" {LISTS.max_bytes} together"
    )
    (tmp_path / "0.list").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    (line,) = refuse(f"{ECHO}deny = [{names[0]}]\n")
    assert line.endswith(f"has {MAX_FILE_BYTES + 1} bytes, but may have at most {MAX_FILE_BYTES}")
