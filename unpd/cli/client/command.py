"""One run of a client, from what the user asked for to the exit code.

``answer`` is called by ``unpd.cli.client.run``. The only place of the client that
speaks on standard error: one sentence for a failure, nothing else.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass

from unpd.cli.client import connect, daytime, echo, framing
from unpd.cli.client.failures import ClientFailure, OutputGone
from unpd.names import ClientExit

INPUT_FD, OUTPUT_FD, ERROR_FD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; ``port`` is None if none was named, ``timeout_s`` 0 means no
    limit.
    """

    service: str
    host: str
    port: int | None
    default_port: int
    timeout_s: float
    raw: bool


def answer(request: Request) -> ClientExit:
    """Talks to the server; says on standard error how it failed, if it did."""
    started_at = time.monotonic()
    occupy_standard_descriptors()
    if problem := connect.usage_problem(request.host, request.port):
        complain(problem)
        return ClientExit.USAGE
    target = connect.Target(
        request.host, None if "/" in request.host else request.port or request.default_port
    )
    try:
        _talk(request, target)
    except ClientFailure as failure:
        complain(
            failure.sentence(f"{request.service} at {target.text}", time.monotonic() - started_at)
        )
        return failure.exit_code
    except OutputGone:
        return ClientExit.FAILED
    return ClientExit.DONE


def _talk(request: Request, target: connect.Target) -> None:
    timeout_s = request.timeout_s or None
    with connect.connect(target, timeout_s) as sock:
        if request.service == "daytime":
            daytime.read_time(sock, OUTPUT_FD, timeout_s)
        else:
            cut = framing.Pieces() if request.raw else framing.Lines()
            echo.Talk(echo.Ends(sock, INPUT_FD, OUTPUT_FD), cut, timeout_s).run()


def occupy_standard_descriptors() -> None:
    """Puts something unusable on each standard descriptor that the caller closed, or
    else the server's socket would become, say, standard input.
    """
    for descriptor, unusable in (
        (INPUT_FD, os.O_WRONLY),
        (OUTPUT_FD, os.O_RDONLY),
        (ERROR_FD, os.O_RDONLY),
    ):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(
                os.devnull, unusable
            )  # the lowest free number (open(2)), and those below are taken by now


def complain(sentence: str) -> None:
    """Writes one line to standard error. Control characters of a host name do not reach
    the terminal; with nobody there to read, the exit code must do.
    """
    line = "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in f"unpd: client: {sentence}"
    )
    with suppress(OSError):
        os.write(ERROR_FD, f"{line}\n".encode("utf-8", "backslashreplace"))
