"""Reads and compiles the lists of access rules of one load: ``allow``, ``deny``,
``never_deny`` and ``proxy_protocol``.

An entry "file:/etc/unpd/deny.list" stands for the entries of that file, one a line.
Each file is read once in a load, and by a reload again. A bad entry is an error with
its line, also that of a list file. The bounds keep a load short (unpd.config.source):
all lists within them take about a second.

Owns the lists of one load. Made by unpd.config.build as the context of a validation,
called by the validators of unpd.config.access. Calls unpd.access.rules, and
unpd.config.files to read. Raises :class:`ItemErrors`, a ValueError.

Known gap: "uid:NAME" and "gid:NAME" ask the user database, also in a reload. One on the
network may make the master wait.
"""

import grp
import operator
import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unpd.access.accounts import Accounts
from unpd.access.rules import NOWHERE, BadEntries, Entry, Origin, Rules, entries_of
from unpd.config.files import NamedFiles
from unpd.config.lines import KeyPath
from unpd.config.origins import Place
from unpd.config.section import ItemErrors
from unpd.config.wording import file_shown
from unpd.libraries import ValidationInfo

FILE = "file:"
MAX_FILE_ENTRIES = 100_000
MAX_FILE_BYTES = 4 << 20
MAX_ENTRIES = 200_000
"""How many entries all lists may have, together."""
MAX_ACCOUNTS = 1000
"""How many users and groups all lists may name: each is looked up."""
MAX_FAULTS = 10
"""How many bad lines of a list file are reported."""
ENTRIES = (
    'a list of addresses, networks, "all", "private", "loopback", "unix", "uid:NAME", "gid:NAME" or'
    ' "file:/PATH"'
)
EXAMPLE = f'{ENTRIES}, such as ["192.0.2.0/24"]'


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list file that was read. ``text``: the item of the configuration that names it.
    ``file``: its path, as messages show it. ``entries``: how many it has.
    ``open_line``: the number of its last line if that has no end; else 0.
    """

    text: str
    file: str
    entries: int
    open_line: int


@dataclass(frozen=True, slots=True)
class AccessList:
    """A list. ``texts``: as the configuration has it. ``entries``: the texts of all
    entries, also those of files. ``accounts``: the numbers of its users and groups.
    ``placed``: the entries with their places. ``origin``: where its key stands. Two
    that are equal mean the same, wherever they and their entries stand.
    """

    texts: tuple[str, ...] = ()
    entries: tuple[str, ...] = field(default=(), repr=False)
    accounts: tuple[int, ...] = ()
    rules: Rules = field(default_factory=Rules, repr=False, compare=False)
    placed: tuple[Entry, ...] = field(default=(), repr=False, compare=False)
    files: tuple[ListFile, ...] = field(default=(), repr=False, compare=False)
    origin: Origin = field(default=NOWHERE, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class KeyOrigins:
    """Where the keys of a service stand, for the messages about a refusal. All are
    equal, because a key that only moved is the same.
    """

    by_key: Mapping[str, Origin] = field(default_factory=dict, compare=False)


_LETS_EVERYBODY_IN = (
    "the files have no entry, so the list would let everybody in: for that write allow = []"
)
THIS_HOST = Accounts(
    uid_of=lambda name: pwd.getpwnam(name).pw_uid,
    gid_of=lambda name: grp.getgrnam(name).gr_gid,
    gids_of=lambda uid: tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, pwd.getpwuid(uid).pw_gid)),
)
"""The users and groups of this host."""


def list_of(*texts: str) -> AccessList:
    """A list without files, for a default."""
    placed = tuple(Entry(text) for text in texts)
    return AccessList(texts, texts, rules=Rules.of(placed, THIS_HOST), placed=placed)


class ListReader:
    """Reads and compiles the lists of one load.

    ``place``: where a key stands. Lists with the same files, and nothing else, are
    compiled once.
    """

    def __init__(
        self,
        files: NamedFiles,
        place: Callable[[KeyPath], Place],
        accounts: Accounts = THIS_HOST,
    ) -> None:
        self._files = files
        self._place = place
        self._accounts = accounts
        self._read: dict[str, tuple[ListFile, list[Entry]]] = {}
        self._compiled: dict[KeyPath | tuple[str, ...], AccessList] = {}
        self._size = 0
        self._named = 0

    def compile(self, path: KeyPath, texts: tuple[str, ...]) -> AccessList:
        """The list that is the value of the key at ``path``. ItemErrors."""
        of_files_alone = all(text.startswith(FILE) for text in texts)
        key = texts if of_files_alone else path
        if key not in self._compiled:
            self._compiled[key] = self._compile(path, texts)
        compiled = self._compiled[key]
        if path[-1] == "allow" and texts and not compiled.rules:
            raise ItemErrors([(0, _LETS_EVERYBODY_IN)])
        return replace(compiled, origin=self.origin(path))

    def _compile(self, path: KeyPath, texts: tuple[str, ...]) -> AccessList:
        pieces, refused = self._pieces(path, texts)
        entries = [entry for piece in pieces for entry in piece]
        self._size += len(entries)
        if self._size > MAX_ENTRIES:
            raise ValueError(
                f"the lists up to this one have {self._size} entries, but may have at most"
                f" {MAX_ENTRIES} together; a list in [defaults] counts once"
            )
        self._named += sum(entry.text.startswith(("uid:", "gid:")) for entry in entries)
        if self._named > MAX_ACCOUNTS:
            raise ValueError(
                f"the lists up to this one name {self._named} users and groups, but may name at"
                f" most {MAX_ACCOUNTS} together"
            )
        rules = Rules()
        try:
            rules = Rules.of(entries, self._accounts)
        except BadEntries as bad:
            refused.extend(_faults(texts, pieces, bad))
        if refused:
            raise ItemErrors(sorted(refused, key=operator.itemgetter(0)))
        return AccessList(
            texts,
            tuple(entry.text for entry in entries),
            (*rules.users, *rules.groups),
            rules,
            tuple(entries),
            tuple(self._file(text)[0] for text in dict.fromkeys(texts) if text.startswith(FILE)),
        )

    def _pieces(
        self, path: KeyPath, texts: tuple[str, ...]
    ) -> tuple[list[list[Entry]], list[tuple[int, str]]]:
        """The entries that each text stands for, and a sentence about each file that
        cannot be read.
        """
        pieces: list[list[Entry]] = []
        refused: list[tuple[int, str]] = []
        for index, text in enumerate(texts):
            if not text.startswith(FILE):
                pieces.append([Entry(text, self.origin((*path, index)))])
                continue
            try:
                pieces.append(self._file(text)[1])
            except ValueError as error:
                pieces.append([])
                refused.append((index, str(error)))
        return pieces, refused

    def origin(self, path: KeyPath) -> Origin:
        """Where the key, or the item of a list, at ``path`` stands."""
        place = self._place(path)
        return Origin(place.file, place.line or 0)

    def _file(self, text: str) -> tuple[ListFile, list[Entry]]:
        """The file that an item of a list names, and its entries. ValueError."""
        if text not in self._read:
            path = text.removeprefix(FILE)
            content = self._files(path, MAX_FILE_BYTES, bytes)
            shown = file_shown(Path(path))
            # A comment may be in any encoding; an entry is ASCII.
            entries = entries_of(content.decode("utf-8", "replace"), shown)
            if len(entries) > MAX_FILE_ENTRIES:
                raise ValueError(
                    f"{shown} has {len(entries)} entries, but may have at most {MAX_FILE_ENTRIES}"
                )
            is_open = bool(content) and not content.endswith(b"\n")
            open_line = content.count(b"\n") + 1 if is_open else 0
            self._read[text] = ListFile(text, shown, len(entries), open_line), entries
        return self._read[text]


def _faults(
    texts: Sequence[str], pieces: Sequence[Sequence[Entry]], bad: BadEntries
) -> Iterator[tuple[int, str]]:
    """A sentence about each bad text, and about the first bad lines of each file."""
    sentences = {id(entry): sentence for entry, sentence in bad.faults}
    for index, piece in enumerate(pieces):
        wrong = [entry for entry in piece if id(entry) in sentences]
        for entry in wrong[:MAX_FAULTS]:
            sentence = sentences[id(entry)]
            if texts[index].startswith(FILE):
                sentence = f"{entry.origin.file}:{entry.origin.line}: {sentence}"
            yield index, sentence
        if wrong[MAX_FAULTS:]:
            yield index, f"{wrong[0].origin.file}: more lines are wrong"


@dataclass(frozen=True, slots=True)
class ListContext:
    """The context in which the table at ``path`` is validated."""

    reader: ListReader
    path: KeyPath


def access_list(value: Any, known: ValidationInfo) -> Any:
    """A validator: the compiled list. ValueError."""
    if isinstance(value, AccessList):
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be {EXAMPLE}")
    if not isinstance(known.context, ListContext):
        raise ValueError("a list cannot be compiled here")  # noqa: TRY004  pydantic collects it
    path = (*known.context.path, str(known.field_name))
    return known.context.reader.compile(path, tuple(value))
