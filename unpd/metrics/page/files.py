"""The files of the status page that are the same for every daemon: style and script.

The master reads them before its first fork, as it imports the modules: an upgrade of
the package under a running daemon must not mix versions. Errors: OSError if one is not
there, which is a fault of the package.
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
    def read(cls) -> Self:
        """Read them from where this module stands."""
        here = Path(__file__).parent
        return cls(css=(here / "page.css").read_bytes(), js=(here / "page.js").read_bytes())
