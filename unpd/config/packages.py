"""Finds the packages of others that add service types, and keeps them off the import
path until a service needs one.

Python and the libraries of unpd import some modules only if they are there, such as nt,
snappy or tzdata. So the packaged program has not the administrator's directory on its
import path: its launcher names the directory in the environment. A search reads only
the tables of entry points there. The first type that is loaded from there puts the
directory on the path, where it stays, because a package may import at any time. Without
that variable, the packages lie beside unpd in one directory, or on PYTHONPATH.

Called by unpd.config.service_types. Calls nothing of unpd but the wording. Raises
nothing: a package whose table of entry points is broken is left out, and named.

Known gap: an older copy of a package, later on the path, is found although a newer one
without entry points hides it.
"""

import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpd.errors import quoted

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

DIRECTORY = "UNPD_PACKAGES"
"""The environment variable with the directory that the launcher names."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search finds. ``points``: the entry points, those of each package once.
    ``broken``: one sentence for each package whose entry points cannot be read.
    """

    points: "tuple[EntryPoint, ...]"
    broken: tuple[str, ...]


def search(group: str) -> Found:
    """Search the path for the entry points of ``group``."""
    points: list[EntryPoint] = []
    broken: list[str] = []
    known: set[str] = set()
    for package in _packages():
        try:
            mine = _points_of(package, group)
        except ValueError as error:
            broken.append(f"the entry points of {origin_of(package)} cannot be read: {error}")
            continue
        # To read the metadata takes longer than all the rest.
        name = re.sub(r"[-_.]+", "-", _name(package)).lower() if mine else ""
        if name not in known:
            points.extend(mine)
        if name:  # the first on the path hides the others
            known.add(name)
    return Found(tuple(points), tuple(broken))


def _points_of(package: "Distribution", group: str) -> "tuple[EntryPoint, ...]":
    """The entry points of one package. ValueError with the end of a sentence if it has
    some and they cannot be read.
    """
    try:
        table = package.read_text("entry_points.txt") or ""
    except UnicodeDecodeError:
        raise ValueError("entry_points.txt is not UTF-8") from None
    if group not in table:
        return ()
    try:
        return tuple(package.entry_points.select(group=group))
    except (TypeError, ValueError):  # so importlib.metadata fails on a line
        raise ValueError(_wrong_line(table)) from None


def origin_of(package: "Distribution | None") -> str:
    """The name and the version of a package, in words."""
    name = _name(package) if package else ""
    return f"{name} {package.version}" if package and name else "a package without a name"


def _name(package: "Distribution") -> str:
    """The name of a package; "" if it has no metadata, or they are not UTF-8."""
    try:
        return package.metadata["Name"] or ""
    except (KeyError, TypeError, ValueError):
        return ""


def places() -> list[str]:
    """The directories in which packages may lie, each once, in the order of search."""
    directory = os.environ.get(DIRECTORY)
    searched = [*sys.path, directory] if directory else sys.path
    return list(dict.fromkeys(map(os.path.realpath, searched)))


@contextmanager
def importable(package: "Distribution | None") -> Iterator[None]:
    """Put the administrator's directory on the import path if the package lies there.
    It stays there, unless the caller fails to load the package.
    """
    directory = os.environ.get(DIRECTORY)
    if not directory or directory in sys.path or not package or not _is_in(package, directory):
        yield
        return
    sys.path.append(directory)
    try:
        yield
    except BaseException:
        sys.path.remove(directory)
        raise


def _is_in(package: "Distribution", directory: str) -> bool:
    return os.path.realpath(str(package.locate_file(""))) == os.path.realpath(directory)


def _packages() -> "Iterable[Distribution]":
    # The import takes 30 ms and 3 MB, which a daemon without such a type does not need.
    from importlib.metadata import distributions  # noqa: PLC0415 - see above

    importlib.invalidate_caches()  # it may remember a directory as it was
    return distributions(path=places())


def _wrong_line(table: str) -> str:
    for number, line in enumerate(table.splitlines(), start=1):
        bare = line.strip()
        if bare and not bare.startswith(("#", "[")) and "=" not in bare:
            return f'line {number} of entry_points.txt has no "=": {quoted(bare)}'
    return "entry_points.txt is malformed"
