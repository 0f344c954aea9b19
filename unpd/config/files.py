"""Reads the files that the configuration names: those of options, such as one with
quotations, and lists of access rules.

The content of the former goes to clients, and lines of the latter to whoever reads the
messages. So root reads them with the rights of daemon.user: the owner of a directory
could replace one by a link to a file of root's. A file of an option that other users
can change is no danger to unpd itself, and is not refused. A list is refused if every
user can change it.

Owns the contents of one load. Made by unpd.config.build, called by the models of the
service types, which open no file themselves, and by unpd.config.access_lists. Calls
unpd.config.source and unpd.kernel.privileges. Raises ValueError with one sentence,
which pydantic collects.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from unpd.config.addresses import refuse_path
from unpd.config.source import read_bounded, reason, world_writable
from unpd.config.wording import file_shown
from unpd.kernel.privileges import Identity, file_rights_of, user_name

Parsed = TypeVar("Parsed")
Parse = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of files. ``noun``: the files, in messages. ``max_bytes``: how many bytes
    they may have, together: a load has to be short (see unpd.config.source), and each
    worker keeps the content. ``advice``: why root's own rights do not count.
    ``decides``: whether one decides about clients, so that not every user may change
    it.
    """

    noun: str
    max_bytes: int
    advice: str
    decides: bool = False


OF_OPTIONS = FileKind(
    "the files of options",
    2 << 20,
    " (its content goes to clients, so the rights of daemon.user count)",
)
LISTS = FileKind(
    "the list files", 8 << 20, " (the rights of daemon.user count, not those of root)", decides=True
)


class NamedFiles:
    """Reads and parses each file once, so that all options of one load see the same
    content, and no number of services makes a load long. ``reader``: looks up the user
    with whose rights to read them, None for those of this process; KeyError if there is
    no such user.
    """

    def __init__(self, reader: Callable[[], Identity | None], kind: FileKind = OF_OPTIONS) -> None:
        self._reader = reader
        self._kind = kind
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
        content = self._content(path, max_bytes)
        self._size_bytes += len(content)
        if self._size_bytes > self._kind.max_bytes:
            raise ValueError(
                f"{self._kind.noun} up to this one have {self._size_bytes} bytes, but may have at"
                f" most {self._kind.max_bytes} together"
            )
        return content

    def _content(self, path: str, max_bytes: int) -> bytes:
        refuse_path(path)
        shown = file_shown(Path(path))
        try:
            reader = self._reader()
        except (KeyError, UnicodeEncodeError):  # the latter: the locale lacks a character
            raise ValueError(f"{shown}: daemon.user or daemon.group does not exist") from None
        try:
            with file_rights_of(reader) if reader else nullcontext():
                content, status = read_bounded(Path(path), max_bytes)
        except OSError as error:
            user = reader.user if reader else user_name(os.geteuid())
            advice = self._kind.advice if reader and isinstance(error, PermissionError) else ""
            raise ValueError(f"{shown}: {reason(error, user)}{advice}") from None
        if self._kind.decides and (objections := world_writable(status.st_mode)):
            raise ValueError(f"{shown}: {objections[0]}")
        if len(content) > max_bytes:
            size = max(len(content), status.st_size)
            raise ValueError(f"{shown} has {size} bytes, but may have at most {max_bytes}")
        return content
