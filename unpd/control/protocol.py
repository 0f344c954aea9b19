"""The requests and answers of the control protocol: one line each, both JSON objects of
bounded length.

Called by both ends, :mod:`unpd.control.server` and :mod:`unpd.control.client`; reads
the table of verbs to check a request; calls :mod:`unpd.json_lines`. Pure: bytes in,
values out. Errors: ProtocolError and no other, whatever the bytes are.

``{"version": 1, "verb": "status"}`` is answered by ``{"version": 1, "ok": true,
"status": {...}}``, ``{"version": 1, "verb": "reload"}`` perhaps by ``{"version": 1,
"ok": false, "reason": "..."}``. Arguments of a verb stand beside it:
``{"version": 1, "verb": "stop", "quick": true}``.

The answer to a verb of the sort :attr:`~unpd.control.verb.Answered.IN_PARTS` has
several lines, each of them a whole answer. In the last one ``more`` is false. Where
that line is missing, the answer was broken off.

A request may name the configuration file of the daemon that it means, so that it cannot
reach another daemon by mistake: ``"config": ["/etc/unpd/unpd.toml"]`` has every
absolute name of the file that the asking process knows (a symbolic link gives it a
second one). A daemon that knows its file by none of these names refuses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unpd.control import verbs
from unpd.control.verb import VerbError, checked
from unpd.json_lines import LineError, decode, encode

VERSION = 1
MAX_REQUEST_BYTES = 64 * 1024
"""Room for two paths of PATH_MAX bytes with every character escaped."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
RESERVED = ("version", "verb", "config")
"""The fields of a request that are not arguments."""


class ProtocolError(Exception):
    """The line is not a request, or not an answer, of this version; the text says
    why.
    """


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the daemon. A decoded one has a value for each argument of its
    verb. ``config``: the names of the daemon's configuration file, () for any daemon.
    """

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    config: tuple[str, ...] = ()


def encode_request(request: Request) -> bytes:
    """Return the request as a line. An argument with its default is left out, so that a
    daemon of an earlier version, which may lack it, understands the request.
    """
    config = {"config": request.config} if request.config else {}
    verb = verbs.VERBS.get(request.verb)
    defaults = {argument.name: argument.default for argument in verb.arguments} if verb else {}
    arguments = {
        name: value
        for name, value in request.arguments.items()
        if name not in defaults or value != defaults[name]
    }
    fields = {"version": VERSION, "verb": request.verb, **config, **arguments}
    return encode(fields)


def decode_request(line: bytes) -> Request:
    """Return the request on a line. ProtocolError if the line holds none."""
    fields = _fields(line, "the request")
    if fields.get("version") != VERSION:
        raise ProtocolError(f"the request is not of version {VERSION}")
    config = fields.get("config", [])
    if not isinstance(config, list) or not all(isinstance(name, str) for name in config):
        raise ProtocolError("config must be a list of names of a file")
    values = {name: value for name, value in fields.items() if name not in RESERVED}
    try:
        verb = verbs.find(fields.get("verb"))
        return Request(verb.name, checked(verb, values), tuple(config))
    except VerbError as error:
        raise ProtocolError(str(error)) from None


def encode_answer(**fields: Any) -> bytes:
    """Return an answer as a line."""
    return encode({"version": VERSION, **fields})


def decode_answer(line: bytes) -> dict[str, Any]:
    """Return the answer on a line. ProtocolError if the line holds none."""
    fields = _fields(line, "the daemon's answer")
    if fields.get("version") != VERSION or not isinstance(fields.get("ok"), bool):
        raise ProtocolError(
            f"the daemon's answer is not of version {VERSION}: the daemon may be of another"
            " version of unpd"
        )
    return fields


def _fields(line: bytes, subject: str) -> dict[str, Any]:
    try:
        return decode(line)
    except LineError as error:
        raise ProtocolError(f"{subject} is {error}") from None
