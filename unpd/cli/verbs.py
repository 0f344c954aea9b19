"""The commands that ask a running daemon: a function for each verb, which waits for the
result and prints it.

Called by dispatch; calls :mod:`unpd.control.client`, :mod:`unpd.cli.status_text`,
:mod:`unpd.cli.reload_text`, :mod:`unpd.cli.denied_text`,
:mod:`unpd.cli.explained_text`, :mod:`unpd.cli.connections_text` and
:mod:`unpd.cli.ended_text`.
``COMMANDS`` has the names of :data:`unpd.control.verbs.VERBS`, which a test compares.
Imports no pydantic. Errors: UnpdError, from finding the control socket, from the
daemon, or about an answer that is none of this version. A change that was made is a
success, also if standard output does not take the words about it.
"""

import argparse
import contextlib
import json
import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unpd.access.advice import doubt
from unpd.cli import (
    connections_text,
    denied_text,
    ended_text,
    explained_text,
    reload_text,
    status_text,
    trying,
)
from unpd.cli.configured import config_path, control_path, default_control
from unpd.cli.output import complain, show
from unpd.config.host import ROOT_RUNTIME_DIR
from unpd.config.source import names_of
from unpd.config.wording import file_shown
from unpd.control.client import ANSWER_TIMEOUT_S, ControlClient, NotRunningError
from unpd.control.protocol import Request
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
from unpd.errors import UnpdError
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
    changed. Fail, with the reason, if the daemon refuses it.
    """
    with contextlib.closing(_connect(args)) as client:
        try:
            answer = client.ask(request_of(args))
        except UnpdError as error:
            raise type(error)(f"reload failed: {error}") from error
    fields = {name: answer.get(name) for name in ("generation", "changes")}
    show(_as_json(fields) if args.json else reload_text.as_text(answer))
    return ExitCode.DONE


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
        "deny": deny,
        "undeny": undeny,
        "denied": denied,
        "explain": explain,
        "connections": connections,
        "kick": kick,
        "try": try_,
    }
)
"""The command of each verb."""
