"""The framing of the control protocol: one request line, one answer line, both JSON
objects of bounded length.

Called by both ends, :mod:`unpd.control.server` and :mod:`unpd.control.client`; reads
the table of verbs to check a request. Pure: bytes in, values out. Errors: ProtocolError
and no other, whatever the bytes are.

``{"version": 1, "verb": "status"}`` is answered by ``{"version": 1, "ok": true,
"status": {...}}``, ``{"version": 1, "verb": "reload"}`` perhaps by ``{"version": 1,
"ok": false, "reason": "..."}``. Arguments of a verb stand beside it:
``{"version": 1, "verb": "stop", "quick": true}``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unpd.control import verbs
from unpd.control.verbs import VerbError

VERSION = 1
MAX_REQUEST_BYTES = 4096
RESERVED = ("version", "verb")
"""The fields of a request that are not arguments."""


class ProtocolError(Exception):
    """The line is not a request, or not an answer, of this version; the text says
    why.
    """


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the daemon. A decoded one has a value for each argument of its
    verb.
    """

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def encode_request(request: Request) -> bytes:
    """Return the request as a line."""
    return _line({"verb": request.verb, **request.arguments})


def decode_request(line: bytes) -> Request:
    """Return the request on a line. ProtocolError if the line holds none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("the request is not a line of JSON") from None
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise ProtocolError(f"the request is not of version {VERSION}")
    values = {name: value for name, value in fields.items() if name not in RESERVED}
    try:
        verb = verbs.find(fields.get("verb"))
        return Request(verb.name, verbs.checked(verb, values))
    except VerbError as error:
        raise ProtocolError(str(error)) from None


def encode_answer(**fields: Any) -> bytes:
    """Return an answer as a line."""
    return _line(fields)


def decode_answer(line: bytes) -> dict[str, Any]:
    """Return the answer on a line. ProtocolError if the line holds none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("the daemon's answer is not a line of JSON") from None
    if (
        not isinstance(fields, dict)
        or fields.get("version") != VERSION
        or not isinstance(fields.get("ok"), bool)
    ):
        raise ProtocolError(
            f"the daemon's answer is not of version {VERSION}: the daemon may be of another"
            " version of unpd"
        )
    return fields


def _line(fields: Mapping[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **fields}, separators=(",", ":")).encode() + b"\n"
