"""Namespaces as good as a machine of their own: for the network, mounts and processes.
All processes in them end with them. The tests of the section "UNP in unpd" and of the
container engines use it.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import faults, procs
from tests.support.waiting import until

END_S = 30.0


@dataclass(frozen=True, slots=True)
class Apart:
    """The namespaces of the process ``init``, which is process 1 there and reaps
    orphans.
    """

    init: int

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command prefix that runs a program there."""
        return ("nsenter", "--target", str(self.init), "--net", "--mount", "--pid")

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Put this process into their network for the length of the block. Sockets made
        there stay there.
        """
        with faults.network_of(Path(f"/proc/{self.init}/ns/net")):
            yield


@contextlib.contextmanager
def apart(prepare: str) -> Iterator[Apart]:
    """Make the namespaces, with loopback up, and run the line of the shell ``prepare``
    there; end all processes in them afterwards.
    """
    start = f"{prepare} && ip link set lo up && echo up && cat; exit"
    others = procs.child_pids(os.getpid())
    flags = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    with subprocess.Popen(
        ["unshare", *flags, "bash", "-c", start],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as unshare:
        assert unshare.stdout is not None
        assert unshare.stdin is not None
        try:
            assert unshare.stdout.readline() == "up\n"
            (init,) = procs.child_pids(unshare.pid)
            yield Apart(init)
        finally:
            unshare.stdin.close()  # process 1 ends, and the kernel ends the others
            until(lambda: _gone(unshare, others), END_S, "the end of the namespaces")


def _gone(unshare: "subprocess.Popen[str]", others: set[int]) -> bool:
    """Whether the namespaces have ended. They wait for their dead processes, of which
    this process has adopted some if a test failed.
    """
    for pid in procs.child_pids(os.getpid()) - others - {unshare.pid}:
        procs.reap(pid)
    return unshare.poll() is not None
