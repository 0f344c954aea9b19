"""Imports the function of a service of ``type = "python"``.

The process that will fork a session for each connection calls :func:`import_function`,
after it has dropped to the user of the service and before it reports that it is ready.
Errors: HandlerError with one sentence: what the import raised, and in which file.

Known gap: an import that changes the handlers of signals, or closes descriptors, breaks
its process.
"""

import contextlib
import importlib
import inspect
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unpd.errors import UnpdError, error_line, quoted
from unpd.kernel.privileges import user_name
from unpd.names import ExitCode

Function = Callable[[socket.socket], object]
"""A function that talks with one client over a connected socket."""

TASKS = "/proc/self/task"
_UNCALLED: tuple[Callable[[Any], bool], ...] = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)
"""A call of these only makes an object, and runs nothing of their code."""


class HandlerError(UnpdError):
    """The handler of a service cannot be used."""

    exit_code = ExitCode.CONFIGURATION


def import_function(service: str, handler: str, path: Sequence[str]) -> Function:
    """The function that ``handler`` names, as "package.module:function". The
    directories in ``path`` come first on the import path, for good.

    HandlerError if the import fails, if there is no such function that can be called
    with a socket alone, or if there are threads afterwards: a process with threads must
    not fork (pthread_atfork(3)).
    """
    sys.path[:0] = path
    # Not importlib.invalidate_caches(): from Python 3.12 on that imports two dozen
    # modules, which this process may have no right to read any more.
    sys.path_importer_cache.clear()
    with _explained(f"services.{service}.handler: {quoted(handler)}", path):
        function = _function(handler)
        _refuse_threads()
    return function


def _function(handler: str) -> Function:
    module_name, _, name = handler.partition(":")
    if module_name in sys.modules:
        raise HandlerError("is in a module that unpd itself has loaded: give it another name")
    module = importlib.import_module(module_name)
    found: Any = getattr(module, name, None)
    if not callable(found):
        raise HandlerError(f"is no function of {getattr(module, '__file__', module_name)}")
    # The former also knows methods and partials of a function.
    if any(kind(each) for each in (found, type(found).__call__) for kind in _UNCALLED):
        raise HandlerError("must be a plain function, without async and yield")
    with contextlib.suppress(ValueError):  # some functions in C do not tell
        try:
            inspect.signature(found).bind(None)
        except TypeError as error:
            raise HandlerError(f"cannot be called with a socket alone: {error}") from None
    function: Function = found
    return function


def _refuse_threads() -> None:
    """HandlerError if this process has another thread, of Python or not."""
    try:
        count = len(os.listdir(TASKS))
    except OSError:  # without /proc, only Python's own are known
        count = threading.active_count()
    if count == 1:
        return
    names = [thread.name for thread in threading.enumerate()[1:]]
    raise HandlerError(
        f"starts threads when it is imported ({', '.join(names) or 'outside of Python'}), and a"
        " process with threads must not fork"
    )


@contextlib.contextmanager
def _explained(subject: str, path: Sequence[str]) -> Iterator[None]:
    """Make a HandlerError about ``subject`` of whatever an import raises. SystemExit
    must not end the process without a reason.
    """
    try:
        yield
    except HandlerError as error:
        raise HandlerError(f"{subject} {error}") from None
    except BaseException as error:
        reason = _reason(error, path) or f"{error_line(error)}{_closed(path)}"
        raise HandlerError(f"{subject} cannot be imported: {reason}") from error


def _reason(error: BaseException, path: Sequence[str]) -> str:
    """The last line of a traceback with its last place in the directories of ``path``,
    else with the last one in foreign code; "" if no foreign code has raised.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    ours = (__file__, importlib.__file__)
    foreign = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ours and not frame.filename.startswith("<frozen ")
    ]
    own = [frame for frame in foreign if any(map(Path(frame.filename).is_relative_to, path))]
    for frame in (own or foreign)[-1:]:
        return f"{error_line(error)} ({frame.filename}, line {frame.lineno})"
    return ""


def _closed(path: Sequence[str]) -> str:
    """The directories that this user may not search, as the end of a sentence: the
    import system passes over them.
    """
    closed = [each for each in path if not os.access(each, os.R_OK | os.X_OK)]
    if not closed:
        return ""
    return f"; the user {user_name(os.geteuid())} cannot read {', '.join(closed)}"
