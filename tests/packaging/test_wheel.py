"""The wheel and the sdist: an index would take them, and pip, pipx and uv install them
into an environment of their own, from which the daemon serves.

The installations need a package index, the one that pip is configured for.
``packaging/test-wheel`` runs the default tests against the wheel.
"""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT, clients
from tests.support.launch import Launch
from unpd import __version__

pytestmark = pytest.mark.packaging

ECHO = """
[services.echo]
listen = ["tcp://127.0.0.1:0"]
"""


def run(*command: str | Path, **environment: str) -> str:
    """Run a program without the variables that lead Python to this tree; return what it
    prints. AssertionError, with its error output too, if it fails.
    """
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env={**clean, **environment},
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def tool(name: str) -> Path:
    """A program of the environment that runs the tests."""
    return Path(sys.executable).with_name(name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel and the sdist."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    return built / f"unpd-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    """The sdist."""
    return built / f"unpd-{__version__}.tar.gz"


def test_an_index_would_take_them(wheel: Path, sdist: Path) -> None:
    """No complaint comes from twine, not even a warning."""
    printed = run(tool("twine"), "check", "--strict", wheel, sdist)
    assert printed.count("PASSED") == 2


def in_tree(*suffixes: str) -> set[str]:
    """The files of the program with these suffixes, as the tree has them."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "unpd").rglob("*")
        if path.is_file() and path.suffix in suffixes
    }


def test_the_program_is_all_there(wheel: Path, sdist: Path) -> None:
    """Both have every module, every unit, and what the status page needs. The wheel has
    nothing else beside its metadata; the sdist has the tests too.
    """
    needed = in_tree(".py", ".css", ".js", ".service", ".socket", ".conf", ".sysusers", ".typed")
    with zipfile.ZipFile(wheel) as archive:
        named = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert needed <= named
    assert {name.split("/")[0] for name in named} == {"unpd"}
    with tarfile.open(sdist) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    assert needed | {"tests/packaging/test_wheel.py", "README.md", "Makefile"} <= packed


def by_pip(package: Path, home: Path) -> Path:
    """Install with pip into a new virtual environment."""
    venv.create(home / "environment", with_pip=True)
    python = home / "environment/bin/python"
    run(python, "-m", "pip", "--quiet", "install", package)
    return python.with_name("unpd")


def by_pipx(package: Path, home: Path) -> Path:
    """Install with pipx."""
    places = {"PIPX_HOME": str(home / "pipx"), "PIPX_BIN_DIR": str(home / "bin")}
    run(tool("pipx"), "install", "--python", sys.executable, package, **places)
    return home / "bin/unpd"


def by_uv(package: Path, home: Path) -> Path:
    """Install with uv."""
    places = {
        "UV_TOOL_DIR": str(home / "uv"),
        "UV_TOOL_BIN_DIR": str(home / "bin"),
        "UV_CACHE_DIR": str(home / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    run(tool("uv"), "tool", "install", "--quiet", "--python", sys.executable, package, **places)
    return home / "bin/unpd"


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"], ids=["wheel", "sdist"])
@pytest.mark.parametrize("installer", [by_pip, by_pipx, by_uv])
def test_it_serves_where_it_is_installed(
    launch: Launch,
    built: Path,
    tmp_path: Path,
    installer: Callable[[Path, Path], Path],
    kind: str,
) -> None:
    """The program tells its version, checks a configuration, and serves. Its units are
    there, with its own path.
    """
    (package,) = built.glob(kind)
    program = installer(package, tmp_path)
    assert run(program, "--version") == f"unpd {__version__}\n"
    unpd = launch(ECHO, command=(str(program),), env={"PYTHONPATH": None})
    assert clients.converse(unpd.address("echo"), b"hello") == b"hello"
    assert unpd.stop() == 0
    run(program, "install-units", "--user", "--directory", tmp_path / "units")
    assert f"ExecStart={program} run " in (tmp_path / "units/unpd.service").read_text()
