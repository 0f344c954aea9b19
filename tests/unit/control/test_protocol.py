"""The framing of the control protocol: what goes in comes out, and nothing else gets
in.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unpd.control.protocol import (
    MAX_REQUEST_BYTES,
    VERSION,
    ProtocolError,
    Request,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from unpd.control.verbs import VERBS

REQUESTS = [
    Request("workers"),
    Request("status", {"history": True}),
    Request("reload", {"all": False, "dry_run": True}),
    Request("reload", {"all": True, "dry_run": False}),
    Request("stop", {"quick": False}),
    Request("stop", {"quick": True}),
    Request("undeny", {"network": "2001:db8::/32"}),
    Request("deny", {"network": "::1", "for": None, "why": "söfort", "kick": True}),
    Request(
        "reload",
        {"all": False, "dry_run": False},
        config=("/etc/unpd/unpd.toml", "/srv/ü\udcff.toml"),
    ),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_a_request_comes_out_as_it_went_in(request_: Request) -> None:
    """As one line that is far within the limit."""
    line = encode_request(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) < MAX_REQUEST_BYTES
    assert decode_request(line) == request_


def test_the_longest_names_of_a_file_fit_into_a_request() -> None:
    """Two paths of PATH_MAX bytes, each of them escaped by JSON."""
    names = ("\udcff" * 4095, "\x01" * 4095)
    assert len(encode_request(Request("stop", {"quick": True}, names))) < MAX_REQUEST_BYTES


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (Request("status"), b'{"version":1,"verb":"status"}\n'),
        (Request("stop", {"quick": True}), b'{"version":1,"verb":"stop","quick":true}\n'),
        (
            Request("reload", {"all": True, "dry_run": False}),
            b'{"version":1,"verb":"reload","all":true}\n',
        ),
    ],
)
def test_a_request_on_the_wire(request_: Request, line: bytes) -> None:
    """An argument stands beside the verb, and a verb without arguments stands alone. A
    default is left out: a daemon of an earlier version may lack its argument.
    """
    assert encode_request(request_) == line


def test_a_request_may_leave_an_argument_out() -> None:
    """A line that a person wrote means the default."""
    assert decode_request(b'{"version": 1, "verb": "stop"}\n') == Request("stop", {"quick": False})


NO_JSON = "the request is not a line of JSON"
NO_OBJECT = "the request is not a JSON object"
NO_REQUEST = "the request is not of version 1"
NO_CONFIG = "config must be a list of names of a file"
NO_VERB = (
    "the verb must be one of stop, reload, status, workers, listeners, events, wait, deny,"
    " undeny, denied, explain, connections, kick, pause, resume, drain, log-level, scale, try"
)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", NO_JSON),
        (b"status\n", NO_JSON),
        (b"\xff\xfe\n", NO_JSON),
        (b'{"version": 1, "verb": "status"', NO_JSON),
        (b"[" * 3000, NO_JSON),
        (b"1" * 4095 + b"\n", NO_OBJECT),
        (b"null\n", NO_OBJECT),
        (b"[]\n", NO_OBJECT),
        (b'"status"\n', NO_OBJECT),
        (b'{"verb": "status"}\n', NO_REQUEST),
        (b'{"version": 2, "verb": "status"}\n', NO_REQUEST),
        (b'{"version": "1", "verb": "status"}\n', NO_REQUEST),
        (b'{"version": 1}\n', NO_VERB),
        (b'{"version": 1, "verb": "restart"}\n', NO_VERB),
        (b'{"version": 1, "verb": ["stop"]}\n', NO_VERB),
        (b'{"version": 1, "verb": "status", "config": "/a"}\n', NO_CONFIG),
        (b'{"version": 1, "verb": "status", "config": [1]}\n', NO_CONFIG),
        (b'{"version": 1, "verb": "status", "config": null}\n', NO_CONFIG),
        (b'{"version": 1, "verb": "stop", "quick": 1}\n', "quick must be true or false"),
        (b'{"version": 1, "verb": "stop", "quick": "no"}\n', "quick must be true or false"),
        (b'{"version": 1, "verb": "stop", "quick": null}\n', "quick must be true or false"),
        (
            b'{"version": 1, "verb": "stop", "quik": true}\n',
            "unknown argument 'quik': stop takes only quick",
        ),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(line: bytes, why: str) -> None:
    """Never taken for another one, never a crash."""
    with pytest.raises(ProtocolError, match=f"^{why}$"):
        decode_request(line)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
likely = st.sampled_from([*VERBS, VERSION, True, "", "quick", "ok"])
objects = st.dictionaries(
    st.sampled_from(["version", "verb", "quick", "ok", "reason"]) | st.text(), likely | values
)
nested = st.integers(1, 10_000).map(lambda depth: b"[" * depth + b"]" * depth)
lines = (
    st.binary(max_size=200)
    | values.map(lambda value: json.dumps(value).encode())
    | objects.map(lambda fields: json.dumps({"version": VERSION, **fields}).encode())
    | nested
    | nested.map(lambda inner: b'{"version":1,"verb":' + inner + b"}")
    | nested.map(lambda inner: b'{"version":1,"verb":"stop","quick":' + inner + b"}")
)


@given(lines)
@example(b'{"version":1,"verb":"denied"}')
def test_any_line_is_a_request_or_a_protocol_error(line: bytes) -> None:
    """Random bytes, random JSON and objects that are nearly requests raise nothing
    else; a request that comes out is of a verb in the table, with a value of the right
    type for each of its arguments and for no other, or None for a text left out.
    """
    with suppress(ProtocolError):
        request = decode_request(line)
        arguments = VERBS[request.verb].arguments
        assert list(request.arguments) == [argument.name for argument in arguments]
        for argument in arguments:
            value = request.arguments[argument.name]
            needed = argument.operand and not argument.optional
            assert type(value) is argument.type or (value is None and not needed)


@given(lines)
def test_any_line_is_an_answer_or_a_protocol_error(line: bytes) -> None:
    """Random bytes, random JSON and objects that are nearly answers raise nothing
    else.
    """
    with suppress(ProtocolError):
        assert isinstance(decode_answer(line)["ok"], bool)


@given(
    st.dictionaries(
        st.text().filter(lambda name: name not in ("version", "ok")),
        st.text() | st.integers() | st.booleans(),
    ),
    st.booleans(),
)
def test_an_answer_comes_out_as_it_went_in(fields: dict[str, Any], ok: bool) -> None:
    """As one line, whatever text is in it, with the version."""
    line = encode_answer(ok=ok, **fields)
    assert line.count(b"\n") == 1
    assert decode_answer(line) == {"version": VERSION, "ok": ok, **fields}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello\n",
        b"[" * 3000,
        b"[1]\n",
        b'{"ok": true}\n',
        b'{"version": 1}\n',
        b'{"version": 1, "ok": 1}\n',
        b'{"version": 9, "ok": true}\n',
    ],
)
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    """The client reports the fault instead of guessing."""
    with pytest.raises(ProtocolError):
        decode_answer(line)
