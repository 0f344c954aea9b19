"""Reads the files that the options of services name, such as one with quotations.

Their content goes to clients, so a file that other users can change is no danger to
unpd, and is not refused.

Owns the contents of one load. Made by unpd.config.build, called by the models of the
service types, which open no file themselves. Calls unpd.config.source. Raises
ValueError with one sentence, which pydantic collects.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from unpd.config.addresses import refuse_path
from unpd.config.source import read_bounded, reason
from unpd.config.wording import file_shown

Parsed = TypeVar("Parsed")
Parse = Callable[[bytes], Any]

MAX_BYTES = 2 << 20
"""How many bytes all files that options name may have, together: a load has to be short
(see unpd.config.source), and each worker keeps the content.
"""


class NamedFiles:
    """Reads and parses each file once, so that all options of one load see the same
    content, and no number of services makes a load long.
    """

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._parsed: dict[tuple[str, Parse], Any] = {}
        self._size_bytes = 0

    def __call__(self, path: str, max_bytes: int, parse: Callable[[bytes], Parsed]) -> Parsed:
        """What ``parse`` makes of the regular file at ``path``. ValueError if the file
        cannot be read, has more than ``max_bytes``, or is too much together with the
        others; or from ``parse``.
        """
        try:
            known = self._parsed[path, parse]
        except KeyError:
            known = self._parsed[path, parse] = self._outcome(path, max_bytes, parse)
        if isinstance(known, ValueError):
            raise known
        outcome: Parsed = known
        return outcome

    def _outcome(self, path: str, max_bytes: int, parse: Parse) -> Any:
        try:
            if path not in self._contents:
                self._contents[path] = self._read(path, max_bytes)
            return parse(self._contents[path])
        except ValueError as refusal:
            return refusal

    def _read(self, path: str, max_bytes: int) -> bytes:
        content = _read(path, max_bytes)
        self._size_bytes += len(content)
        if self._size_bytes > MAX_BYTES:
            raise ValueError(
                f"the files of options up to this one have {self._size_bytes} bytes, but may have"
                f" at most {MAX_BYTES} together"
            )
        return content


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
