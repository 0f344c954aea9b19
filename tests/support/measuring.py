"""Runs a part of the benchmark as that itself runs: in a network namespace of its
own, where no other test takes its ports.
"""

import json
import subprocess
import sys

from tests.support import ROOT

MEASURE = """
import json, sys
from tests.benchmarks import access, balancing, build, network, turns

network.enter()
print(json.dumps(eval(sys.argv[1])))
"""


def measured(part: str) -> dict[str, float]:
    """The figures that the expression ``part`` measures."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, part], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
