"""Imports without what is not ours."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from unpd import lean

NOT_OURS = {
    "_hashlib",
    "_ssl",
    "bz2",
    "daemon",
    "email",
    "gzip",
    "hashlib",
    "http.client",
    "http.server",
    "importlib.metadata",
    "random",
    "shutil",
    "socketserver",
    "ssl",
    "tempfile",
    "urllib.request",
    "wsgiref.simple_server",
    "zipfile",
}


def in_another_interpreter(code: str, python_path: str = str(ROOT)) -> str:
    """What the code prints there."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": python_path},
    ).stdout


def test_the_daemon_imports_nothing_that_it_does_not_use() -> None:
    """What libraries bring for other uses is not in the processes of the daemon."""
    loaded = json.loads(
        in_another_interpreter(
            "import json, sys, unpd.cli.commands, unpd.config.load, unpd.master.boot;"
            " print(json.dumps(list(sys.modules)))"
        )
    )
    assert {"pydantic", "prometheus_client", "unpd.metrics.prometheus"} <= set(loaded)
    assert sorted(NOT_OURS & set(loaded)) == []


def test_no_plugin_that_lies_on_the_path_is_loaded(tmp_path: Path) -> None:
    """A package that says of itself that it plugs into pydantic is not even imported by
    a daemon that starts as root.
    """
    (tmp_path / "intruder.py").write_text(
        "print('loaded')\n\nclass plugin:\n    new_schema_validator = staticmethod(lambda *_, **__:"
        " (None, None, None))\n"
    )
    about = tmp_path / "intruder-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nintruder = intruder:plugin\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    assert "loaded" in in_another_interpreter(
        "import pydantic; pydantic.create_model('Any')", path
    ), "the intruder does not work"
    assert not in_another_interpreter("import unpd.config.load", path)


def test_what_is_replaced_comes_back_and_what_is_there_stays() -> None:
    """Also after a failed import."""
    there = sys.modules["json"]
    with contextlib.suppress(ZeroDivisionError), lean.replaced("json", "unpd_stand_in"):
        assert sys.modules["json"] is there
        anything = importlib.import_module("unpd_stand_in").anything
        assert isinstance(type("Sub", (anything,), {}), type)
        assert anything(group="x") == ()
        raise ZeroDivisionError
    assert sys.modules["json"] is there
    assert "unpd_stand_in" not in sys.modules
