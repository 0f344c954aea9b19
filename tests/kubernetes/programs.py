"""The programs of the cluster: each runs with a log of its own in build/kubernetes, and
all end together. Called by the modules that start the control plane and the nodes.
"""

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import ROOT

LOGS = ROOT / "build/kubernetes"


class Programs:
    """The running programs. ``directory`` has those of Kubernetes, ``config`` is the
    kubeconfig by which they find the API server.
    """

    def __init__(self, directory: Path, config: Path) -> None:
        self.directory = directory
        self.config = config
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        LOGS.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, *command: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a program, with ``name`` for its log."""
        path = self.directory / command[0]
        program = str(path) if path.exists() else command[0]
        with (LOGS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*prefix, program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes[name] = process
        return process

    def said(self) -> str:
        """The end of each log."""
        logs = sorted(LOGS.glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in logs)

    def close(self) -> None:
        """End every program. The containers end with the namespace of processes."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
