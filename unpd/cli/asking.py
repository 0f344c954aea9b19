"""What the commands share that ask a running daemon: the request, the connection, and
the check of an answer.

Called by the commands of the verbs. Calls :mod:`unpd.control.client`. Imports no
pydantic. Errors: UnpdError, from finding the control socket, from the daemon, or about
an answer that is none of this version.
"""

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from unpd.cli.configured import config_path, control_path, default_control
from unpd.cli.parser import values_of
from unpd.config.host import ROOT_RUNTIME_DIR
from unpd.config.source import names_of
from unpd.config.wording import file_shown
from unpd.control.answer_fields import SCHEMA, AnswerField, mismatch
from unpd.control.client import ControlClient, NotRunningError
from unpd.control.protocol import Request
from unpd.control.status_fields import STATUS
from unpd.control.verbs import VERBS
from unpd.errors import PrivilegeError, UnpdError

_PACKAGED = Path(f"{ROOT_RUNTIME_DIR}/control.sock")
_OTHER = "to reach another daemon, name its socket with --control"


def request_of(args: argparse.Namespace) -> Request:
    """Return the request that the command line asks for. Without --control it is for
    the daemon of one configuration file.
    """
    verb = VERBS[args.command]
    config = None if args.control is not None else config_path(args)
    return Request(verb.name, values_of(verb, args), names_of(config))


def connect(args: argparse.Namespace) -> ControlClient:
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


def asked(args: argparse.Namespace, fields: tuple[AnswerField, ...]) -> dict[str, Any]:
    """The daemon's answer to the command. UnpdError."""
    with contextlib.closing(connect(args)) as client:
        return checked(client.ask(request_of(args)), fields)


def status_now(args: argparse.Namespace) -> dict[str, Any]:
    """The status of the daemon of the command. UnpdError."""
    request = Request("status", {}, request_of(args).config)
    with contextlib.closing(connect(args)) as client:
        return checked(client.ask(request).get("status"), STATUS, "status")


def checked(answer: Any, fields: tuple[AnswerField, ...], name: str = "at all") -> dict[str, Any]:
    """Return the answer if it has every field of the table. UnpdError. ``name``: that
    of the field in which it stands, if it is a part of an answer.
    """
    wrong = mismatch(answer, fields) if isinstance(answer, dict) else name
    if wrong:
        raise UnpdError(
            f"the daemon's answer has no usable field {wrong}: the daemon may be of another version"
            " of unpd"
        )
    return dict(answer)


def as_json(answer: dict[str, Any]) -> str:
    """Return the answer as JSON in ASCII without a control character."""
    return json.dumps(answer, indent=2).replace("\x7f", "\\u007f")


def answer_as_json(answer: dict[str, Any], fields: tuple[AnswerField, ...]) -> str:
    """The fields of the table as JSON, with the number of the schema."""
    told = {field.name: answer[field.name] for field in fields}
    return as_json({"schema": SCHEMA, **told})
