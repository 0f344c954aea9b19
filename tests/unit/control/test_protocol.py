"""The framing of the control protocol: what goes in comes out, and nothing else gets
in.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.control.protocol import (
    MAX_REQUEST_BYTES,
    VERBS,
    VERSION,
    ProtocolError,
    Request,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)


@pytest.mark.parametrize("verb", list(VERBS.values()))
@pytest.mark.parametrize("quick", [False, True])
def test_a_request_comes_out_as_it_went_in(verb: Any, quick: bool) -> None:
    """As one line that is far within the limit."""
    line = encode_request(Request(verb, quick))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) < MAX_REQUEST_BYTES
    assert decode_request(line) == Request(verb, quick)


def test_a_request_may_leave_quick_out() -> None:
    """Somebody writes it by hand."""
    assert decode_request(b'{"version": 1, "verb": "stop"}\n') == Request("stop", quick=False)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not a line of JSON"),
        (b"status\n", "not a line of JSON"),
        (b"\xff\xfe\n", "not a line of JSON"),
        (b'{"version": 1, "verb": "status"', "not a line of JSON"),
        (b"[" * 3000, "not a line of JSON"),
        (b"1" * 4095 + b"\n", "not a request of version 1"),
        (b"null\n", "not a request of version 1"),
        (b"[]\n", "not a request of version 1"),
        (b'"status"\n', "not a request of version 1"),
        (b'{"verb": "status"}\n', "not a request of version 1"),
        (b'{"version": 2, "verb": "status"}\n', "not a request of version 1"),
        (b'{"version": "1", "verb": "status"}\n', "not a request of version 1"),
        (b'{"version": 1}\n', "the verbs are status, reload, stop"),
        (b'{"version": 1, "verb": "restart"}\n', "the verbs are status, reload, stop"),
        (b'{"version": 1, "verb": ["stop"]}\n', "the verbs are status, reload, stop"),
        (b'{"version": 1, "verb": "stop", "quick": 1}\n', "quick is true or false"),
        (b'{"version": 1, "verb": "stop", "quick": "no"}\n', "quick is true or false"),
        (b'{"version": 1, "verb": "stop", "quick": null}\n', "quick is true or false"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(line: bytes, why: str) -> None:
    """Never taken for another one, never a crash."""
    with pytest.raises(ProtocolError, match=f"^{why}$"):
        decode_request(line)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary(max_size=200) | junk.map(lambda value: json.dumps(value).encode()))
def test_junk_is_refused_or_means_something(line: bytes) -> None:
    """Any bytes are a request, or a ProtocolError."""
    with suppress(ProtocolError):
        assert decode_request(line).verb in VERBS
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
        b"[1]\n",
        b'{"ok": true}\n',
        b'{"version": 1}\n',
        b'{"version": 1, "ok": 1}\n',
        b'{"version": 9, "ok": true}\n',
    ],
)
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    """The client says so instead of guessing."""
    with pytest.raises(ProtocolError):
        decode_answer(line)
