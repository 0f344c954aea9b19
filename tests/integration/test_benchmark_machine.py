"""The description of the tree on a results page, with a real git."""

import subprocess
from pathlib import Path

from tests.benchmarks.machine import Cpus, commit, facts


def git(tree: Path, *words: str) -> None:
    """Run git in ``tree``."""
    subprocess.run(
        ["git", "-C", str(tree), "-c", "user.name=n", "-c", "user.email=e", *words],
        check=True,
        capture_output=True,
    )


def test_an_earlier_results_page_does_not_make_the_tree_dirty(tmp_path: Path) -> None:
    """Two runs in one tree name the same commit. Any other change marks it as dirty."""
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
    """A tree without a history, such as an unpacked archive, has an unknown commit."""
    assert commit(tmp_path) == "commit unknown"


def test_the_page_names_both_processors() -> None:
    """The page names the processors of server and load, whether or not they share a
    core.
    """
    used = facts(Cpus(server=0, load=1), "cubic", versions=False)["used"]
    assert used.startswith("CPU 0 for the server, CPU 1 for the load; ")
    assert used.endswith("of one core")
