"""The commands that change a running daemon and no file: a function for each verb,
which waits for the result and prints it.

Called by :mod:`unpd.cli.verbs`; calls the texts of the answers. Errors: UnpdError, as
in :mod:`unpd.cli.asking`. A change that was made is a success, also if standard output
does not take the words about it.
"""

import argparse
import contextlib
import math
from collections.abc import Callable
from typing import Any

from unpd.cli import changes_text, draining
from unpd.cli.asking import answer_as_json, asked, checked, connect, request_of
from unpd.cli.output import complain, show
from unpd.control.answer_fields import AnswerField
from unpd.control.change_fields import HALT, LEVEL, SCALE
from unpd.control.protocol import Request
from unpd.control.spans import span_s
from unpd.control.status_fields import STATUS
from unpd.names import ExitCode


def pause(args: argparse.Namespace) -> int:
    """``unpd pause``: print what it has done."""
    return _changed(args, HALT, changes_text.halted)


def resume(args: argparse.Namespace) -> int:
    """``unpd resume``: a service that is not halted is no failure."""
    return _changed(args, HALT, changes_text.resumed)


def scale(args: argparse.Namespace) -> int:
    """``unpd scale``: print how many workers the pool has now."""
    return _changed(args, SCALE, changes_text.scaled)


def log_level(args: argparse.Namespace) -> int:
    """``unpd log-level``: a process that does not answer is a failure."""
    answer = asked(args, LEVEL)
    show(answer_as_json(answer, LEVEL) if args.json else changes_text.level(answer))
    if complaint := changes_text.silence(answer):
        complain(complaint)
    return ExitCode.FAILED if answer["silent"] else ExitCode.DONE


def drain(args: argparse.Namespace) -> int:
    """``unpd drain``: wait until the open connections have ended. An interrupt ends the
    wait alone.
    """
    answer = asked(args, HALT)
    if not args.json:
        show(changes_text.halted(answer))
    timeout_s = span_s(args.timeout) if args.timeout else math.inf
    try:
        left = draining.wait_drained(args.service, lambda: _status_of(args), timeout_s)
    except KeyboardInterrupt:
        complain(f"interrupted: the drain goes on until unpd resume {args.service}")
        raise
    answer["connections"] = left
    if args.json:
        show(answer_as_json(answer, HALT))
    else:
        show(changes_text.drained(args.service, left))
    return ExitCode.DEGRADED if left else ExitCode.DONE


def _changed(
    args: argparse.Namespace,
    fields: tuple[AnswerField, ...],
    text: Callable[[dict[str, Any]], str],
) -> int:
    answer = asked(args, fields)
    show(answer_as_json(answer, fields) if args.json else text(answer))
    return ExitCode.DONE


def _status_of(args: argparse.Namespace) -> dict[str, Any]:
    request = Request("status", {}, request_of(args).config)
    with contextlib.closing(connect(args)) as client:
        return checked(client.ask(request).get("status"), STATUS)
