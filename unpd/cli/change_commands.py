"""The commands that change a running daemon and no file: a function for each verb,
which waits for the result and prints it.

Called by :mod:`unpd.cli.verbs`; calls the texts of the answers. Errors: UnpdError, as
in :mod:`unpd.cli.asking`. A change that was made is a success, also if standard output
does not take the words about it.
"""

import argparse
from collections.abc import Callable
from typing import Any

from unpd.cli import changes_text
from unpd.cli.asking import answer_as_json, asked
from unpd.cli.output import complain, show
from unpd.cli.waiting import Wish, wait_for
from unpd.control.answer_fields import AnswerField
from unpd.control.change_fields import HALT, LEVEL, SCALE
from unpd.control.client import NotRunningError, RefusedError
from unpd.errors import UnpdError
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
    halt = asked(args, HALT)
    if not args.json:
        show(changes_text.halted(halt))
    answer = _drained(args)
    if answer["held"] or answer["connections"] is not None:
        halt["connections"] = answer["connections"] or 0
    if args.json:
        show(answer_as_json(halt, HALT))
    else:
        show(changes_text.drained(args.service, answer))
    return ExitCode.DONE if answer["held"] else ExitCode.DEGRADED


def _drained(args: argparse.Namespace) -> dict[str, Any]:
    """Wait for the end of the drain. UnpdError says that the drain itself goes on,
    unless the daemon has ended, or does not drain the service any more.
    """
    goes_on = f"the drain goes on until unpd resume {args.service}"
    try:
        return wait_for(args, Wish("drained", args.service, args.timeout))
    except KeyboardInterrupt:
        complain(f"interrupted: {goes_on}")
        raise
    except (NotRunningError, RefusedError):
        raise
    except UnpdError as error:
        raise type(error)(f"{error}; {goes_on}") from error


def _changed(
    args: argparse.Namespace,
    fields: tuple[AnswerField, ...],
    text: Callable[[dict[str, Any]], str],
) -> int:
    answer = asked(args, fields)
    show(answer_as_json(answer, fields) if args.json else text(answer))
    return ExitCode.DONE
