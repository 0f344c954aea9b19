"""Runs commands of unpd to their end, for tests that have no daemon, or one that is not
theirs. The fixture ``run_unpd`` in conftest provides it. A fork of the server runs the
command: see :mod:`tests.support.fork_server` for what is different then.
"""

import os
import subprocess
from pathlib import Path

from tests.support import ROOT
from tests.support.fork_server import ForkServer


class RunUnpd:
    """Runs commands of unpd."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def __call__(
        self, *words: str, packages: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``unpd WORDS``. ``packages``: a directory with more packages, in which it
        runs then.
        """
        path = f"{ROOT}:{packages}" if packages else str(ROOT)
        environment = {**os.environ, "PYTHONPATH": path}
        ended = self._server.run(words, packages or ROOT, environment)
        texts = ended.stdout.decode(), ended.stderr.decode()
        return subprocess.CompletedProcess(words, ended.returncode, *texts)
