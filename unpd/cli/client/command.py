"""One run of a client, from the user's options to the exit code.

Called by ``unpd.cli.client.run``; calls the client of the service: ``printing`` for
daytime, qotd and chargen, ``time868``, ``tcpmux``, ``echo`` and ``lines`` for echo and
discard, ``measuring`` for the measurements of echo. Errors: each
ClientFailure becomes one sentence and an exit code here, and no other module of the
client writes to standard error.
"""

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from unpd.cli.client import (
    connect,
    datagrams,
    echo,
    framing,
    lines,
    printing,
    tcpmux,
    time868,
)
from unpd.cli.client.asked import Asked, refuse_contradictions
from unpd.cli.client.failures import ClientFailure, OutputClosed
from unpd.cli.client.streams import Output
from unpd.cli.client.targets import Target, UsageError, Words, target_of
from unpd.cli.output import printable
from unpd.names import ClientExit

INPUT_FD, OUTPUT_FD, ERROR_FD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Options:
    """The user's options. A ``timeout_s`` of 0 means no limit. ``name``: of a service
    behind tcpmux, or "". ``asked``: what to measure, or None.
    """

    service: str
    words: Words
    timeout_s: float
    raw: bool
    name: str
    asked: Asked | None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service: the options that its client needs."""

    service: str
    target: Target
    timeout_s: float | None
    framing: framing.Framing
    name: str


def run_client(options: Options) -> ClientExit:
    """Talk to the server, print a failure on standard error, and return the exit
    code.
    """
    started_at = time.monotonic()
    try:
        target = target_of(options.words)
        if options.asked is not None:
            refuse_contradictions(options.asked, target, raw=options.raw)
        if options.name and not tcpmux.is_name(options.name):
            raise UsageError(
                f"--name {options.name}: give 1 to {tcpmux.MAX_NAME_BYTES} printable characters of"
                " ASCII"
            )
    except UsageError as error:
        complain(str(error))
        return ClientExit.USAGE
    try:
        return _talk(options, target)
    except ClientFailure as failure:
        complain(
            failure.sentence(f"{options.service} at {target.text}", time.monotonic() - started_at)
        )
        return failure.exit_code
    except OutputClosed:
        return ClientExit.FAILED


def _talk(options: Options, target: Target) -> ClientExit:
    output = Output(OUTPUT_FD)
    timeout_s = options.timeout_s or None
    cut = framing.Pieces() if options.raw else framing.Lines()
    try:
        if options.asked is not None:
            from unpd.cli.client import measuring  # noqa: PLC0415 - its imports take long

            return measuring.measure(options.asked, target, output, timeout_s)
        call = Call(options.service, target, timeout_s, cut, options.name)
        if target.datagrams:
            _call_by_datagrams(call, output)
        else:
            _call_over_stream(call, output)
    finally:
        output.finish()
    return ClientExit.DONE


def _call_over_stream(call: Call, output: Output) -> None:
    candidates = connect.find(call.target, call.timeout_s)
    asked_wall_s = time.time()
    with connect.connect_any(call.target, candidates, call.timeout_s) as sock:
        if call.service == "time":
            answer = time868.read(sock, output.fd, call.timeout_s)
            time868.print_answer(answer, asked_wall_s, output)
        elif call.service == "tcpmux":
            _call_by_name(call, sock, output)
        elif call.service in ("echo", "discard"):
            _exchange(call, sock, output, echo.Expected(call.service))
        else:
            printing.print_stream(call.service, sock, output, call.timeout_s)


def _call_by_name(call: Call, sock: socket.socket, output: Output) -> None:
    tcpmux.send_name(sock, call.name or tcpmux.HELP)
    if not call.name:
        printing.print_stream(call.service, sock, output, call.timeout_s)
        return
    output.write(tcpmux.read_reply(sock, output.fd, call.timeout_s))
    _exchange(call, sock, output, echo.Expected.ANYTHING)


def _exchange(call: Call, sock: socket.socket, output: Output, expected: echo.Expected) -> None:
    endpoints = echo.Endpoints(sock, INPUT_FD, output)
    echo.Exchange(endpoints, call.framing, call.timeout_s, expected).run()


def _call_by_datagrams(call: Call, output: Output) -> None:
    if call.service in ("echo", "discard"):
        client = lines.LineDatagrams(
            lines.Ends(INPUT_FD, output),
            call.framing,
            call.timeout_s,
            answered=call.service == "echo",
        )
        candidates = connect.find(call.target, call.timeout_s)
        datagrams.with_each(call.target, candidates, lambda sock, _, __: client.run(sock))
        return
    request = printing.request_of(call.service)
    answer = datagrams.ask(call.target, request, output.fd, call.timeout_s)
    if call.service == "time":
        time868.print_answer(answer.text, answer.asked_wall_s, output)
    else:
        printing.print_datagram(call.service, answer.text, output)


def complain(sentence: str) -> None:
    """Write one line to standard error, with control characters of a host name escaped.
    If standard error is closed, the exit code has to do.
    """
    with suppress(OSError):
        os.write(ERROR_FD, f"unpd: client: {printable(sentence)}\n".encode())
