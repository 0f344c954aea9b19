"""Imports without what is not ours."""

import contextlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from unpd import libraries

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


def in_another_interpreter(
    code: str, python_path: str = str(ROOT), arguments: tuple[str, ...] = ()
) -> str:
    """What the code prints there."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": python_path},
    ).stdout


def test_the_daemon_imports_nothing_that_it_does_not_use() -> None:
    """What libraries bring for other uses is not in the processes of the daemon."""
    loaded = json.loads(
        in_another_interpreter(
            "import json, sys, unpd.cli.commands, unpd.config.load, unpd.master.boot;"
            " print(json.dumps(list(sys.modules)))"
        )
    )
    assert {"pydantic", "prometheus_client", "unpd.libraries"} <= set(loaded)
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
    with contextlib.suppress(ZeroDivisionError), libraries.left_out("json", "unpd_stand_in"):
        assert sys.modules["json"] is there
        anything = importlib.import_module("unpd_stand_in").anything
        assert isinstance(type("Sub", (anything,), {}), type)
        with pytest.raises(libraries.LeftOutError, match=r"unpd_stand_in\.anything"):
            anything(group="x")
        raise ZeroDivisionError
    assert sys.modules["json"] is there
    assert "unpd_stand_in" not in sys.modules


def test_the_libraries_work_as_with_the_real_modules() -> None:
    """An error of pydantic and a page of prometheus_client are the same to the byte,
    whether the modules that we leave out are real or not.
    """
    code = """
import sys
if "real" in sys.argv:
    import gzip, http.server, importlib.metadata, secrets, socketserver, ssl, urllib.request
    import wsgiref.simple_server
from unpd.libraries import *
class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    number: int = Field(1, ge=1)
try:
    Model(number=0, other=2)
except ValidationError as error:
    print([(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors()])
print(Model(number=3).model_dump_json(), Model.model_json_schema())
class Some(Collector):
    def collect(self):
        family = HistogramMetricFamily("a", "b", labels=["c"])
        family.add_metric(["d"], buckets=[(floatToGoString(1.0), 1), ("+Inf", 2)], sum_value=3)
        yield family
        counter = CounterMetricFamily("e", "f")
        counter.add_metric([], 5)
        yield counter
        yield InfoMetricFamily("h", "i", value={"j": "k"})
registry = CollectorRegistry(auto_describe=False)
registry.register(Some())
for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
    encode, content_type = choose_encoder(accept)
    print(content_type, encode(registry).decode())
print("ssl" in sys.modules, "secrets" in sys.modules)
"""
    ours = in_another_interpreter(code)
    real = in_another_interpreter(code, arguments=("real",))
    assert ours.endswith("False False\n")
    assert real.endswith("True True\n")
    assert ours.removesuffix("False False\n") == real.removesuffix("True True\n")
    assert "greater_than_equal" in ours
    assert 'a_bucket{c="d",le="1.0"} 1.0' in ours
