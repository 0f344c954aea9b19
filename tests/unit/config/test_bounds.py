"""The bounds of a configuration, which keep every load short: the master does nothing
else meanwhile.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.etc import Etc
from unpd.config.findings import MAX_ADVICE, NO_ADVICE
from unpd.config.foreign import INSTEAD
from unpd.config.host import Host
from unpd.config.load import Loaded, load, loads
from unpd.config.source import MAX_BYTES, MAX_DOTS, MAX_ELEMENTS
from unpd.errors import ConfigError
from unpd.services.qotd import MAX_FILE_BYTES

Accept = Callable[[str], Loaded]
Refuse = Callable[[str], list[str]]

ECHO = "[services.echo]\n"
LIMIT_S = 0.5
PATIENCE = 3
"""The factor between the limit and what fails: this machine may be slow. It bounds
processor time, so that other processes do not count.
"""


def numbered(count: int, line: str) -> str:
    """``line`` with each number below ``count`` in the place of ``{}``."""
    return "".join(line.replace("{}", str(number)) for number in range(count))


def listen(count: int, address: str) -> str:
    """A service on ``count`` addresses."""
    return f"{ECHO}listen = [{numbered(count, repr(address) + ', ')}]\n"


def in_list(key: str, items: str, table: str = ECHO) -> str:
    """A table with a list as the value of a key."""
    return f"{table}{key} = [{items}]\n"


SERVICE = "[services.s{}]\ntype = 'echo'\n"
PADDING = "#" * (MAX_BYTES // 2)
NEAR = "a" * 28
WORST = {
    "unknown keys": "[daemon]\n" + numbered(4000, "k{} = 1\n") + PADDING,
    "near keys": "[daemon]\n" + numbered(4000, "reload_grace_{}s = 1\n"),
    "unknown tables": numbered(4000, "[t{}]\n") + PADDING,
    "keys to escape": numbered(4000, '"\\u001b{}" = 1\n'),
    "long keys": numbered(2000, "x" * 110 + "{} = 1\n"),
    "deep keys": numbered(800, "k{}" + ".x" * MAX_DOTS + " = 1\n") + PADDING,
    "deeper keys": numbered(2000, "k{}" + ".x" * 64 + " = 1\n")[: MAX_BYTES - 100],
    "deep lists": f"x = {'[' * 300}{'1, ' * 7000}{']' * 300}\n",
    "deeper lists": "x = " + "[" * (MAX_ELEMENTS - 10),
    "deep tables": f"x = {'{y = ' * 300}1{'}' * 300}\n{PADDING}",
    "a long list": f"x = [{'1,' * 8000}]\n",
    "far too long a list": f"x = [{'1,' * (MAX_BYTES // 2 - 10)}]\n",
    "pools": numbered(2000, "[pools.p{}]\n"),
    "near pools": numbered(31, f"[pools.{NEAR}p{{}}]\n")
    + numbered(64, f"[services.s{{}}]\ntype = 'echo'\npool = '{NEAR}q{{}}'\n"),
    "near types": numbered(64, "[services.s{}]\ntype = 'ecko{}'\n"),
    "near zones": numbered(64, "[services.s{}]\ntype = 'daytime'\ntimezone = 'Europe/Berln{}'\n"),
    "bad rules": in_list("deny", numbered(8000, "'10.0.{}.1',")),
    "equal rules": in_list("deny", "'10.0.0.0/9'," * 8000),
    "unknown users": in_list("deny", numbered(1000, "'uid:u{}',")),
    "ranges of times": numbered(64, in_list("access_times", "'00:00-23:59'," * 64, SERVICE)),
    "unknown keys to observe": numbered(64, in_list("observe", "'max_sorce'," * 9, SERVICE)),
    "listeners": listen(255, "tcp://127.0.{}.1:7"),
    "equal listeners": listen(255, "tcp://127.0.0.1:7"),
    "long hosts": listen(250, f"tcp://[{'1:' * 480}{{}}]:7"),
    "long paths": listen(250, f"unix:///{'x/' * 480}{{}}"),
    "a long account": f"[daemon]\nuser = '{'a' * (MAX_BYTES - 100)}'\n{ECHO}",
    "a long number": f"x = 0x{'f' * (MAX_BYTES - 100)}\n",
    "numbers": f"x = [{('9' * 4300 + ',') * 60}]\n",
    "empty lines": "\n" * MAX_BYTES,
    "comments": "#\n" * (MAX_BYTES // 2),
    "escapes": f'x = "{chr(92) * (MAX_BYTES - 100)}"\n',
    "open strings": '"\n' * (MAX_BYTES // 2),
    "dots": ".\n" * (MAX_BYTES // 2),
    "a quotation of blank lines": "[services.q]\ntype = 'qotd'\ntext = '''"
    + "\n" * (MAX_BYTES - 100)
    + "x'''\n",
}


@pytest.mark.parametrize("text", WORST.values(), ids=WORST.keys())
def test_the_worst_file_is_refused_in_time(refuse: Refuse, text: str) -> None:
    """No file within the bound of size keeps the loader busy for half a second."""
    assert len(text.encode()) <= MAX_BYTES
    before = time.process_time()
    _load(refuse, text)
    assert time.process_time() - before < LIMIT_S * PATIENCE


def _load(refuse: Refuse, text: str) -> None:
    try:
        refuse(text)
    except pytest.fail.Exception:  # it was accepted, which is as good
        return


QUOTATIONS = {
    "separators": b"%\n" * (MAX_FILE_BYTES // 2 - 2) + b"x\n",
    "short quotations": b"x\n%\n" * (MAX_FILE_BYTES // 4),
    "blank lines": b"\n" * (MAX_FILE_BYTES - 2) + b"x\n",
    "a long quotation": b"x\n" * (MAX_FILE_BYTES // 2),
}


@pytest.mark.parametrize("content", QUOTATIONS.values(), ids=QUOTATIONS.keys())
def test_the_worst_file_of_quotations_is_read_in_time(
    refuse: Refuse, tmp_path: Path, content: bytes
) -> None:
    """However many services name it: it is parsed once, even if it is refused."""
    file = tmp_path / "quotations"
    file.write_bytes(content)
    before = time.process_time()
    _load(refuse, numbered(64, f"[services.q{{}}]\ntype = 'qotd'\nfile = '{file}'\n"))
    assert time.process_time() - before < LIMIT_S * PATIENCE


@pytest.mark.slow
def test_the_size_of_all_files_of_quotations(host: Host, tmp_path: Path) -> None:
    """The bound holds for all files together, each of which may be as large as its
    service allows; the file that exceeds it is named by its key.
    """
    files = [tmp_path / f"quotations{number}" for number in range(3)]
    for file in files:
        file.write_bytes(b"x\n%\n" * (MAX_FILE_BYTES // 4))
    texts = [
        f"[services.q{n}]\ntype = 'qotd'\nlisten = ['tcp://127.0.0.1:0']\nfile = '{file}'\n"
        for n, file in enumerate(files)
    ]
    assert loads("".join(texts[:2]), host).config.services
    with pytest.raises(ConfigError, match=r"services\.q2\.file: .* 3145728 bytes.* 2097152"):
        loads("".join(texts), host)


def test_many_files_are_refused_in_time(etc: Etc) -> None:
    """256 drop-ins with as much as they may hold take no longer than one file."""
    etc.write(ECHO, **{f"d{number:03}": numbered(16, "k{} = 1\n") for number in range(256)})
    before = time.process_time()
    assert etc.refusal()
    assert time.process_time() - before < LIMIT_S * PATIENCE


def test_only_the_first_faults_get_advice(refuse: Refuse) -> None:
    """The search for a near word costs more than all else, so the first faults alone
    get advice. The others say why they have none.
    """
    lines = refuse("[daemon]\n" + numbered(50, "grace_ss{} = 1\n") + ECHO)
    assert [line.endswith('unknown key; did you mean "grace_s"?') for line in lines] == [
        number < MAX_ADVICE for number in range(50)
    ]
    assert all(line.endswith(f": unknown key; {NO_ADVICE}") for line in lines[MAX_ADVICE:])


def test_every_foreign_word_gets_its_advice(refuse: Refuse) -> None:
    """Advice that needs no search is given for any number of words."""
    lines = refuse(ECHO + "".join(f"{word} = 1\n" for word in sorted(INSTEAD)))
    assert len(lines) == len(INSTEAD)
    for word, line in zip(sorted(INSTEAD), lines, strict=True):
        assert line.endswith(f"services.echo.{word}: unknown key; {INSTEAD[word]}")


def test_the_size_of_a_file(etc: Etc) -> None:
    """A file of exactly the bound is accepted. For a larger one, the sentence names its
    size and the bound.
    """
    etc.write(ECHO + "#" * (MAX_BYTES - len(ECHO)))
    assert etc.load().config.services
    etc.write("#" * 1_048_576)
    assert etc.refusal() == [
        (
            "unpd.toml: the file has 1048576 bytes, but all files of a configuration together may"
            " have at most 262144"
        )
    ]


def test_the_size_of_all_files(etc: Etc) -> None:
    """The bound holds for all files together: the file that exceeds it is named, and
    those after it are not read.
    """
    half = "#" * (MAX_BYTES // 2)
    etc.write(ECHO, a=half, b=half, c="[[")
    assert etc.refusal() == [
        (
            f"conf.d/b.toml: the files up to this one have {MAX_BYTES + len(ECHO)} bytes, but all"
            f" files of a configuration together may have at most {MAX_BYTES}"
        )
    ]


def test_the_elements_of_all_files(etc: Etc) -> None:
    """The bound of keys, tables and items of lists holds for all files together. What
    stands in strings and comments does not count.
    """
    marks = "=,[{." * MAX_ELEMENTS
    etc.write(f"{ECHO}listen = ['unix:///run/x=,[{{.']\n#{marks}\n")
    assert etc.load().config.services
    keys = numbered(MAX_ELEMENTS // 2 + 1, "k{} = 1\n")
    etc.write(ECHO, a=keys, b=keys)
    (line,) = etc.refusal()
    assert line == (
        f"conf.d/b.toml: the files up to this one have about {MAX_ELEMENTS + 4} keys, tables and"
        " items of lists, but all files of a configuration together may have at most"
        f" {MAX_ELEMENTS}"
    )


def test_a_huge_file_is_not_read(etc: Etc) -> None:
    """A sparse file of a terabyte is refused by its size; nobody reads it."""
    etc.write("")
    with etc.main.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match=f"the file has {1 << 40} bytes"):
        load(etc.main, etc.host)


@pytest.mark.parametrize(
    "text",
    [
        'x = ["""a"""", 1, 1]',
        'x = ["""a""""", 1, 1]',
        "x = ['''a'''', 1, 1]",
        "x = ['''a''''', 1, 1]",
        'x = ["""\n"quoted" \\""" """, 1, 1]',
        'x = "\\"" # "\ny = [1, 1]',
        "x = '\\' # '\ny = [1, 1]",
    ],
)
def test_the_end_of_every_string_is_found(refuse: Refuse, text: str) -> None:
    """What follows a string counts, however the string ends: text that looks like one
    hides nothing from the bound.
    """
    assert "known here" in "".join(refuse(text))
    many = text.replace("1, 1", "1, " * (MAX_ELEMENTS + 1))
    assert "keys, tables and items of lists" in refuse(many)[0]
