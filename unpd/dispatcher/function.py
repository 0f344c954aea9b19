"""The sessions of a service of ``type = "python"``: each calls a function with its
connection, in a process of its own.

To the dispatcher they are programs (:mod:`unpd.dispatcher.programs`): started, ended
and booked as those are. Only the last step of the start differs
(:mod:`unpd.dispatcher.launch`): the process does not become a program, but calls the
function, which the dispatcher has imported (:mod:`unpd.dispatcher.importing`).

The process has no descriptor of the log. So it leaves what the function raised in its
entry of the table of sessions, where :mod:`unpd.dispatcher.program_roll` finds it.

The master calls :func:`prepare` in a new python dispatcher. HandlerError if the
function cannot be used.
"""

import contextlib
import faulthandler
import gc
import io
import os
import signal
import socket
import sys
from contextlib import AbstractContextManager
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from setproctitle import setproctitle

from unpd.board.sessions import leave_trace
from unpd.dispatcher.importing import Function, import_function
from unpd.dispatcher.launch import PASSED_FD, STEPS, Launch, Start, Steps
from unpd.kernel import signals
from unpd.logs import trace_of
from unpd.loop import now
from unpd.names import StartStep
from unpd.services.function import FunctionOptions
from unpd.worker.event.shared import LINGER_S

STDERR = 2
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""The signals that an interpreter ignores: a call raises an exception instead."""
READ_BYTES = 64 * 1024
RAISED = 1
"""The exit code after an exception: that of an interpreter."""


def prepare(service: str, options: FunctionOptions, launch: Launch) -> Steps:
    """Import the function of a service; return the steps of its sessions. HandlerError.

    From here on this process has the environment of its sessions. What was imported
    stays for good: a garbage collection in a session must not copy it.
    """
    os.environb.clear()
    os.environb.update(launch.environment)
    function = import_function(service, options.handler, options.path)
    _flush()  # each session would print again what the import has printed
    gc.freeze()
    return MappingProxyType({**STEPS, StartStep.PROGRAM: partial(_run, function)})


def _run(function: Function, program: Start) -> NoReturn:
    """Call the function as in an interpreter of its own, and exit."""
    os.environb.update(program.variables)
    faulthandler.enable(file=STDERR)  # it had the descriptor of the log
    if isinstance(sys.stdout, io.TextIOWrapper):  # an import may have replaced it
        sys.stdout.reconfigure(line_buffering=True)
    setproctitle(program.title)
    signals.ignore(IGNORED)
    signals.unblock_all()
    os._exit(_serve(function, program.entry))


def _serve(function: Function, entry: memoryview) -> int:
    """Call the function; return the exit code of the process."""
    sock, pid = socket.socket(fileno=PASSED_FD), os.getpid()
    code, trace = _call(function, sock)
    _flush()
    if os.getpid() != pid:  # a process that the function forked has returned from it, too
        os._exit(code)
    leave_trace(entry, trace)
    _close(sock)
    return code


def _call(function: Function, sock: socket.socket) -> tuple[int, str]:
    """Call the function; return an exit code, and the traceback of what it raised."""
    try:
        function(sock)
    except SystemExit as error:
        return _code_of(error), ""
    except BaseException as error:  # noqa: BLE001 - foreign code may raise anything
        ours = error.__traceback__
        return RAISED, trace_of(error.with_traceback(ours and ours.tb_next))
    return 0, ""


def _code_of(error: SystemExit) -> int:
    """The exit code that sys.exit() asks for. It prints anything but a number."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    with _perhaps_closed():
        sys.stderr.write(f"{error.code}\n")
    return RAISED


def _flush() -> None:
    """Write what was printed: ``os._exit`` would lose it."""
    for stream in (sys.stdout, sys.stderr):
        with _perhaps_closed():
            stream.flush()


def _perhaps_closed() -> AbstractContextManager[None]:
    """Ignore that the function has closed a stream, or put something else there."""
    return contextlib.suppress(AttributeError, OSError, ValueError)


def _close(sock: socket.socket) -> None:
    """Send our FIN, and wait for that of the client. With bytes of the client that
    nobody has read, the kernel would reset the connection instead, and the client might
    lose what was written.
    """
    if sock.fileno() < 0:  # the function has closed it
        return
    ends_at = now() + LINGER_S
    with contextlib.suppress(OSError):  # the client has gone
        sock.shutdown(socket.SHUT_WR)
        while (left_s := ends_at - now()) > 0:
            sock.settimeout(left_s)
            if not sock.recv(READ_BYTES):
                return
