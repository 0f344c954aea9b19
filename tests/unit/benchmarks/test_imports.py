"""What the benchmark imports: `make bench` installs no tool of the tests."""

import subprocess
import sys

from tests.support import ROOT

WITHOUT_THE_TOOLS = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pytest", "hypothesis", "uvloop"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import tests.benchmarks.__main__
"""


def test_the_benchmark_needs_no_tool_of_the_tests() -> None:
    """Its virtual environment has unpd and uvloop, which only a peer imports."""
    subprocess.run([sys.executable, "-c", WITHOUT_THE_TOOLS], cwd=ROOT, check=True)
