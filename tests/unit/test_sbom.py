"""The list of the components that a package carries (packaging/sbom.py): what it says
of wheels that the test makes.
"""

import json
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.support import ROOT

SCRIPT = ROOT / "packaging/sbom.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The names of packaging/sbom.py."""
    return runpy.run_path(str(SCRIPT))


def wheel(directory: Path, metadata: str, name: str = "x-1-py3-none-any.whl") -> Path:
    """Write a wheel that holds nothing but its metadata."""
    directory.mkdir(exist_ok=True)
    made = directory / name
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", metadata)
        archive.writestr("x-1.dist-info/WHEEL", name)
    return made


@pytest.mark.parametrize(
    ("metadata", "kind", "text"),
    [
        ("License-Expression: MIT OR ISC\nLicense: MIT\n", "value", "MIT OR ISC"),
        ("License-Expression: MIT\n", "id", "MIT"),
        ("License: bsd-3-clause\n", "id", "BSD-3-Clause"),
        ("License: Mine\n        All mine.\n", "name", "Mine"),
        ("License: Mine\n        All mine.\nClassifier: License :: Yours\n", "name", "Yours"),
        ("License: © mine\n", "name", "© mine"),
        ("License: \nClassifier: License :: OSI Approved :: MIT License\n", "name", "MIT License"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: X\n", "name", "X"),
    ],
    ids=[
        "expression",
        "identifier",
        "case",
        "text",
        "text too",
        "beyond ASCII",
        "classifier",
        "unknown",
    ],
)
def test_the_licence_that_a_wheel_states(
    script: dict[str, Any], tmp_path: Path, metadata: str, kind: str, text: str
) -> None:
    """The expression comes first, then the older fields."""
    found = script["licence"](script["stated"]([wheel(tmp_path, metadata)]))
    assert getattr(found, kind) == text


def test_a_wheel_without_a_licence_ends_the_build(script: dict[str, Any], tmp_path: Path) -> None:
    """So do two wheels of a library that state different ones."""
    with pytest.raises(SystemExit, match=r"^x-1-.*: no licence, or several: \[''\]$"):
        script["stated"]([wheel(tmp_path, "Name: x\n")])
    others = [wheel(tmp_path / name, f"License: {name}\n") for name in ("MIT", "ISC")]
    with pytest.raises(SystemExit, match=r"several: \['ISC', 'MIT'\]$"):
        script["stated"](others)


def test_the_list_is_cyclonedx(tmp_path: Path) -> None:
    """The strict schema of its version has no complaint. A library has no hash of its
    own; each of its wheels is a file below it and has one.
    """
    names = [f"x-1-{tag}-manylinux_2_17_x86_64.whl" for tag in ("cp311-cp311", "cp312-cp312")]
    for name in names:
        wheel(tmp_path / "wheels", "License: MIT\n", name)
    command = [sys.executable, str(SCRIPT), "7.1", "1700000000", str(tmp_path / "wheels")]
    first, second = (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2)
    )
    assert first == second
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(first) is None
    assert validator.validate_str(first.replace('"SHA-256"', '"SHA-2"', 1)) is not None
    (library,) = json.loads(first)["components"]
    assert (library["type"], library["licenses"]) == ("library", [{"license": {"id": "MIT"}}])
    assert "hashes" not in library
    assert [file["name"] for file in library["components"]] == names
    for file in library["components"]:
        assert file["type"] == "file"
        assert [each["alg"] for each in file["hashes"]] == ["SHA-256"]
