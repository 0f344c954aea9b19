"""Where the verbs look for the daemon, without loading the configuration."""

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
    """A file that names this control socket."""
    return f"[daemon]\ncontrol = '{path}'\n"


@pytest.fixture
def main(tmp_path: Path) -> Path:
    """A main file with an empty conf.d beside it."""
    (tmp_path / "conf.d").mkdir()
    path = tmp_path / "unpd.toml"
    path.touch()
    return path


def found(main: Path) -> str:
    """What the file's daemon is asked through."""
    return str(control_path(Namespace(control=None, config=str(main))))


def test_the_argument_wins(main: Path) -> None:
    """A socket named on the command line is taken as it is."""
    main.write_text(control("/main"))
    assert control_path(Namespace(control="there", config=None)) == Path("there")


def test_the_default(main: Path) -> None:
    """Where no file names the socket the default holds."""
    assert found(main) == str(DEFAULT)


def test_the_last_file_wins(main: Path) -> None:
    """The drop-ins count in the order of their names, after the main file: as when the
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
    """A file that is broken, the main one or a drop-in, does not hide what the others
    say.
    """
    main.write_text(control("/main"))
    (main.parent / "conf.d/a.toml").write_text(broken)
    assert found(main) == "/main"
    main.write_text(broken)
    (main.parent / "conf.d/b.toml").write_text(control("/b"))
    assert found(main) == "/b"


@pytest.mark.parametrize("broken", ["x = ", "\0"])
def test_nobody_else_s_daemon_is_meant(main: Path, broken: str) -> None:
    """A broken file that names no socket: the default one may be another daemon's. Only
    the system's own file falls back to it.
    """
    main.write_text(broken)
    with pytest.raises(
        ConfigError, match=r"its control socket is not known: name it with --control$"
    ):
        found(main)


def test_the_system_s_own_daemon(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/etc/unpd/unpd.toml is broken by now: its daemon is the one at the default."""
    monkeypatch.setattr(configured, "DEFAULT_CONFIG", main)
    main.write_text("x = ")
    assert found(main) == str(DEFAULT)


def test_an_unusable_directory_is_passed_over(main: Path) -> None:
    """Nor does a conf.d that cannot be read."""
    main.write_text(control("/main"))
    (main.parent / "conf.d").rmdir()
    (main.parent / "conf.d").touch()
    assert found(main) == "/main"


def test_nothing_is_waited_for(main: Path) -> None:
    """A FIFO among the files is passed over without waiting for its writer."""
    main.write_text(control("/main"))
    os.mkfifo(main.parent / "conf.d/a.toml")
    assert found(main) == "/main"


def test_who_may_write_does_not_matter(main: Path) -> None:
    """A file that the daemon would refuse by now still leads to the daemon that
    runs.
    """
    main.write_text(control("/main"))
    main.chmod(0o666)
    assert found(main) == "/main"


def test_a_missing_file(main: Path) -> None:
    """A main file that is not there is an error, whatever conf.d holds."""
    main.unlink()
    (main.parent / "conf.d/a.toml").write_text(control("/a"))
    with pytest.raises(ConfigError, match=r"unpd\.toml: there is no such file$"):
        found(main)


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    """A path that the system does not take is no failure of our own."""
    with pytest.raises(ConfigError, match=r"its control socket is not known"):
        found(tmp_path / ("x" * 5000))
