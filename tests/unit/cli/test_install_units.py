"""``unpd install-units``: what it writes, and what it leaves alone."""

import os
import re
import sys
import sysconfig
from argparse import Namespace
from pathlib import Path

import pytest

from tests.support import ROOT
from unpd.cli import install_units
from unpd.cli.install_units import UNITS, Installation, install, is_untouched, sealed
from unpd.cli.parser import parse
from unpd.errors import CannotCreateError, PrivilegeError, UnpdError
from unpd.names import ExitCode

PROGRAM = Path("/opt/unpd/bin/unpd")
IN_OPT = Installation(program=PROGRAM, parts=(PROGRAM, Path("/usr/bin/python3.11")))
SYSTEM_UNITS = {
    "unpd-daytime.socket",
    "unpd-metrics.socket",
    "unpd.service",
    "unpd.service.d/programs.conf.example",
    "unpd.service.d/socket-activation.conf.example",
    "unpd.socket",
    "unpd@.service",
}


def asked(*words: str) -> Namespace:
    """The arguments of ``unpd install-units WORDS``."""
    return parse(["install-units", *words])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the units go; it does not exist yet."""
    return tmp_path / "etc/system"


def run(directory: Path, *words: str, installation: Installation = IN_OPT) -> int:
    """Write the units into a directory."""
    return install(asked("--directory", str(directory), *words), installation)


def written(directory: Path) -> dict[str, str]:
    """Every file in the directory, and in those below."""
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_the_units_of_the_system(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are those that the packages have, with another program, and all can read
    them.
    """
    old_umask = os.umask(0o077)
    try:
        assert run(directory) == ExitCode.DONE
    finally:
        os.umask(old_umask)
    found = written(directory)
    assert found.keys() == SYSTEM_UNITS
    for name, text in found.items():
        shipped = (UNITS / name.removesuffix(".example")).read_text()
        assert text.startswith(shipped.replace("/usr/bin/unpd", str(PROGRAM)))
        assert (directory / name).stat().st_mode & 0o777 == 0o644
    assert (directory / "unpd.service.d").stat().st_mode & 0o777 == 0o755
    assert f"\nExecStart={PROGRAM} run --config /etc/unpd/unpd.toml\n" in found["unpd.service"]
    assert capsys.readouterr().out.splitlines() == [
        f"written: {path}" for path in sorted(directory / name for name in SYSTEM_UNITS)
    ]


def test_the_drop_ins_change_nothing_until_they_are_copied(directory: Path) -> None:
    """Only names that end in .conf are read by systemd. The drop-in that makes the
    service use the sockets names the program that runs, and every socket unit.
    """
    run(directory)
    drop_ins = directory / "unpd.service.d"
    assert not list(drop_ins.glob("*.conf"))
    text = (drop_ins / "socket-activation.conf.example").read_text()
    assert f"\nExecReload=+{PROGRAM} reload --config /etc/unpd/unpd.toml\n" in text
    sockets = {name for name in SYSTEM_UNITS if name.endswith(".socket")}
    (required,) = re.findall(r"^Requires=(.*)$", text, re.MULTILINE)
    assert set(required.split()) == sockets


def test_a_changed_example_stays(directory: Path) -> None:
    """The sentence names the file that systemd would read, which is never touched."""
    run(directory)
    example = directory / "unpd.service.d/programs.conf.example"
    in_use = example.with_suffix("")
    example.write_text("mine\n")
    in_use.write_text("in use\n")
    with pytest.raises(CannotCreateError, match="comes from elsewhere: keep it under another "):
        run(directory)
    assert run(directory, "--force") == ExitCode.DONE
    assert is_untouched(example.read_bytes())
    assert in_use.read_text() == "in use\n"


def test_the_unit_of_a_user(directory: Path) -> None:
    """It is one service, which needs no right of root."""
    assert run(directory, "--user") == ExitCode.DONE
    ((name, text),) = written(directory).items()
    assert name == "unpd.service"
    assert f"\nExecStart={PROGRAM} run --config %E/unpd/unpd.toml\n" in text
    assert "\nWantedBy=default.target\n" in text
    assert not re.search(r"^(User|Group|\w*Capabilit\w*|Protect\w+)=", text, re.MULTILINE)


def test_the_units_of_a_user_follow_those_of_the_system() -> None:
    """Each setting of the user's unit that the system's unit has too is the same, but
    for the configuration file, the target, and the calls of privileged processes.
    """
    own = set((UNITS / "user/unpd.service").read_text().splitlines())
    shipped = set((UNITS / "unpd.service").read_text().splitlines())
    other = {line for line in own - shipped if "=" in line and not line.startswith("#")}
    assert {line.partition("=")[0] for line in other} == {
        "ExecStart",
        "ExecReload",
        "WantedBy",
    }


def test_a_second_run_changes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so of each file."""
    run(directory, "--user")
    before = (directory / "unpd.service").stat()
    capsys.readouterr()
    assert run(directory, "--user") == ExitCode.DONE
    assert capsys.readouterr().out == f"unchanged: {directory}/unpd.service\n"
    assert (directory / "unpd.service").stat().st_ino == before.st_ino


def test_a_file_of_an_earlier_version_is_renewed(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checksum in it tells that nobody has changed it."""
    directory.mkdir(parents=True)
    (directory / "unpd.service").write_text(sealed("[Service]\nExecStart=/old/unpd run\n"))
    assert run(directory, "--user") == ExitCode.DONE
    assert capsys.readouterr().out == f"renewed: {directory}/unpd.service\n"
    assert str(PROGRAM) in (directory / "unpd.service").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "[Service]\n",
        "",
        sealed("[Service]\n").replace("[Service]", "[Service]\nNice=3"),
        sealed("[Service]\n") + "Nice=3\n",
        sealed("[Service]\n").rstrip("\n"),
    ],
    ids=["foreign", "empty", "changed", "longer", "cut"],
)
def test_a_changed_file_stays(directory: Path, text: str) -> None:
    """Nothing at all is written, and a sentence tells what to do, until --force."""
    directory.mkdir(parents=True)
    (directory / "unpd.service").write_text(text)
    with pytest.raises(CannotCreateError) as refusal:
        run(directory)
    assert str(refusal.value) == (
        f"{directory}/unpd.service was changed, or comes from elsewhere: move the changes to a"
        " drop-in (systemctl edit unpd.service), then replace the file with --force"
    )
    assert refusal.value.exit_code == ExitCode.CANNOT_CREATE
    assert written(directory) == {"unpd.service": text}
    assert run(directory, "--force") == ExitCode.DONE
    assert written(directory).keys() == SYSTEM_UNITS
    assert is_untouched((directory / "unpd.service").read_bytes())


def test_every_file_that_stays_is_named(directory: Path) -> None:
    """A sentence for each."""
    directory.mkdir(parents=True)
    for name in ("unpd.service", "unpd.socket"):
        (directory / name).write_text("mine\n")
    with pytest.raises(CannotCreateError, match=r"unpd\.service was .*\n.*unpd\.socket was "):
        run(directory)


@pytest.mark.parametrize("kind", ["mask", "directory", "dangling"])
def test_what_is_no_plain_file_stays(directory: Path, kind: str) -> None:
    """The link of systemctl mask is not replaced, not even with --force."""
    directory.mkdir(parents=True)
    place = directory / "unpd.service"
    if kind == "directory":
        place.mkdir()
    else:
        place.symlink_to("/dev/null" if kind == "mask" else "/nowhere")
    with pytest.raises(CannotCreateError, match=r"unpd\.service is no plain file; "):
        run(directory, "--force")
    assert [path.name for path in directory.iterdir()] == ["unpd.service"]


def test_a_dry_run_writes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what would be done, and refuses what would be refused."""
    assert run(directory, "--user", "--dry-run") == ExitCode.DONE
    assert capsys.readouterr().out == f"dry run, written: {directory}/unpd.service\n"
    assert not directory.exists()
    directory.mkdir(parents=True)
    (directory / "unpd.service").write_text("mine\n")
    with pytest.raises(CannotCreateError):
        run(directory, "--user", "--dry-run")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The sentence has the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreateError, match=r"cannot .* directory .*/file/units: "):
        run(tmp_path / "file/units")
    with pytest.raises(CannotCreateError, match=r"/file/unpd.*service cannot be read: |cannot "):
        run(tmp_path / "file")
    with pytest.raises(CannotCreateError, match="File name too long"):
        run(tmp_path / ("x" * 5000))


def test_a_file_that_cannot_be_written(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence has the reason, and nothing is left beside the file."""

    def full(_: int, __: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(CannotCreateError, match=r"cannot write .*: No space left on device"):
        run(directory, "--user")
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["/opt/with space/unpd", "/opt/50%/unpd", "/opt/$HOME/unpd", '/opt/"/unpd', "unpd"]
)
def test_a_path_that_systemd_would_misread(directory: Path, path: str) -> None:
    """Of the program: a specifier, a variable, a quote or a blank."""
    program = Installation(program=Path(path), parts=())
    for words in ((), ("--user",)):
        with pytest.raises(UnpdError, match="systemd gives a meaning to some characters"):
            run(directory, *words, installation=program)
    assert not directory.exists()


@pytest.mark.parametrize(
    "part",
    ["/root/.local/bin/unpd", "/home/a/b", "/var/tmp/bin/python", "/run/user/7/x"],  # noqa: S108 - names
)
def test_what_a_system_unit_does_not_see(directory: Path, part: str) -> None:
    """An installation with a part in the home of a user would not start; a unit of that
    user starts it.
    """
    hidden = Installation(program=PROGRAM, parts=(PROGRAM, Path(part)))
    with pytest.raises(UnpdError, match=f"^{part}: a system unit sees nothing in /"):
        run(directory, installation=hidden)
    assert not directory.exists()
    assert run(directory, "--user", installation=hidden) == ExitCode.DONE


def test_a_package_has_its_own_units(directory: Path) -> None:
    """They would be hidden by a second set in /etc."""
    packaged = Installation(program=Path("/usr/bin/unpd"), parts=(Path("/usr/lib/unpd/unpd"),))
    with pytest.raises(UnpdError, match="comes from a package"):
        run(directory, installation=packaged)
    assert run(directory, "--user", installation=packaged) == ExitCode.DONE


@pytest.mark.parametrize("configured", [True, False])
def test_where_the_unit_of_a_user_goes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    configured: bool,
) -> None:
    """Where systemd looks for it (systemd.unit(5)); the next steps are printed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x") if configured else "relative")
    assert install(asked("--user"), IN_OPT) == ExitCode.DONE
    place = tmp_path / ("x" if configured else ".config") / "systemd/user/unpd.service"
    assert place.exists()
    printed = capsys.readouterr().out
    assert printed.startswith(f"written: {place}\nnext:\n")
    assert "\n  systemctl --user enable --now unpd.service\n" in printed


def test_the_directory_of_the_system(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next steps create the user of the unit. Without the right to write there, the
    sentence names --user.
    """
    monkeypatch.setattr(install_units, "SYSTEM", directory)
    assert install(asked(), IN_OPT) == ExitCode.DONE
    account = "systemd-sysusers --inline 'u unpd - \"unpd small services\"'"
    assert f"\nnext:\n  {account}\n" in capsys.readouterr().out
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PrivilegeError, match=f"only root may write in {directory}; --user"):
        install(asked(), IN_OPT)


def test_the_program_that_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is the one that was called; of a module, the one beside the interpreter; and
    without one there is a sentence.
    """
    program = tmp_path / "unpd"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    found = install_units.this_installation()
    assert found.program == program
    assert found.parts == (
        program.resolve(),
        Path(sys.executable).resolve(),
        (ROOT / "unpd").resolve(),
    )
    monkeypatch.setattr(sys, "argv", [str(ROOT / "unpd/__main__.py")])
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert install_units.this_installation().program == program
    program.unlink()
    with pytest.raises(UnpdError, match="there is no program unpd beside "):
        install_units.this_installation()


def test_an_empty_path_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """It would mean the working directory."""
    with pytest.raises(SystemExit) as ended:
        asked("--directory", "")
    assert ended.value.code == ExitCode.USAGE
    assert "--directory: the path is empty" in capsys.readouterr().err
