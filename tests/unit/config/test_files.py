"""Files that options name: read once a load, bounded, refused with a sentence."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from unpd.config.files import NamedFiles
from unpd.config.host import Host
from unpd.config.load import loads
from unpd.config.plan import effective, values_of
from unpd.errors import ConfigError

QOTD = '[services.qotd]\nfile = "{}"\n'


def test_a_file_is_read_once_in_a_load(tmp_path: Path) -> None:
    """Two options that name it see the same content, even if it changes meanwhile."""
    file, files = tmp_path / "fortunes", NamedFiles(lambda: None)
    file.write_bytes(b"one")
    assert files(str(file), 10, bytes) == b"one"
    file.write_bytes(b"another")
    assert files(str(file), 10, bytes) == b"one"
    assert NamedFiles(lambda: None)(str(file), 10, bytes) == b"another"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """It has at most as many bytes as its service allows."""
    file = tmp_path / "fortunes"
    file.write_bytes(bytes(11))
    with pytest.raises(ValueError, match=r"has 11 bytes, but may have at most 10$"):
        NamedFiles(lambda: None)(str(file), 10, bytes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "there is no such file"),
        ("directory", "this is a directory, not a file"),
        ("fifo", "this is not a regular file"),
        ("empty", "the file holds no quotation"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_of_the_configuration(
    host: Host, tmp_path: Path, name: str, reason: str
) -> None:
    """The error names the key and the line. A FIFO does not keep the master waiting."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ConfigError, match=rf":2: services\.qotd\.file: .*{re.escape(reason)}$"):
        loads(QOTD.format(tmp_path / name), host)


def test_a_relative_path_is_refused(host: Host) -> None:
    """The daemon's working directory is /."""
    with pytest.raises(ConfigError, match="is not an absolute path"):
        loads(QOTD.format("fortunes"), host)


def test_the_content_of_a_file_is_part_of_the_values_of_its_service(
    host: Host, tmp_path: Path
) -> None:
    """So a reload notices that it changed; the effective configuration has its path."""
    file = tmp_path / "fortunes"
    file.write_bytes(b"one\n")
    before = loads(QOTD.format(file), host).config
    again = loads(QOTD.format(file), host).config
    file.write_bytes(b"two\n")
    after = loads(QOTD.format(file), host).config
    values = [values_of(config.services["qotd"]) for config in (before, again, after)]
    assert values[0] == values[1] != values[2]
    assert f'file = "{file}"' in effective(before)
    assert "one\n" not in effective(before)


def test_a_file_without_a_user_to_read_it(host: Host, tmp_path: Path) -> None:
    """The user is looked up for a file only, and one that does not exist refuses it."""
    (tmp_path / "fortunes").write_bytes(b"one")
    unsettled = replace(host, children=None)
    account = "[daemon]\nuser = 'no-such-user'\n"
    assert loads(f"{account}[services.echo]", unsettled).config.daemon.user == "no-such-user"
    with pytest.raises(ConfigError, match=r": daemon\.user or daemon\.group does not exist$"):
        loads(account + QOTD.format(tmp_path / "fortunes"), unsettled)
