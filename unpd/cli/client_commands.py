"""The commands about clients and their connections: a function for each verb, which
waits for the result and prints it.

Called by :mod:`unpd.cli.verbs`; calls the texts of the answers. Errors: UnpdError, as
in :mod:`unpd.cli.asking`. A change that was made is a success, also if standard output
does not take the words about it.
"""

import argparse
import contextlib
from typing import Any

from unpd.access.advice import doubt
from unpd.cli import connections_text, denied_text, ended_text, explained_text
from unpd.cli.asking import answer_as_json, as_json, checked, connect, request_of
from unpd.cli.configured import config_path
from unpd.cli.output import complain, show
from unpd.control.answer_fields import SCHEMA
from unpd.control.client_fields import (
    CONNECTIONS,
    DENIED,
    DENY,
    ENDED_PAGE,
    EXPLAINED,
    KICK,
    UNDENY,
)
from unpd.names import ExitCode


def deny(args: argparse.Namespace) -> int:
    """``unpd deny``: print what it has done, and warn of an address that looks like a
    network. A process that does not end connections in time is no failure, for the
    network is denied.
    """
    with contextlib.closing(connect(args)) as client:
        answer = checked(client.ask(request_of(args)), DENY)
    show(denied_text.denied(answer))
    if warning := doubt(args.network):
        complain(warning, name="warning: ")
    if complaint := denied_text.silence(answer):
        complain(complaint)
    return ExitCode.DONE


def undeny(args: argparse.Namespace) -> int:
    """``unpd undeny``: fail if the network is not listed."""
    with contextlib.closing(connect(args)) as client:
        answer = checked(client.ask(request_of(args)), UNDENY)
    show(denied_text.undenied(answer))
    return ExitCode.DONE


def denied(args: argparse.Namespace) -> int:
    """``unpd denied``: ask for the list, page by page, and print it."""
    denials: list[dict[str, Any]] = []
    while True:
        with contextlib.closing(connect(args)) as client:
            page = checked(client.ask(request_of(args)), DENIED)
        denials += page["denials"]
        args.after = page["next"]
        if args.after is None:
            break
    text = as_json({"denials": denials}) if args.json else denied_text.table(denials)
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
        with contextlib.closing(connect(args)) as client:
            page = checked(client.ask(request_of(args)), CONNECTIONS)
        found += page["connections"]
        silent += [page["silent"]] if page["silent"] else []
        args.after = page["next"]
        if args.after is None:
            break
    found = connections_text.sorted_by(args.sort, found)
    told = {"schema": SCHEMA, "connections": found, "silent": silent}
    shown = show(as_json(told) if args.json else connections_text.table(found))
    for process in silent:
        complain(f"{process} did not answer: its connections are not listed")
    return ExitCode.DONE if shown and not silent else ExitCode.FAILED


def _ended(args: argparse.Namespace) -> int:
    """``unpd connections --ended``: those that have ended."""
    found: list[dict[str, Any]] = []
    while True:
        with contextlib.closing(connect(args)) as client:
            page = checked(client.ask(request_of(args)), ENDED_PAGE)
        found += page["ended"]
        args.after = page["next"]
        if args.after is None:
            break
    found = ended_text.sorted_by(args.sort, found)
    text = as_json({"schema": SCHEMA, "ended": found}) if args.json else ended_text.table(found)
    return ExitCode.DONE if show(text) else ExitCode.FAILED


def kick(args: argparse.Namespace) -> int:
    """``unpd kick``: a process that does not answer is a failure."""
    with contextlib.closing(connect(args)) as client:
        answer = checked(client.ask(request_of(args)), KICK)
    told = connections_text.kicked(answer, dry_run=args.dry_run)
    show(answer_as_json(answer, KICK) if args.json else told)
    if complaint := connections_text.silence(answer):
        complain(complaint)
    return ExitCode.FAILED if answer["silent"] else ExitCode.DONE


def explain(args: argparse.Namespace) -> int:
    """``unpd explain``: ask the daemon, or with --config the rules of that file."""
    path = config_path(args) if args.config is not None else None
    if path is not None:
        answer = explained_text.from_rules(path, args.peer, args.service)
    else:
        with contextlib.closing(connect(args)) as client:
            answer = checked(client.ask(request_of(args)), EXPLAINED)
            answer = {field.name: answer[field.name] for field in EXPLAINED}
    text = as_json(answer) if args.json else explained_text.text(answer)
    return ExitCode.DONE if show(text) else ExitCode.FAILED
