"""The formats that journald reads: no value can break an entry or a line, and every
name is valid.
"""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_journald import parse
from unpd.kernel import journal

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
NAMES = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,20}\Z")


def test_an_entry() -> None:
    """An entry begins with priority and message; each field is a line."""
    assert (
        journal.entry(6, "some.event a=1", [("UNPD_A", "1"), ("UNPD_B", "")])
        == b"PRIORITY=6\nMESSAGE=some.event a=1\nUNPD_A=1\nUNPD_B=\n"
    )


def test_a_value_of_several_lines() -> None:
    """A value with line feeds has the binary form: the name, eight bytes of length,
    little-endian, and the value.
    """
    assert journal.entry(3, "x", [("UNPD_TRACE", "a\nb=c")]).endswith(
        b"UNPD_TRACE\n\x05\0\0\0\0\0\0\0a\nb=c\n"
    )


@given(st.integers(0, 7), st.lists(st.tuples(NAMES, ANY_TEXT)))
def test_no_value_breaks_the_framing(priority: int, fields: list[tuple[str, str]]) -> None:
    """Whatever the values hold, journald reads exactly the fields that were sent, in
    their order; a lone surrogate arrives escaped.
    """
    sent = [(name, value.encode("utf-8", "backslashreplace").decode()) for name, value in fields]
    assert parse(journal.entry(priority, "a message", fields)) == (
        ("PRIORITY", str(priority)),
        ("MESSAGE", "a message"),
        *sent,
    )


@given(st.text(st.characters(), max_size=100))
def test_every_name_is_valid(text: str) -> None:
    """A name has capitals, digits and underscores only, at most 64."""
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", journal.field_name(f"unpd_{text}"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("unpd_event", "UNPD_EVENT"),
        ("unpd_respawn_in_s", "UNPD_RESPAWN_IN_S"),
        ("unpd_a-b=c\n", "UNPD_A_B_C_"),
    ],
)
def test_a_name_stays_recognizable(text: str, name: str) -> None:
    """Only the case and the invalid characters of a name change."""
    assert journal.field_name(text) == name


def test_an_entry_as_a_line() -> None:
    """The line has the priority in angle brackets and the message, whatever the other
    fields are.
    """
    assert (
        journal.as_line(
            journal.entry(4, "worker.died pool=default", [("UNPD_TRACE", "a\nMESSAGE=b")])
        )
        == b"<4>worker.died pool=default\n"
    )


def test_the_stream_is_known_by_device_and_inode(tmp_path: Path) -> None:
    """A descriptor leads to the journal if device and inode match. A redirected or
    closed descriptor does not, nor any without the variable.
    """
    with (tmp_path / "a").open("wb") as stream, (tmp_path / "b").open("wb") as other:
        status = os.fstat(stream.fileno())
        journal_stream = f"{status.st_dev}:{status.st_ino}"
        assert journal.reads(stream.fileno(), journal_stream)
        assert not journal.reads(other.fileno(), journal_stream)
        assert not journal.reads(stream.fileno(), None)
        assert not journal.reads(stream.fileno(), "")
        closed = os.dup(stream.fileno())
        os.close(closed)
        assert not journal.reads(closed, journal_stream)
