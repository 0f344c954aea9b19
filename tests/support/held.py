"""A service whose processes become ready when a test lets them. Until then a start, or
the proof of a reload, lasts.
"""

from pathlib import Path

MODULE = """
import os, time
while not os.path.exists({go!r}):
    time.sleep(0.01)
def serve(sock):
    pass
"""
TABLE = """
[services.held]
type = "python"
listen = ["tcp://127.0.0.1:0"]
path = ["{path}"]
handler = "held:serve"
"""


class HeldService:
    """The service. ``text``: its table of a configuration."""

    def __init__(self, directory: Path) -> None:
        """``directory``: one that every user can read."""
        self._go = directory / "go"
        (directory / "held.py").write_text(MODULE.format(go=str(self._go)))
        self.text = TABLE.format(path=directory)

    def let_go(self) -> None:
        """Let its processes become ready."""
        self._go.touch()

    def hold(self) -> None:
        """Hold those that start from now on."""
        self._go.unlink()
