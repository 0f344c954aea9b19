"""The commands that ask a running daemon: a function for each verb, which waits for the
result and prints it.

Called by dispatch; calls :mod:`unpd.control.client`, :mod:`unpd.cli.status_text`,
:mod:`unpd.cli.reload_text`, :mod:`unpd.cli.preview_text`,
:mod:`unpd.cli.denied_text`, :mod:`unpd.cli.explained_text`,
:mod:`unpd.cli.workers_text`, :mod:`unpd.cli.events_text`,
:mod:`unpd.cli.connections_text`, :mod:`unpd.cli.ended_text`,
:mod:`unpd.cli.changes_text` and :mod:`unpd.cli.draining`.
``COMMANDS`` has the names of :data:`unpd.control.verbs.VERBS`, which a test compares.
Imports no pydantic. Errors: UnpdError, from finding the control socket, from the
daemon, or about an answer that is none of this version. A change that was made is a
success, also if standard output does not take the words about it.
"""

import argparse
import contextlib
import json
import math
import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unpd.access.advice import doubt
from unpd.cli import (
    changes_text,
    connections_text,
    denied_text,
    draining,
    ended_text,
    events_text,
    explained_text,
    preview_text,
    reload_text,
    status_text,
    trying,
    workers_text,
)
from unpd.cli.configured import config_path, control_path, default_control
from unpd.cli.output import complain, in_journal, show
from unpd.config.host import ROOT_RUNTIME_DIR
from unpd.config.source import names_of
from unpd.config.wording import file_shown
from unpd.control.change_fields import HALT, LEVEL, SCALE
from unpd.control.client import (
    ANSWER_TIMEOUT_S,
    BrokenOffError,
    ControlClient,
    NotRunningError,
    RefusedError,
)
from unpd.control.protocol import Request
from unpd.control.reload_fields import PREVIEW
from unpd.control.spans import span_s
from unpd.control.status_fields import (
    CONNECTIONS,
    DENIED,
    DENY,
    ENDED_PAGE,
    EXPLAINED,
    KICK,
    SCHEMA,
    STATUS,
    UNDENY,
    StatusField,
    mismatch,
)
from unpd.control.verbs import VERBS
from unpd.control.view_fields import EVENTS, LISTENERS, WAIT, WORKERS
from unpd.errors import PrivilegeError, UnpdError
from unpd.names import ExitCode

_PACKAGED = Path(f"{ROOT_RUNTIME_DIR}/control.sock")
_OTHER = "to reach another daemon, name its socket with --control"


def request_of(args: argparse.Namespace) -> Request:
    """Return the request that the command line asks for. Without --control it is for
    the daemon of one configuration file.
    """
    verb = VERBS[args.command]
    values = {argument.name: getattr(args, argument.name) for argument in verb.arguments}
    config = None if args.control is not None else config_path(args)
    return Request(verb.name, values, names_of(config))


def _connect(args: argparse.Namespace) -> ControlClient:
    """Connect to the daemon. If nobody named this one, NotRunningError says how to name
    another one.
    """
    path = control_path(args)
    try:
        return ControlClient(path)
    except PrivilegeError as error:
        raise PrivilegeError(f"unpd {args.command}: {error}") from None
    except NotRunningError as error:
        if args.control is not None:
            raise
        config = config_path(args)
        if config is not None and path != default_control(config):
            named = f"which the configuration {file_shown(config)} names (daemon.control)"
            raise NotRunningError(f"{error}, {named}; {_OTHER}") from None
        packaged = f" (the packaged one: --control {_PACKAGED})" if path != _PACKAGED else ""
        raise NotRunningError(
            f"{error}, the default path for this user; {_OTHER}{packaged}"
        ) from None


def stop(args: argparse.Namespace) -> int:
    """``unpd stop``: wait until the daemon's process is gone."""
    with contextlib.closing(_connect(args)) as client:
        pidfd = _open_pidfd(client.daemon_pid())
        client.ask(request_of(args))
        if pidfd is not None:
            _wait_exit(pidfd, client)
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


def _wait_exit(pidfd: int, client: ControlClient) -> None:
    """Wait until the process has ended: then its pidfd is readable (pidfd_open(2)).
    SilentError if it stands still before that.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    while not poll.poll(ANSWER_TIMEOUT_S * 1000):
        client.probe()
    os.close(pidfd)


def reload(args: argparse.Namespace) -> int:
    """``unpd reload``: wait until the new configuration serves, and print what that has
    changed. Fail, with the reason, if the daemon refuses it. With --dry-run print what
    it would change.
    """
    with contextlib.closing(_connect(args)) as client:
        try:
            answer = client.ask(request_of(args))
        except RefusedError as error:
            return _not_reloaded(args, error)
        except UnpdError as error:
            raise type(error)(f"reload failed: {error}") from error
    if args.dry_run:
        return _previewed(args, _checked(answer.get("preview"), PREVIEW))
    with_log = not in_journal()  # the daemon has written these lines there
    text = reload_text.as_text(answer, with_log=with_log)
    show(_as_json(reload_text.as_fields(answer)) if args.json else text)
    return ExitCode.DONE


def _not_reloaded(args: argparse.Namespace, error: RefusedError) -> int:
    """Print why the daemon refuses, and what it logged meanwhile."""
    if args.json and not args.dry_run:
        show(_as_json(reload_text.as_fields(error.answer)))
    elif not in_journal() and (lines := list(reload_text.log_lines(error.answer))):
        complain("\n".join(lines), name="")
    complain(f"reload {'would fail' if args.dry_run else 'failed'}: {error}")
    return ExitCode.FAILED


def _previewed(args: argparse.Namespace, preview: dict[str, Any]) -> int:
    shown = show(_as_json(preview) if args.json else preview_text.as_text(preview))
    if preview["restart"]:
        keys = ", ".join(preview["restart"])
        complain(f"reload would fail: {keys} cannot be changed by a reload: restart unpd")
    return ExitCode.DONE if shown and not preview["restart"] else ExitCode.FAILED


def status(args: argparse.Namespace) -> int:
    """``unpd status``: show the state of the daemon. If it answers, the exit code is 0;
    with --check only if it is well.
    """
    try:
        client = _connect(args)
    except NotRunningError as error:
        complain(str(error))
        return ExitCode.NOT_RUNNING
    with contextlib.closing(client):
        shown = _checked(client.ask(request_of(args)).get("status"), STATUS)
    if not show(_as_json(shown) if args.json else status_text.as_text(shown)):
        return ExitCode.FAILED
    well = shown["ready"] and not shown["degraded"]
    return ExitCode.DEGRADED if args.check and not well else ExitCode.DONE


def workers(args: argparse.Namespace) -> int:
    """``unpd workers``: list the processes."""
    with contextlib.closing(_connect(args)) as client:
        children = _checked(client.ask(request_of(args)), WORKERS)["children"]
    told = {"schema": SCHEMA, "children": children}
    shown = show(_as_json(told) if args.json else workers_text.workers(children))
    return ExitCode.DONE if shown else ExitCode.FAILED


def listeners(args: argparse.Namespace) -> int:
    """``unpd listeners``: list the listeners."""
    with contextlib.closing(_connect(args)) as client:
        found = _checked(client.ask(request_of(args)), LISTENERS)["listeners"]
    told = {"schema": SCHEMA, "listeners": found}
    shown = show(_as_json(told) if args.json else workers_text.listeners(found))
    return ExitCode.DONE if shown else ExitCode.FAILED


def events(args: argparse.Namespace) -> int:
    """``unpd events``: print each event as it comes. A reader who has gone ends it."""
    line_of = events_text.as_json if args.json else events_text.as_text
    with contextlib.closing(_connect(args)) as client:
        for answer in client.ask_in_parts(request_of(args)):
            part = _checked(answer, EVENTS)
            if complaint := events_text.gap(part["missed"]):
                complain(complaint)
            text = "\n".join(map(line_of, part["events"]))
            if text and not show(text):
                return ExitCode.FAILED
    return ExitCode.DONE


def wait(args: argparse.Namespace) -> int:
    """``unpd wait``: the exit code is the answer. A daemon that ends meanwhile does not
    run.
    """
    try:
        with contextlib.closing(_connect(args)) as client:
            answer = _checked(_answer_of(client, args), WAIT)
    except NotRunningError as error:
        complain(str(error))
        return ExitCode.NOT_RUNNING
    if not answer["held"]:
        complain(f"not {args.condition}: {answer['why']}")
        return ExitCode.DEGRADED
    return ExitCode.DONE


def _answer_of(client: ControlClient, args: argparse.Namespace) -> dict[str, Any]:
    """The daemon's answer. NotRunningError if it has ended before that."""
    try:
        return client.ask(request_of(args))
    except BrokenOffError:
        _connect(args).close()
        raise


def deny(args: argparse.Namespace) -> int:
    """``unpd deny``: print what it has done, and warn of an address that looks like a
    network. A process that does not end connections in time is no failure, for the
    network is denied.
    """
    with contextlib.closing(_connect(args)) as client:
        answer = _checked(client.ask(request_of(args)), DENY)
    show(denied_text.denied(answer))
    if warning := doubt(args.network):
        complain(warning, name="warning: ")
    if complaint := denied_text.silence(answer):
        complain(complaint)
    return ExitCode.DONE


def undeny(args: argparse.Namespace) -> int:
    """``unpd undeny``: fail if the network is not listed."""
    with contextlib.closing(_connect(args)) as client:
        answer = _checked(client.ask(request_of(args)), UNDENY)
    show(denied_text.undenied(answer))
    return ExitCode.DONE


def denied(args: argparse.Namespace) -> int:
    """``unpd denied``: ask for the list, page by page, and print it."""
    denials: list[dict[str, Any]] = []
    while True:
        with contextlib.closing(_connect(args)) as client:
            page = _checked(client.ask(request_of(args)), DENIED)
        denials += page["denials"]
        args.after = page["next"]
        if args.after is None:
            break
    text = _as_json({"denials": denials}) if args.json else denied_text.table(denials)
    return ExitCode.DONE if show(text) else ExitCode.FAILED


def connections(args: argparse.Namespace) -> int:
    """``unpd connections``: ask for the list, page by page, sort and print it. A
    process that does not answer is a failure, because the list lacks its connections.
    """
    if args.ended:
        return _ended(args)
    found: list[dict[str, Any]] = []
    silent: list[str] = []
    while True:
        with contextlib.closing(_connect(args)) as client:
            page = _checked(client.ask(request_of(args)), CONNECTIONS)
        found += page["connections"]
        silent += [page["silent"]] if page["silent"] else []
        args.after = page["next"]
        if args.after is None:
            break
    found = connections_text.sorted_by(args.sort, found)
    told = {"schema": SCHEMA, "connections": found, "silent": silent}
    shown = show(_as_json(told) if args.json else connections_text.table(found))
    for process in silent:
        complain(f"{process} did not answer: its connections are not listed")
    return ExitCode.DONE if shown and not silent else ExitCode.FAILED


def _ended(args: argparse.Namespace) -> int:
    """``unpd connections --ended``: those that have ended."""
    found: list[dict[str, Any]] = []
    while True:
        with contextlib.closing(_connect(args)) as client:
            page = _checked(client.ask(request_of(args)), ENDED_PAGE)
        found += page["ended"]
        args.after = page["next"]
        if args.after is None:
            break
    found = ended_text.sorted_by(args.sort, found)
    text = _as_json({"schema": SCHEMA, "ended": found}) if args.json else ended_text.table(found)
    return ExitCode.DONE if show(text) else ExitCode.FAILED


def kick(args: argparse.Namespace) -> int:
    """``unpd kick``: a process that does not answer is a failure."""
    with contextlib.closing(_connect(args)) as client:
        answer = _checked(client.ask(request_of(args)), KICK)
    show(connections_text.kicked(answer, dry_run=args.dry_run))
    if complaint := connections_text.silence(answer):
        complain(complaint)
    return ExitCode.FAILED if answer["silent"] else ExitCode.DONE


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
    answer = _asked(args, LEVEL)
    show(_answer_as_json(answer, LEVEL) if args.json else changes_text.level(answer))
    if complaint := changes_text.silence(answer):
        complain(complaint)
    return ExitCode.FAILED if answer["silent"] else ExitCode.DONE


def drain(args: argparse.Namespace) -> int:
    """``unpd drain``: wait until the open connections have ended. An interrupt ends the
    wait alone.
    """
    answer = _asked(args, HALT)
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
        show(_answer_as_json(answer, HALT))
    else:
        show(changes_text.drained(args.service, left))
    return ExitCode.DEGRADED if left else ExitCode.DONE


def _changed(
    args: argparse.Namespace,
    fields: tuple[StatusField, ...],
    text: Callable[[dict[str, Any]], str],
) -> int:
    answer = _asked(args, fields)
    show(_answer_as_json(answer, fields) if args.json else text(answer))
    return ExitCode.DONE


def _asked(args: argparse.Namespace, fields: tuple[StatusField, ...]) -> dict[str, Any]:
    """The daemon's answer to the command. UnpdError."""
    with contextlib.closing(_connect(args)) as client:
        return _checked(client.ask(request_of(args)), fields)


def _status_of(args: argparse.Namespace) -> dict[str, Any]:
    request = Request("status", {}, request_of(args).config)
    with contextlib.closing(_connect(args)) as client:
        return _checked(client.ask(request).get("status"), STATUS)


def _answer_as_json(answer: dict[str, Any], fields: tuple[StatusField, ...]) -> str:
    told = {field.name: answer[field.name] for field in fields}
    return _as_json({"schema": SCHEMA, **told})


def explain(args: argparse.Namespace) -> int:
    """``unpd explain``: ask the daemon, or with --config the rules of that file."""
    path = config_path(args) if args.config is not None else None
    if path is not None:
        answer = explained_text.from_rules(path, args.peer, args.service)
    else:
        with contextlib.closing(_connect(args)) as client:
            answer = _checked(client.ask(request_of(args)), EXPLAINED)
            answer = {field.name: answer[field.name] for field in EXPLAINED}
    text = _as_json(answer) if args.json else explained_text.text(answer)
    return ExitCode.DONE if show(text) else ExitCode.FAILED


def try_(args: argparse.Namespace) -> int:
    """``unpd try``: by the daemon, or without one by this command itself."""
    try:
        client = _connect(args)
    except NotRunningError as error:
        return trying.by_itself(args, error)
    with contextlib.closing(client):
        return trying.by_daemon(client, request_of(args))


def _checked(answer: Any, fields: tuple[StatusField, ...]) -> dict[str, Any]:
    """Return the answer if it has every field of the table. UnpdError."""
    wrong = mismatch(answer, fields)
    if wrong:
        raise UnpdError(
            f"the daemon's answer has no usable field {wrong}: the daemon may be of another version"
            " of unpd"
        )
    return dict(answer)


def _as_json(answer: dict[str, Any]) -> str:
    """Return the answer as JSON in ASCII without a control character."""
    return json.dumps(answer, indent=2).replace("\x7f", "\\u007f")


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {
        "stop": stop,
        "reload": reload,
        "status": status,
        "workers": workers,
        "listeners": listeners,
        "events": events,
        "wait": wait,
        "deny": deny,
        "undeny": undeny,
        "denied": denied,
        "explain": explain,
        "connections": connections,
        "kick": kick,
        "pause": pause,
        "resume": resume,
        "drain": drain,
        "log-level": log_level,
        "scale": scale,
        "try": try_,
    }
)
"""The command of each verb."""
