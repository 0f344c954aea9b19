"""When the administrator's directory of packages is on the import path."""

import importlib.util
import sys
from pathlib import Path

import pytest

from unpd.config.packages import DIRECTORY, places
from unpd.config.service_types import Known, known_types, service_type

GOOD = """
from unpd.services.base import Options, ServiceType
class Own:
    def __init__(self, options): pass
    def greet(self, wall_s): return b"own"
    def converse(self): return None
ROW = ServiceType(name="{name}", rfc=None, port=0, stream=True, datagram=False, options=Options,
                  make=Own)
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the launcher names. The import path of this process is as
    before after the test.
    """
    monkeypatch.setenv(DIRECTORY, str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def package(directory: Path, name: str, module: str) -> None:
    """Lay out an installed package with a service type, and a module of another."""
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[unpd.services]\n{name} = {name}:ROW\n")
    (directory / f"{name}.py").write_text(module)
    (directory / f"beside_{name}.py").write_text("")


def known(name: str) -> Known:
    """What the list of types says about one, which it has loaded."""
    return next(each for each in known_types() if each.name == name)


def is_importable(directory: Path, name: str) -> bool:
    """Whether an import finds the module beside the package of that name."""
    found = importlib.util.find_spec(f"beside_{name}")
    assert (found is not None) == (str(directory) in sys.path)
    return found is not None


def test_a_search_makes_nothing_importable(directory: Path) -> None:
    """A misspelled type, in a reload that is refused, leaves nothing there importable
    for the rest of the life of the master, which may be root.
    """
    package(directory, "searched", GOOD.format(name="searched"))
    for name in ("serched", "no_such_type"):
        with pytest.raises(LookupError):
            service_type(name)
    assert not is_importable(directory, "searched")


def test_a_type_that_is_loaded_makes_its_directory_importable(directory: Path) -> None:
    """The package may import what it needs later, too."""
    package(directory, "loaded", GOOD.format(name="loaded"))
    assert not known("loaded").fault
    assert is_importable(directory, "loaded")


def test_a_type_of_another_place_opens_no_directory(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What lies on the path of Python needs no other directory."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    package(elsewhere, "elsewhere", GOOD.format(name="elsewhere"))
    package(directory, "unneeded", GOOD.format(name="unneeded"))
    sys.path.insert(0, str(elsewhere))
    assert service_type("elsewhere").name == "elsewhere"
    assert not is_importable(directory, "unneeded")


@pytest.mark.parametrize(
    ("name", "module"),
    [("raises", "raise LookupError"), ("exits", "raise SystemExit"), ("empty", "ROW = 7")],
)
def test_a_type_that_cannot_be_loaded_leaves_the_path_as_it_was(
    directory: Path, name: str, module: str
) -> None:
    """Whether its module fails, or has no service type."""
    package(directory, name, module)
    assert known(name).fault
    assert not is_importable(directory, name)


def test_a_type_that_cannot_be_loaded_takes_no_directory_from_another(directory: Path) -> None:
    """What was loaded before goes on with its directory."""
    package(directory, "first", GOOD.format(name="first"))
    assert not known("first").fault
    package(directory, "second", "raise LookupError")
    assert known("second").fault
    assert is_importable(directory, "first")


def test_a_search_looks_in_the_directory_last(directory: Path) -> None:
    """Once, whether it is on the path of Python or not: a package there hides none."""
    assert places()[-1] == str(directory)
    sys.path.append(str(directory))
    assert places().count(str(directory)) == 1
