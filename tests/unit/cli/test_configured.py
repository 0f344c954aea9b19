"""The way from a configuration to the daemon that runs with it, without loading the
configuration.
"""

import os
from argparse import Namespace
from pathlib import Path

import pytest

from unpd.cli import configured
from unpd.cli.configured import control_path
from unpd.config.host import this_host
from unpd.errors import ConfigError

DEFAULT = Path(this_host().daemon_defaults()["control"])


def control(path: str) -> str:
    """Return the text of a file that names this control socket."""
    return f"[daemon]\ncontrol = '{path}'\n"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """Make a main file with an empty conf.d beside it."""
    (tmp_path / "conf.d").mkdir()
    path = tmp_path / "unpd.toml"
    path.touch()
    return path


def found(main: Path) -> str:
    """Return the control socket of the daemon that runs with this file."""
    return str(control_path(Namespace(control=None, config=str(main))))


def test_the_argument_wins(main: Path) -> None:
    """A socket on the command line is used as it is."""
    main.write_text(control("/main"))
    assert control_path(Namespace(control="there", config=None)) == Path("there")


def test_the_default(main: Path) -> None:
    """If no file names the socket, the default holds."""
    assert found(main) == str(DEFAULT)


@pytest.mark.parametrize("value", [r'"/a\u0000b"', "5", "false", '"run/control.sock"', '""'])
def test_a_value_that_is_no_path_is_a_broken_file(main: Path, value: str) -> None:
    """A value that the daemon refuses names no socket, and the default could be the
    socket of another daemon.
    """
    main.write_text(f"[daemon]\ncontrol = {value}\n")
    with pytest.raises(ConfigError) as refusal:
        found(main)
    assert str(refusal.value).split("\n") == [
        f'{main}: daemon.control: must be an absolute path, such as "/run/unpd/control.sock"',
        f"{main}: so its control socket is not known: name it with --control",
    ]


def test_the_last_file_wins(main: Path) -> None:
    """The drop-ins come after the main file, in the order of their names, as when the
    daemon loads them.
    """
    main.write_text(control("/main"))
    assert found(main) == "/main"
    (main.parent / "conf.d/b.toml").write_text(control("/b"))
    (main.parent / "conf.d/a.toml").write_text(control("/a"))
    (main.parent / "conf.d/c.toml").write_text("[log]\nlevel = 'info'\n")
    (main.parent / "conf.d/.d.toml").write_text(control("/hidden"))
    assert found(main) == "/b"


@pytest.mark.parametrize("broken", ["x = ", "daemon = 1", "[daemon]\ncontrol = 1", "\0"])
def test_broken_files_are_passed_over(main: Path, broken: str) -> None:
    """A broken file, the main one or a drop-in, does not hide the socket that another
    file names.
    """
    main.write_text(control("/main"))
    (main.parent / "conf.d/a.toml").write_text(broken)
    assert found(main) == "/main"
    main.write_text(broken)
    (main.parent / "conf.d/b.toml").write_text(control("/b"))
    assert found(main) == "/b"


@pytest.mark.parametrize("broken", ["x = ", "\0", "daemon = 1"])
def test_the_default_may_be_another_daemon_s(main: Path, broken: str) -> None:
    """A broken file that names no socket is an error: the default socket may be that of
    another daemon.
    """
    main.write_text(broken)
    with pytest.raises(
        ConfigError, match=r"its control socket is not known: name it with --control$"
    ):
        found(main)


def test_the_system_s_own_daemon(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If /etc/unpd/unpd.toml is broken, its daemon is the one at the default socket."""
    monkeypatch.setattr(configured, "DEFAULT_CONFIG", main)
    main.write_text("x = ")
    assert found(main) == str(DEFAULT)


def test_an_unusable_directory_is_passed_over(main: Path) -> None:
    """A conf.d that cannot be read does not hide the socket of the main file."""
    main.write_text(control("/main"))
    (main.parent / "conf.d").rmdir()
    (main.parent / "conf.d").touch()
    assert found(main) == "/main"


def test_a_fifo_does_not_block(main: Path) -> None:
    """A FIFO among the files is passed over, without waiting for a writer."""
    main.write_text(control("/main"))
    os.mkfifo(main.parent / "conf.d/a.toml")
    assert found(main) == "/main"


def test_the_mode_of_the_file_does_not_matter(main: Path) -> None:
    """A file that others may write, which a daemon would refuse, still leads to the
    daemon that runs.
    """
    main.write_text(control("/main"))
    main.chmod(0o666)
    assert found(main) == "/main"


def test_a_missing_file(main: Path) -> None:
    """A main file that does not exist is an error, whatever conf.d holds."""
    main.unlink()
    (main.parent / "conf.d/a.toml").write_text(control("/a"))
    with pytest.raises(ConfigError) as refusal:
        found(main)
    assert str(refusal.value).split("\n") == [
        f"{main}: there is no such file",
        f"{main}: so its control socket is not known: name it with --control",
    ]


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    """A path that the kernel refuses is an error of the configuration."""
    with pytest.raises(ConfigError, match=r"its control socket is not known"):
        found(tmp_path / ("x" * 5000))
