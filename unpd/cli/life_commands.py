"""The commands about the life of a running daemon: a function for each verb, which
waits for the result and prints it.

Called by :mod:`unpd.cli.verbs`; calls the texts of the answers. Errors: UnpdError, as
in :mod:`unpd.cli.asking`. A change that was made is a success, also if standard output
does not take the words about it.
"""

import argparse
import contextlib
import os
import select
import time
from collections.abc import Callable
from typing import Any

from unpd.cli import events_text, preview_text, progress, reload_text, status_text, workers_text
from unpd.cli.asking import answer_as_json, as_json, checked, connect, request_of, status_now
from unpd.cli.output import complain, in_journal, show
from unpd.cli.progress import TICK_S, Progress
from unpd.cli.waiting import Wish, wait_for
from unpd.control.answer_fields import SCHEMA, mismatch
from unpd.control.client import (
    ANSWER_TIMEOUT_S,
    ControlClient,
    NotRunningError,
    RefusedError,
)
from unpd.control.reload_fields import PREVIEW
from unpd.control.status_fields import STATUS
from unpd.control.view_fields import EVENTS, LISTENERS, WAIT, WORKERS
from unpd.errors import UnpdError
from unpd.names import ExitCode


def stop(args: argparse.Namespace) -> int:
    """``unpd stop``: wait until the daemon's process is gone."""
    with contextlib.closing(connect(args)) as client:
        pidfd = _open_pidfd(client.daemon_pid())
        client.ask(request_of(args))
        if pidfd is not None:
            with Progress() as shown:
                _wait_exit(pidfd, client, lambda: _show(args, shown, progress.stopping))
    show("stopped" if pidfd is not None else "told to stop")
    return ExitCode.DONE


def _open_pidfd(pid: int) -> int | None:
    """Return None if there is no process to wait for: the daemon lives in another pid
    namespace (its pid is 0 here), it has just ended, or a filter refuses the call.
    """
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        return None


def _wait_exit(pidfd: int, client: ControlClient, meanwhile: Callable[[], None]) -> None:
    """Wait until the process has ended: then its pidfd is readable (pidfd_open(2)).
    SilentError if it stands still before that. ``meanwhile`` is called every second.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    probe_at = time.monotonic() + ANSWER_TIMEOUT_S
    while not poll.poll(TICK_S * 1000):
        if time.monotonic() >= probe_at:
            client.probe()
            probe_at = time.monotonic() + ANSWER_TIMEOUT_S
        meanwhile()
    os.close(pidfd)


def _show(args: argparse.Namespace, shown: Progress, text: Callable[[dict[str, Any]], str]) -> None:
    """Show how far the daemon is, if there is a terminal. The command itself notices a
    daemon that does not answer.
    """
    if shown.shows:
        with contextlib.suppress(UnpdError):
            shown.show(text(status_now(args)))


def reload(args: argparse.Namespace) -> int:
    """``unpd reload``: wait until the new configuration serves, and print what that has
    changed. Fail, with the reason, if the daemon refuses it. With --dry-run print what
    it would change.
    """
    with contextlib.closing(connect(args)) as client, Progress() as shown:
        try:
            answer = client.ask(
                request_of(args), meanwhile=lambda: _show(args, shown, progress.reloading)
            )
        except RefusedError as error:
            shown.show("")
            return _not_reloaded(args, error)
        except UnpdError as error:
            raise type(error)(f"reload failed: {error}") from error
    if args.dry_run:
        return _previewed(args, checked(answer.get("preview"), PREVIEW, "preview"))
    with_log = not in_journal()  # the daemon has written these lines there
    text = reload_text.as_text(answer, with_log=with_log)
    show(as_json(reload_text.as_fields(answer)) if args.json else text)
    if Progress().shows:
        with contextlib.suppress(UnpdError):
            _mention(progress.retired(status_now(args)))
    return ExitCode.DONE


def _mention(left: str) -> None:
    """Say what a reload has left, to a person."""
    if left:
        complain(f"{left}; unpd wait drained waits for their end", name="")


def _not_reloaded(args: argparse.Namespace, error: RefusedError) -> int:
    """Print why the daemon refuses, and what it logged meanwhile. A request that began
    no reload, because this user may not or the daemon stops, has no result in JSON.
    """
    preview = error.answer.get("preview")
    if args.json and args.dry_run:
        if isinstance(preview, dict) and not mismatch(preview, PREVIEW):
            show(as_json(preview))
    elif args.json:
        if "log" in error.answer:
            show(as_json(reload_text.as_fields(error.answer)))
    elif not in_journal() and (lines := list(reload_text.log_lines(error.answer))):
        complain("\n".join(lines), name="")
    complain(f"reload {'would fail' if args.dry_run else 'failed'}: {error}")
    return ExitCode.FAILED


def _previewed(args: argparse.Namespace, preview: dict[str, Any]) -> int:
    shown = show(as_json(preview) if args.json else preview_text.as_text(preview))
    if preview["reason"]:
        complain(f"reload would fail: {preview['reason']}")
    return ExitCode.DONE if shown and not preview["reason"] else ExitCode.FAILED


def status(args: argparse.Namespace) -> int:
    """``unpd status``: show the state of the daemon. If it answers, the exit code is 0;
    with --check only if it is well.
    """
    try:
        client = connect(args)
    except NotRunningError as error:
        complain(str(error))
        return ExitCode.NOT_RUNNING
    with contextlib.closing(client):
        shown = checked(client.ask(request_of(args)).get("status"), STATUS, "status")
    if not show(as_json(shown) if args.json else status_text.as_text(shown)):
        return ExitCode.FAILED
    well = shown["ready"] and not shown["degraded"]
    return ExitCode.DEGRADED if args.check and not well else ExitCode.DONE


def workers(args: argparse.Namespace) -> int:
    """``unpd workers``: list the processes."""
    with contextlib.closing(connect(args)) as client:
        children = checked(client.ask(request_of(args)), WORKERS)["children"]
    told = {"schema": SCHEMA, "children": children}
    shown = show(as_json(told) if args.json else workers_text.workers(children))
    return ExitCode.DONE if shown else ExitCode.FAILED


def listeners(args: argparse.Namespace) -> int:
    """``unpd listeners``: list the listeners."""
    with contextlib.closing(connect(args)) as client:
        found = checked(client.ask(request_of(args)), LISTENERS)["listeners"]
    told = {"schema": SCHEMA, "listeners": found}
    shown = show(as_json(told) if args.json else workers_text.listeners(found))
    return ExitCode.DONE if shown else ExitCode.FAILED


def events(args: argparse.Namespace) -> int:
    """``unpd events``: print each event as it comes. A reader who has gone ends it."""
    line_of = events_text.as_json if args.json else events_text.as_text
    with contextlib.closing(connect(args)) as client:
        for answer in client.ask_in_parts(request_of(args)):
            part = checked(answer, EVENTS)
            if complaint := events_text.gap(part["missed"]):
                complain(complaint)
            text = "\n".join(map(line_of, part["events"]))
            if text and not show(text):
                return ExitCode.FAILED
    return ExitCode.DONE


def wait(args: argparse.Namespace) -> int:
    """``unpd wait``: the exit code is the answer: NOT_RUNNING also if the daemon ends
    meanwhile, or if none starts in time.
    """
    try:
        answer = wait_for(args, Wish(args.condition, args.service, args.timeout))
    except NotRunningError as error:
        complain(str(error))
        return ExitCode.NOT_RUNNING
    if args.json:
        show(answer_as_json(answer, WAIT))
    if not answer["held"]:
        complain(f"not {args.condition}: {answer['why']}")
        return ExitCode.DEGRADED
    return ExitCode.DONE
