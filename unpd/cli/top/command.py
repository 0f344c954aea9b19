"""The command ``unpd top``: the status of a daemon, live on a terminal or as plain
text.

Called by dispatch. Calls the screen, which needs the library rich, or the asker and the
layout. Errors: UnpdError, for a library that is missing, for a user that may not ask,
and with ``--once`` for a daemon that does not answer.
"""

import argparse
import contextlib
import locale
import os
import select
import shutil
import sys
from collections.abc import Iterator

from unpd.cli.configured import config_path, control_path
from unpd.cli.output import complain, show
from unpd.cli.top.answers import Answers
from unpd.cli.top.layout import plain
from unpd.cli.top.polling import Asker
from unpd.cli.top.view import View
from unpd.config.source import names_of
from unpd.control.protocol import Request
from unpd.errors import UnpdError
from unpd.names import ExitCode

PLAIN_WIDTH = 200
"""The width of the text where no terminal has one: a column is left out for want of
room only there.
"""


def top(args: argparse.Namespace) -> int:
    """``unpd top``: on a terminal that can do it, the screen; else the text."""
    config = None if args.control is not None else config_path(args)
    request = Request("status", {"history": True}, names_of(config))
    asker = Asker(control_path(args), request, args.interval)
    if args.plain or args.once or not _is_screen():
        return _as_text(asker, args)
    try:
        # rich is there only as an extra, and takes as long to import as all of unpd.
        from unpd.cli.top.screen import Screen  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise UnpdError(
            "the screen of unpd top needs the library rich: install it with pip install"
            " rich, or use unpd top --plain, which needs none"
        ) from None
    Screen(asker, View(wanted=args.filter, glyphs=locale.getencoding() == "UTF-8")).run()
    return ExitCode.DONE


def _is_screen() -> bool:
    """Whether this is a terminal on which the cursor can be moved."""
    moves = os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    return moves and sys.stdin.isatty() and sys.stdout.isatty()


def _as_text(asker: Asker, args: argparse.Namespace) -> int:
    """Print the text, with ``--once`` as soon as there are rates; otherwise again and
    again, until the reader has gone.
    """
    with contextlib.closing(asker):
        for answers in _answers(asker, once=args.once):
            if args.once and answers.previous is None:
                continue
            width = shutil.get_terminal_size((PLAIN_WIDTH, 25)).columns
            text = plain(answers, args.filter, width)
            if not show(text if args.once else f"{text}\n\n"):
                return ExitCode.FAILED
            if args.once:
                break
    return ExitCode.DONE


def _answers(asker: Asker, *, once: bool) -> Iterator[Answers]:
    """Yield each answer with the one before. A daemon that does not answer is asked
    again, but UnpdError if ``once``.
    """
    answers: Answers | None = None
    told = ""
    while True:
        poll = select.poll()
        if (fd := asker.fileno()) is not None:
            poll.register(fd, select.POLLIN)
        poll.poll(asker.due_in_s() * 1000 + 1)
        answer = asker.turn()
        if asker.trouble and once:
            raise UnpdError(asker.trouble)
        if asker.trouble not in ("", told):
            complain(f"{asker.trouble}; trying again")
        told = asker.trouble
        if answer is not None:
            answers = answers.then(answer) if answers else Answers(answer)
            yield answers
