"""The search for a second Python, with which .ci/run repeats the default tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.parametrize("there", [True, False])
def test_a_second_python_is_found_or_missed(tmp_path: Path, there: bool) -> None:
    """Its path is printed. Without one the search fails with one sentence, so that the
    Python that runs does not take its place.
    """
    version = "3.12" if sys.version_info[:2] != (3, 12) else "3.13"
    program = tmp_path / f"python{version}"
    if there:
        program.write_text(f"#!/bin/sh\necho {version} {program}\n")
        program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.pythons"],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    if there:
        assert (done.returncode, done.stdout) == (0, f"{program}\n")
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("The default tests have to run with a second Python, and ")
        assert done.stderr.count("\n") == 1
