"""The command ``unpd try``: starts the program of a service with the standard
descriptors of this process, by the daemon, or without one by itself.

Called by :mod:`unpd.cli.verbs`. Calls the control socket; without a daemon
:mod:`unpd.cli.alone`. Errors: UnpdError.
"""

import argparse
import contextlib
import json
import socket
from typing import Any

from unpd.cli.asking import connect, request_of
from unpd.cli.configured import config_path
from unpd.cli.output import complain
from unpd.control.client import ControlClient, NotRunningError
from unpd.control.protocol import Request
from unpd.errors import UnpdError
from unpd.names import ExitCode

MAX_LINE_BYTES = 4096
STANDARD = (0, 1, 2)


def try_(args: argparse.Namespace) -> int:
    """``unpd try``: by the daemon, or without one by this command itself."""
    try:
        client = connect(args)
    except NotRunningError as error:
        return _by_itself(args, error)
    with contextlib.closing(client):
        return _by_daemon(client, request_of(args))


def _by_daemon(client: ControlClient, request: Request) -> int:
    """Have the daemon start the program, and wait for its end. An interrupt ends this
    command, and with it the program.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            socket.send_fds(ours, [b"x"], STANDARD)
            client.ask(request, [theirs.fileno()])
        line = ours.makefile("rb").readline(MAX_LINE_BYTES)
    if not line:
        raise UnpdError("the launcher has ended, and does not tell what became of the program")
    return _tell(json.loads(line))


def _by_itself(args: argparse.Namespace, error: NotRunningError) -> int:
    """Start the program without a daemon, and say what differs."""
    from unpd.cli import alone  # noqa: PLC0415 - with a daemon, nobody needs pydantic

    complain(f"{error}: this command starts the program itself", name="warning: ")
    return _tell(alone.try_program(config_path(args), args.service))


def _tell(end: dict[str, Any]) -> int:
    """Say how the program ended, on standard error: standard output is the
    program's.
    """
    if end["step"] is not None:
        raise UnpdError(f"the program could not be started: {end['step']}: {end['reason']}")
    complain(f"the program ended after {end['duration_s']:g} s: {end['ended']}", name="")
    return ExitCode.DONE if end["ok"] else ExitCode.FAILED
