"""The texts of the commands about live denials."""

from typing import Any

import pytest

from unpd.cli import denied_text

DENIAL: dict[str, Any] = {
    "network": "192.0.2.0/24",
    "since": "2026-11-29T16:00:00Z",
    "until": None,
    "reason": "",
    "uid": 4294967294,
    "service": None,
}


def answer(**fields: Any) -> dict[str, Any]:
    """The answer to deny, with some fields changed."""
    return {"denial": DENIAL, "replaced": False, "kicked": None, "silent": 0} | fields


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "192.0.2.0/24 is denied until it is taken back"),
        (
            {"denial": DENIAL | {"until": "2026-11-29T16:10:00Z"}, "replaced": True},
            "192.0.2.0/24 is denied until 2026-11-29T16:10:00Z, in the place of its denial before",
        ),
        (
            {"kicked": 1},
            "192.0.2.0/24 is denied until it is taken back\n1 open connection ended",
        ),
        (
            {"kicked": 0},
            "192.0.2.0/24 is denied until it is taken back\n0 open connections ended",
        ),
    ],
)
def test_a_denial_says_what_it_has_done(fields: dict[str, Any], text: str) -> None:
    """How long it holds, what it replaced, and how many connections have ended."""
    assert denied_text.denied(answer(**fields)) == text


def test_processes_that_did_not_answer_are_a_complaint() -> None:
    """Their connections may be open."""
    assert denied_text.silence(answer(kicked=3)) == ""
    assert denied_text.silence(answer(kicked=3, silent=1)).startswith("1 process did not answer:")
    assert denied_text.silence(answer(kicked=3, silent=2)).startswith("2 processes did not")


def test_what_was_taken_back_is_named() -> None:
    """As the list had it."""
    assert denied_text.undenied({"denial": DENIAL}) == "192.0.2.0/24 is no longer denied"


def test_the_list_is_a_table() -> None:
    """A line for each denial, in columns as wide as they need to be. A text of another
    user cannot control the terminal, or make a line of its own.
    """
    rows = [
        DENIAL,
        DENIAL
        | {
            "network": "2001:db8::7",
            "until": "2026-11-29T16:10:00Z",
            "reason": "a\n\x1b[2J",
            "uid": None,
            "service": "trap",
        },
    ]
    assert denied_text.table(rows).split("\n") == [
        "NETWORK       REASON      SINCE                 UNTIL                 BY",
        "192.0.2.0/24  -           2026-11-29T16:00:00Z  taken back            4294967294",
        r"2001:db8::7   a\n\x1b[2J  2026-11-29T16:00:00Z  2026-11-29T16:10:00Z  sensor trap",
    ]


def test_an_empty_list_says_so() -> None:
    """A header alone would look like a fault."""
    assert denied_text.table([]) == "no network is denied"
