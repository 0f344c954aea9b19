"""The types of services: those of unpd, and those of other packages, which an entry
point of the group ``unpd.services`` names.

An entry point is loaded only if a service has its type, or for ``unpd services``. No
package runs as root only because it says that it has a service type. The master
loads it while it loads the configuration, so before it forks the children that run it.
A type is loaded once in the life of a process; a newer package needs a restart.

Called by unpd.config.build, by the master, which makes the services in its children,
and by the command line. Raises :class:`UnusableTypeError` with one sentence.
"""

import contextlib
import functools
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from unpd import __version__
from unpd.config.packages import importable, origin_of, places, search
from unpd.config.schema import ServiceConfig
from unpd.errors import error_line, quoted
from unpd.kernel.privileges import user_name
from unpd.libraries import ValidationError
from unpd.services.base import Options, ServiceType
from unpd.services.table import SERVICES

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Kinds = tuple[bool, bool]
"""Whether a type serves streams, and whether it serves datagrams."""

GROUP = "unpd.services"
STREAM_METHODS = ("greet", "converse")
DATAGRAM_METHODS = ("answer",)
MAX_VALUE_CHARACTERS = 40
MAX_PORT = 65535


class UnusableTypeError(Exception):
    """A package has a service type that cannot be used. Its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Known:
    """One service type that there is. ``origin``: the package that it comes from. The
    type is None if it cannot be used; ``fault`` is why.
    """

    name: str
    origin: str
    type: ServiceType | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule about a field of a ServiceType, which no type checker may have seen."""

    holds: Callable[[Any], bool]
    words: str


_BOOL = _Rule(lambda value: isinstance(value, bool), "True or False")
_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "name": _Rule(lambda value: isinstance(value, str), "a text"),
        "rfc": _Rule(
            lambda value: value is None or (type(value) is int and value > 0),
            "the number of an RFC or None",
        ),
        "port": _Rule(
            lambda value: type(value) is int and 0 <= value <= MAX_PORT,
            f"a whole number from 0 to {MAX_PORT}",
        ),
        "stream": _BOOL,
        "datagram": _BOOL,
        "make": _Rule(callable, "a class or a function"),
        "note": _Rule(lambda value: isinstance(value, str), "a text"),
    }
)


@functools.cache
def service_type(name: str) -> ServiceType:
    """The type of that name. LookupError if there is none, UnusableTypeError if a
    package has one that cannot be used.
    """
    if name in SERVICES:
        return SERVICES[name]
    found = search(GROUP)
    if points := [point for point in found.points if point.name == name]:
        return _load_only(points)
    if found.broken:
        raise UnusableTypeError(f"there is no service type {quoted(name)}, but {found.broken[0]}")
    raise LookupError(name)


def kinds_of(name: str) -> Kinds:
    """Whether the type of that name serves streams, and datagrams; both if it cannot be
    used, which is an error of its own.
    """
    try:
        row = service_type(name)
    except (LookupError, UnusableTypeError):
        return True, True
    return row.stream, row.datagram


def known_types() -> Iterator[Known]:
    """Yield each type that there is, by name. This loads those of other packages, but
    none that two packages have.
    """
    for name, row in sorted(SERVICES.items()):
        yield Known(name, f"unpd {__version__}", row)
    by_name = itertools.groupby(sorted(_entry_points(), key=_name), key=_name)
    for name, points in ((name, list(same)) for name, same in by_name):
        origin = ", ".join(map(_origin, points))
        try:
            yield Known(name, origin, _load_only(points))
        except UnusableTypeError as error:
            yield Known(name, origin, None, str(error))


def unread_packages() -> tuple[str, ...]:
    """One sentence for each package that may have a type, but cannot be read."""
    return search(GROUP).broken


def closed_packages() -> str:
    """The places of packages that this user may not read, as the end of a sentence; ""
    if there are none. The import system passes over them.
    """
    closed = [place for directory in places() for place in _closed(directory)]
    if not closed:
        return ""
    return f"{', '.join(closed)}, which the user {user_name(os.geteuid())} may not read"


def _closed(directory: str) -> Iterator[str]:
    """The directory of packages, or the tables of entry points in it, that this user
    may not read.
    """
    try:
        names = os.listdir(directory)
    except PermissionError:
        yield directory
        return
    except OSError:
        return
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                open(os.path.join(directory, name, "entry_points.txt"), "rb").close()
            except PermissionError:
                yield os.path.join(directory, name)
            except OSError:
                continue


def options_of(row: ServiceType, given: Mapping[str, Any], files: object) -> Options:
    """Validate the keys that only this type has. ``files``: the context of the
    validation. pydantic's ValidationError, and UnusableTypeError if the package fails.
    """
    if SERVICES.get(row.name) is row:
        return row.options.model_validate(given, context=files)
    with _foreign(f"the service type {quoted(row.name)} cannot check its options"):
        try:
            return row.options.model_validate(given, context=files)
        except ValidationError as error:  # the keys are wrong, not the package
            failure = error
    raise failure


def check_service(row: ServiceType, options: Options) -> None:
    """Make the service of another package once. UnusableTypeError if that fails, or if
    it has not the methods of its kinds.
    """
    if SERVICES.get(row.name) is row:
        return
    _check_installed(row.name)
    wanted = (STREAM_METHODS if row.stream else ()) + (DATAGRAM_METHODS if row.datagram else ())
    with _foreign(f"the service type {quoted(row.name)} cannot make its service"):
        service = row.make(options)
        missing = [name for name in wanted if not callable(getattr(service, name, None))]
    if missing:
        raise UnusableTypeError(
            f"the service of type {quoted(row.name)} has no method {missing[0]}()"
        )


def _check_installed(name: str) -> None:
    """UnusableTypeError if the package of a loaded type is gone: this process could go
    on with it, but the next start would fail.
    """
    for point in _entry_points():
        if point.name == name and _is_found(_root(point)):
            return
    raise UnusableTypeError(
        f"the service type {quoted(name)} is loaded, but its package was removed or cannot be read:"
        " a restart would fail"
    )


def _is_found(module: str) -> bool:
    """Whether an import would find the module, which may be loaded already."""
    with _foreign(f"the module {quoted(module)} cannot be looked for"):
        return any(finder.find_spec(module, None) for finder in sys.meta_path)


def _entry_points() -> "Iterator[EntryPoint]":
    return (point for point in search(GROUP).points if point.name not in SERVICES)


def _name(point: "EntryPoint") -> str:
    return point.name


def _load_only(points: "Sequence[EntryPoint]") -> ServiceType:
    """Load the only type of its name. UnusableTypeError if there are several: the order
    of a directory must not decide which one root runs.
    """
    if len(points) > 1:
        origins = " and ".join(map(_origin, points))
        raise UnusableTypeError(
            f"the service type {quoted(points[0].name)} is in {origins}: remove all but one"
        )
    return _load(points[0])


def _load(point: "EntryPoint") -> ServiceType:
    """Import a type and check it. If it cannot be used, forget its modules: a corrected
    package must not be hidden by the faulty one.
    """
    known = frozenset(sys.modules)
    try:
        with importable(point.dist):
            return _loaded(point)
    except UnusableTypeError:
        root = _root(point)
        for name in [name for name in sys.modules if name.partition(".")[0] == root]:
            if name not in known:
                del sys.modules[name]
        raise


def _root(point: "EntryPoint") -> str:
    """The name of the package, or the module, at the top of the import path."""
    return re.split(r"[.:\s]", point.value, maxsplit=1)[0]


def _loaded(point: "EntryPoint") -> ServiceType:
    name = f"the service type {quoted(point.name)} of {_origin(point)}"
    with _foreign(f"{name} cannot be imported"):
        found: Any = point.load()
    if not isinstance(found, ServiceType):
        raise UnusableTypeError(
            f"{name} is no ServiceType: {point.value} is {type(found).__name__}"
        )
    if fault := _fault(point.name, found):
        raise UnusableTypeError(f"{name} is wrong: {fault}")
    return found


def _fault(name: str, row: ServiceType) -> str:
    """What is wrong with a row of another package; "" if nothing is."""
    options: Any = row.options  # no type checker may have seen the package
    for field, rule in _RULES.items():
        value = getattr(row, field)
        if not rule.holds(value):
            return f"its {field} must be {rule.words}, not {_value_shown(value)}"
    if row.name != name:
        return f"its name is {quoted(row.name)}"
    if not (row.stream or row.datagram):
        return "it serves neither streams nor datagrams"
    if not (isinstance(options, type) and issubclass(options, Options)):
        return "its options are no class that is derived from Options"
    if hidden := sorted(options.model_fields.keys() & ServiceConfig.model_fields.keys()):
        return f"its option {quoted(hidden[0])} is a key that every service has"
    return ""


def _value_shown(value: Any) -> str:
    """A number or a text as Python writes it, anything else by its type."""
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)[:MAX_VALUE_CHARACTERS]
    return f"of type {type(value).__name__}"


def _origin(point: "EntryPoint") -> str:
    return origin_of(point.dist)


@contextlib.contextmanager
def _foreign(sentence: str) -> Iterator[None]:
    """Turn every exception of a package into an UnusableTypeError. SystemExit must not
    end the master, and the exception may be unable to describe itself.
    """
    try:
        yield
    except BaseException as error:
        raise UnusableTypeError(f"{sentence}: {error_line(error)}") from error
