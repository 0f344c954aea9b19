"""One run of a client, from the user's options to the exit code.

Called by ``unpd.cli.client.run``; calls connect, then daytime or echo. Errors: each
ClientFailure becomes one sentence and an exit code here, and no other module of the
client writes to standard error.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass

from unpd.cli.client import connect, daytime, echo, framing
from unpd.cli.client.failures import ClientFailure, OutputClosed
from unpd.cli.client.streams import Output
from unpd.cli.output import printable
from unpd.names import ClientExit

INPUT_FD, OUTPUT_FD, ERROR_FD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Options:
    """The user's options. ``port`` is None if the user gave none; a ``timeout_s`` of 0
    means no limit.
    """

    service: str
    host: str
    port: int | None
    default_port: int
    timeout_s: float
    raw: bool


def run_client(options: Options) -> ClientExit:
    """Talk to the server, print a failure on standard error, and return the exit
    code.
    """
    started_at = time.monotonic()
    if problem := connect.usage_problem(options.host, options.port):
        complain(problem)
        return ClientExit.USAGE
    target = connect.Target(
        options.host, None if "/" in options.host else options.port or options.default_port
    )
    try:
        _talk(options, target)
    except ClientFailure as failure:
        complain(
            failure.sentence(f"{options.service} at {target.text}", time.monotonic() - started_at)
        )
        return failure.exit_code
    except OutputClosed:
        return ClientExit.FAILED
    return ClientExit.DONE


def _talk(options: Options, target: connect.Target) -> None:
    timeout_s = options.timeout_s or None
    with connect.connect(target, timeout_s) as sock:
        output = Output(OUTPUT_FD)
        try:
            if options.service == "daytime":
                daytime.read_time(sock, output, timeout_s)
            else:
                cut = framing.Pieces() if options.raw else framing.Lines()
                echo.Exchange(echo.Endpoints(sock, INPUT_FD, output), cut, timeout_s).run()
        finally:
            output.finish()


def complain(sentence: str) -> None:
    """Write one line to standard error, with control characters of a host name escaped.
    If standard error is closed, the exit code has to do.
    """
    with suppress(OSError):
        os.write(ERROR_FD, f"unpd: client: {printable(sentence)}\n".encode())
