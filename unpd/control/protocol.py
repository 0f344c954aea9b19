"""The framing of the control protocol, pure: one request line, one answer line, both
JSON objects of at most a bounded length.

``{"version": 1, "verb": "status"}`` is answered by ``{"version": 1, "ok": true,
"status": {...}}``, ``{"version": 1, "verb": "reload"}`` perhaps by ``{"version": 1,
"ok": false, "reason": "..."}``; ``stop`` may say ``"quick": true``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

VERSION = 1
MAX_REQUEST_BYTES = 4096

Verb = Literal["status", "reload", "stop"]
VERBS: Mapping[str, Verb] = MappingProxyType(
    {"status": "status", "reload": "reload", "stop": "stop"}
)


class ProtocolError(Exception):
    """The line is not a request of this version; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks of the daemon. ``quick`` belongs to stop."""

    verb: Verb
    quick: bool = False


def encode_request(request: Request) -> bytes:
    """The request as a line."""
    return _line({"verb": request.verb, "quick": request.quick})


def decode_request(line: bytes) -> Request:
    """The request on a line. ProtocolError if it is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("not a line of JSON") from None
    if not isinstance(said, dict) or said.get("version") != VERSION:
        raise ProtocolError(f"not a request of version {VERSION}")
    verb, quick = VERBS.get(str(said.get("verb"))), said.get("quick", False)
    if verb is None:
        raise ProtocolError(f"the verbs are {', '.join(VERBS)}")
    if not isinstance(quick, bool):
        raise ProtocolError("quick is true or false")
    return Request(verb, quick)


def encode_answer(**fields: Any) -> bytes:
    """An answer as a line."""
    return _line(fields)


def decode_answer(line: bytes) -> dict[str, Any]:
    """The answer on a line. ProtocolError if it is none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("the daemon's answer is not a line of JSON") from None
    if (
        not isinstance(said, dict)
        or said.get("version") != VERSION
        or not isinstance(said.get("ok"), bool)
    ):
        raise ProtocolError(
            f"the daemon's answer is not one of version {VERSION}: is it another version of unpd?"
        )
    return said


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **fields}, separators=(",", ":")).encode() + b"\n"
