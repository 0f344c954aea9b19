"""What proc(5) says of processes, where it can be read and where not."""

import os
import subprocess
import sys

from unpd.kernel import procfs

WITHOUT_DESCRIPTORS = """
import os, resource
from unpd.kernel import procfs
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit))
print(procfs.possible_children(os.getpid()), procfs.living_children(0))
"""


def test_without_a_descriptor_no_child_is_seen() -> None:
    """Nor does anything raise: the master asks while clients hold all descriptors."""
    assert procfs.possible_children(os.getpid()) is not None
    ended = subprocess.run(
        (sys.executable, "-c", WITHOUT_DESCRIPTORS), capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("None []\n", "")
