"""Reads the files that the options of services name, such as one with quotations.

Their content goes to clients, so a file that other users can change is no danger to
unpd, and is not refused.

Owns the contents of one load. Made by unpd.config.build, called by the models of the
service types, which open no file themselves. Calls unpd.config.source. Raises
ValueError with one sentence, which pydantic collects.
"""

from pathlib import Path

from unpd.config.addresses import refuse_path
from unpd.config.source import read_bounded, reason
from unpd.config.wording import file_shown


class NamedFiles:
    """Reads each file once, so that all options of one load see the same content."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def __call__(self, path: str, max_bytes: int) -> bytes:
        """The content of the regular file at ``path``. ValueError if it cannot be read,
        or has more than ``max_bytes``.
        """
        if path not in self._contents:
            self._contents[path] = _read(path, max_bytes)
        return self._contents[path]


def _read(path: str, max_bytes: int) -> bytes:
    refuse_path(path)
    shown = file_shown(Path(path))
    try:
        content, status = read_bounded(Path(path), max_bytes)
    except OSError as error:
        raise ValueError(f"{shown}: {reason(error)}") from None
    if len(content) > max_bytes:
        size = max(len(content), status.st_size)
        raise ValueError(f"{shown} has {size} bytes, but may have at most {max_bytes}")
    return content
