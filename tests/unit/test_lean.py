"""Imports without what is not ours."""

import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests.support import ROOT
from unpd import lean

NOT_OURS = {"_hashlib", "_ssl", "email", "http.client", "http.server", "importlib.metadata", "ssl", "urllib.request", "wsgiref.simple_server", "zipfile"}


def in_another_interpreter(code: str, python_path: str = str(ROOT)) -> str:
    """What the code prints there."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30, cwd=ROOT, env={**os.environ, "PYTHONPATH": python_path}
    ).stdout


def test_the_daemon_imports_nothing_that_it_does_not_use() -> None:
    """What libraries bring for other uses is not in the processes of the daemon."""
    loaded = json.loads(in_another_interpreter("import json, sys, unpd.cli.commands, unpd.config.load, unpd.master.boot; print(json.dumps(list(sys.modules)))"))
    assert {"pydantic", "prometheus_client", "hashlib", "unpd.metrics.prometheus"} <= set(loaded)
    kept: set[str] = set() if lean.without_openssl() else {"_hashlib"}  # as in RHEL's Python, which has no hash functions of its own
    assert not (NOT_OURS - kept) & set(loaded)


def test_hashes_are_the_same_without_openssl() -> None:
    """The interpreter's own functions give what OpenSSL's give."""
    digests = json.loads(
        in_another_interpreter(
            "import json, unpd.config.load, sys, hashlib; print(json.dumps({name: hashlib.new(name, b'x').hexdigest() for name in ('md5', 'sha1', 'sha256', 'sha3_256')}))"
        )
    )
    assert digests == {name: hashlib.new(name, b"x").hexdigest() for name in digests}


def test_openssl_stays_where_the_interpreter_has_not_all_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hash function of its own (as in RHEL's Python) hashlib would complain on standard error."""
    monkeypatch.setattr(lean, "_OWN_HASHES", ("_md5", "_there_is_no_such_hash"))
    assert not lean.without_openssl()


def test_no_plugin_that_lies_on_the_path_is_loaded(tmp_path: Path) -> None:
    """A package that says of itself that it plugs into pydantic is not even imported by a daemon that starts as root."""
    (tmp_path / "intruder.py").write_text("print('loaded')\n\nclass plugin:\n    new_schema_validator = staticmethod(lambda *_, **__: (None, None, None))\n")
    about = tmp_path / "intruder-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pydantic]\nintruder = intruder:plugin\n")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    assert "loaded" in in_another_interpreter("import pydantic; pydantic.create_model('Any')", path), "the intruder does not work"
    assert not in_another_interpreter("import unpd.config.load", path)


def test_what_is_replaced_comes_back_and_what_is_there_stays() -> None:
    """Also after a failed import."""
    there = sys.modules["json"]
    with (
        contextlib.suppress(ZeroDivisionError),
        lean.replaced({"json": types.ModuleType("json"), "unpd_stand_in": lean.StandIn("unpd_stand_in"), "unpd_absent": None}),
    ):
        assert sys.modules["json"] is there
        anything = importlib.import_module("unpd_stand_in").anything
        assert isinstance(type("Sub", (anything,), {}), type)
        assert anything(group="x") == ()
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("unpd_absent")
        raise ZeroDivisionError
    assert sys.modules["json"] is there
    assert "unpd_stand_in" not in sys.modules
    assert "unpd_absent" not in sys.modules
