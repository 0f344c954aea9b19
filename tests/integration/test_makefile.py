"""The Makefile: what a newcomer gets from it without reading it."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_make_alone_prints_its_help() -> None:
    """``make`` without a target starts nothing: it prints the targets."""
    done = subprocess.run(
        ("make", "--no-print-directory"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    shown = done.stdout
    assert "  make run        serves in the foreground" in shown
    assert shown.rstrip().endswith("the build of a package.")
    assert "#" not in shown
