"""The processor time that the benchmark counts, with real processes."""

import os
import subprocess
import sys

import pytest

from tests.benchmarks.accounts import snapshot
from tests.benchmarks.machine import Cpus

CPUS = Cpus(server=0, load=1)


def test_what_a_server_uses_is_counted_with_all_below_it() -> None:
    """A server's processor time includes its children, living or reaped, and matches
    what they measure themselves.
    """
    before = snapshot(CPUS, os.getpid())
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    with subprocess.Popen(
        [sys.executable, "-c", f"{burn}\nprint(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as living:
        assert living.stdout is not None
        living.stdout.readline()
        used = snapshot(CPUS, os.getpid()).used - before.used
        living.communicate(b"\n")
    assert 0.55 < used.total_s < 1.5
    assert used.user_s + used.system_s == pytest.approx(used.total_s)
