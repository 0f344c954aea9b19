"""``access.state_file`` names a file that the daemon may replace, or nothing."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from unpd.config.denials_file import why_foreign
from unpd.config.host import Host
from unpd.config.load import loads
from unpd.errors import ConfigError

ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:7"]\n'


@pytest.fixture(name="path")
def made_path(tmp_path: Path) -> Path:
    """The path of a file that does not exist, in a directory that does."""
    return tmp_path / "denials"


@pytest.mark.parametrize("content", ["", '{"unpd_denials": 1, "count": 0}\n', '{"unpd_denials"'])
def test_an_empty_file_and_one_of_denials_may_be_replaced(path: Path, content: str) -> None:
    """Also a damaged one, and one of a later version: the start keeps it beside."""
    assert why_foreign(path) == ""
    path.write_text(content)
    assert why_foreign(path) == ""


@pytest.mark.parametrize("content", ["root:x:0:0\n", "[daemon]\n", "{}\n", '{"unpd"', "\0" * 100])
def test_a_file_of_somebody_else_may_not(path: Path, content: str) -> None:
    """Whatever it holds: the start would replace it."""
    path.write_text(content)
    assert why_foreign(path) == (
        f"{path} holds something else than live denials, and unpd would replace it: name a file of"
        " its own, which need not exist"
    )


def test_neither_a_directory_nor_a_link_nor_a_pipe(path: Path) -> None:
    """Each sentence says what is there, and what would be right."""
    path.mkdir()
    assert why_foreign(path) == (
        f"{path} is a directory: name a file in it, such as {path}/denials"
    )
    link = path / "link"
    link.symlink_to(path / "nowhere")
    assert why_foreign(link) == (
        f"{link} is a symbolic link, which unpd does not follow: name the file itself"
    )
    pipe = path / "pipe"
    os.mkfifo(pipe)
    assert why_foreign(pipe) == (
        f"{pipe} is no plain file: name a file of its own, which need not exist"
    )


def test_a_start_makes_one_directory(path: Path) -> None:
    """As for the control socket. A directory above that is missing is a slip."""
    assert why_foreign(path / "state") == ""
    assert why_foreign(path / "lib" / "state") == f"there is no directory {path}/lib"
    path.write_text("")
    assert why_foreign(path / "state") == f"{path} is no directory"


def test_a_load_refuses_the_file_with_its_line(host: Host, path: Path) -> None:
    """So check, start and reload do."""
    path.write_text("root:x:0:0\n")
    text = f'{ECHO}[access]\nstate_file = "{path}"\n'
    with pytest.raises(ConfigError) as caught:
        loads(text, replace(host, check_files=True))
    assert str(caught.value).startswith(f"unpd.toml:4: access.state_file: {path} holds something")
