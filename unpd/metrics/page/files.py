"""The files of the status page that are the same for every daemon: style and script.

The master reads them before its first fork, as it imports the modules: an upgrade of
the package under a running daemon must not mix versions. Raises nothing: a file that
cannot be read is empty, and the page works without style and script. No daemon has to
stop for it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The content of the files."""

    css: bytes
    js: bytes

    @classmethod
    def read(cls, directory: Path | None = None) -> Self:
        """Read them from where this module stands, or from another directory."""
        here = directory or Path(__file__).parent
        return cls(css=_content(here / "page.css"), js=_content(here / "page.js"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
