"""What a page says of the machine and of the tree."""

import subprocess
from pathlib import Path

from tests.benchmarks.machine import commit


def git(tree: Path, *words: str) -> None:
    """Run git there, as somebody."""
    subprocess.run(
        ["git", "-C", str(tree), "-c", "user.name=n", "-c", "user.email=e", *words],
        check=True,
        capture_output=True,
    )


def test_the_page_of_an_earlier_run_makes_no_tree_dirty(tmp_path: Path) -> None:
    """Two runs in one tree measure the same; any other change of it is told."""
    page, program = tmp_path / "tests/benchmarks/RESULTS.md", tmp_path / "program.py"
    page.parent.mkdir(parents=True)
    page.write_text("")
    program.write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = commit(tmp_path)
    page.write_text("written by a run")
    assert commit(tmp_path) == clean
    program.write_text("changed")
    assert commit(tmp_path) == f"{clean}-dirty"


def test_a_tree_without_a_history_has_no_commit(tmp_path: Path) -> None:
    """As an unpacked source archive has."""
    assert commit(tmp_path) == "commit unknown"
