"""The live denials as the text of a file."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpd.access import stored_denials
from unpd.access.denials import Denial, Denials
from unpd.access.network import Network
from unpd.access.stored_denials import MAX_BAD_LINES, MAX_LINE_BYTES, BadLine, Storer, restore
from unpd.names import MAX_DENIALS, NAME_RULE

EPOCH_S = 1_700_000_000.0
"""When the clock of these tests was 0, since the epoch."""
HEADER = '{"unpd_denials": 1, "count": %d}'
GOOD: dict[str, Any] = {
    "network": "192.0.2.0/24",
    "since": EPOCH_S + 10,
    "until": EPOCH_S + 610.5,
    "reason": "a scan",
    "uid": 0,
}


def denial(text: str = "192.0.2.0/24", **fields: Any) -> Denial:
    """That of the line GOOD, with some fields changed."""
    own: dict[str, Any] = {"since": 10.0, "until": 610.5, "reason": "a scan", "uid": 0}
    return Denial(network=Network.parse(text), **(own | fields))


def text_of(*lines: dict[str, Any] | str, count: int | None = None) -> str:
    """A file with these lines."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return "\n".join([HEADER % (len(lines) if count is None else count), *texts, ""])


def restored(text: str, now: float = 600.0) -> tuple[list[Denial], list[BadLine]]:
    """What a text holds at a time."""
    denials = Denials()
    bad = restore(text, denials, now, EPOCH_S)
    return denials.after(None, 100), bad


NOW = 10**6
REASONS = st.text(max_size=20).filter(str.isprintable)
DENIALS = st.builds(
    Denial,
    network=st.builds(
        Network.around, st.just(6), st.integers(0, (1 << 128) - 1), st.integers(0, 128)
    ).map(lambda network: Network.parse(str(network))),
    since=st.integers(0, NOW).map(float),
    until=st.none() | st.integers(NOW + 1, 2 * NOW).map(float),
    reason=REASONS,
    uid=st.integers(0, (1 << 32) - 1),
) | st.builds(
    Denial,
    network=st.builds(Network.around, st.just(4), st.integers(0, (1 << 32) - 1), st.just(32)),
    since=st.integers(0, NOW).map(float),
    until=st.integers(NOW + 1, 2 * NOW).map(float),
    service=st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True),
)


@given(st.lists(DENIALS, max_size=10), st.integers(0, 5))
def test_what_is_stored_is_restored(given_denials: list[Denial], kept: int) -> None:
    """Every field of every denial, after changes of the list too. The text has one line
    for each, so that a line number leads to it.
    """
    denials, storer = Denials(), Storer()
    for each in given_denials:
        denials.add(each)
        storer.text(denials, EPOCH_S)
    for each in denials.after(None, 100)[kept:]:
        denials.remove(each.network)
    text = storer.text(denials, EPOCH_S)
    assert text.count("\n") == len(denials) + 1
    assert restored(text, now=NOW) == (denials.after(None, 100), [])


def test_the_times_are_those_of_the_wall_clock() -> None:
    """The next master's clock begins elsewhere. If the wall clock is set, the lines
    that are known already have the new times too.
    """
    denials, storer = Denials(), Storer()
    denials.add(denial())
    assert json.loads(storer.text(denials, EPOCH_S).splitlines()[1]) == GOOD
    later = json.loads(storer.text(denials, EPOCH_S + 3600).splitlines()[1])
    assert (later["since"], later["until"]) == (GOOD["since"] + 3600, GOOD["until"] + 3600)
    other = Denials()
    restore(text_of(GOOD), other, 600.0, EPOCH_S - 5)
    assert other.after(None, 1) == [denial(since=15.0, until=615.5)]


def test_no_denial_lasts_longer_than_it_was_made_for() -> None:
    """Whatever the wall clock says at the start: 1970, on a machine without a clock of
    its own. Then it begins again.
    """
    now, denials = 50.0, Denials()
    lines = (GOOD, GOOD | {"network": "::1", "until": None})
    assert restore(text_of(*lines), denials, now, epoch_s=0.0) == []
    found = denials.after(None, 100)
    assert found == [denial(since=now, until=now + 600.5), denial("::1", since=now, until=None)]


def test_denials_that_are_over_are_left_out() -> None:
    """They ended while no daemon ran."""
    text = text_of(GOOD, GOOD | {"network": "::1", "until": None})
    assert restored(text, now=610.5) == ([denial("::1", until=None)], [])


def test_a_live_denial_is_newer_than_a_stored_one() -> None:
    """A reload that names a file adds to the list, and changes nothing there."""
    denials = Denials()
    denials.add(denial(reason="newer"))
    assert restore(text_of(GOOD), denials, 0.0, EPOCH_S) == []
    assert denials.after(None, 1) == [denial(reason="newer")]


@pytest.mark.parametrize("reason", ["\U00020000" * 200, '"' * 200])
def test_the_longest_denial_has_room_in_a_line(reason: str) -> None:
    """A file of ours is always read whole."""
    denials = Denials()
    network = Network(6, (1 << 128) - 1, 128)
    denials.add(Denial(network=network, since=0.1234, until=1e9, reason=reason, service="s" * 32))
    text = Storer().text(denials, EPOCH_S)
    assert max(len(line.encode()) for line in text.splitlines()) <= MAX_LINE_BYTES
    found, bad = restored(text)
    assert ([each.reason for each in found], bad) == ([reason], [])


@pytest.mark.parametrize(
    ("rest", "most"),
    [
        ("\n" * (1 << 20), MAX_BAD_LINES),
        (("[" * 1000 + "\n") * MAX_DENIALS, MAX_BAD_LINES),
        ("x" * (1 << 20), 2),
    ],
)
def test_a_hostile_text_costs_little(rest: str, most: int) -> None:
    """It is given up after some bad lines. The denials before them hold."""
    found, bad = restored(text_of(GOOD) + rest)
    assert found == [denial()]
    assert 2 <= len(bad) <= most


def test_more_lines_than_denials_can_be_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line stands for all of them."""
    assert stored_denials.MAX_LINES == MAX_DENIALS + 1
    monkeypatch.setattr(stored_denials, "MAX_LINES", 4)
    lines = [GOOD | {"network": f"192.0.2.{number}"} for number in range(3)]
    assert [len(part) for part in restored(text_of(*lines))] == [3, 0]
    found, bad = restored(text_of(*lines, GOOD, GOOD, count=4))
    assert len(found) == 3
    assert bad == [BadLine(5, "more than 65536 denials are no list of ours")]


def test_a_full_list_is_no_loss_in_silence() -> None:
    """A line for which there is no room is one of those that are reported."""
    denials = Denials(limit=1)
    bad = restore(text_of(GOOD, GOOD | {"network": "::1"}), denials, 0.0, EPOCH_S)
    assert [line.number for line in bad] == [3]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "it is no line of JSON"),
        ("{", "it is no line of JSON"),
        ("[" * 1000, "it is no line of JSON"),
        ("[" * 100_000, "it is longer than 1024 bytes"),
        (GOOD | {"reason": "x" * 5_000_000}, "it is longer than 1024 bytes"),
        (GOOD | {"uid": None, "service": "Trap"}, f"the name of a service {NAME_RULE}"),
        (GOOD | {"uid": None, "service": "s" * 33}, f"the name of a service {NAME_RULE}"),
        ("[]", "it is no JSON object"),
        ({}, "since must be a time in seconds since the epoch"),
        (GOOD | {"since": "today"}, "since must be a time in seconds since the epoch"),
        (GOOD | {"since": True}, "since must be a time in seconds since the epoch"),
        (GOOD | {"until": float("nan")}, "until must be a time in seconds since the epoch"),
        (GOOD | {"until": float("inf")}, "until must be a time in seconds since the epoch"),
        (GOOD | {"until": -1}, "until must be a time in seconds since the epoch"),
        (GOOD | {"until": 10**400}, "until must be a time in seconds since the epoch"),
        (GOOD | {"network": 7}, "network, reason and service must be text"),
        (GOOD | {"reason": None}, "network, reason and service must be text"),
        (GOOD | {"service": 7}, "network, reason and service must be text"),
        (GOOD | {"uid": -1}, "uid must be the number of a user"),
        (GOOD | {"uid": True}, "uid must be the number of a user"),
        (GOOD | {"uid": None}, "it must have either a uid or a service"),
        (GOOD | {"service": "trap"}, "it must have either a uid or a service"),
        (GOOD | {"reason": "\x1b[2J"}, "the reason must be one line without control characters"),
        (
            GOOD | {"network": "192.0.2.7/24"},
            (
                '"192.0.2.7/24" has bits beyond its prefix length: write "192.0.2.0/24" for the'
                ' network, or "192.0.2.7" for the address'
            ),
        ),
    ],
)
def test_a_bad_line_is_named_and_the_others_hold(line: dict[str, Any] | str, reason: str) -> None:
    """One line that was damaged does not let the other networks in."""
    text = text_of(line, GOOD | {"network": "::1", "until": None})
    assert restored(text) == ([denial("::1", until=None)], [BadLine(2, reason)])


@pytest.mark.parametrize(
    ("text", "reason", "held"),
    [
        ("", "it is no line of JSON", 0),
        ("{}\n", 'it must begin with {"unpd_denials": 1}', 0),
        ('{"unpd_denials": 2, "count": 0}\n', 'it must begin with {"unpd_denials": 1}', 0),
        (
            text_of(GOOD, count=2),
            "it announces another number of denials than the 1 that follow",
            1,
        ),
        (text_of(count=1), "it announces another number of denials than the 0 that follow", 0),
    ],
)
def test_a_file_that_was_cut_is_noticed(text: str, reason: str, held: int) -> None:
    """Also where it was cut between two lines. What is left of it holds."""
    found, wrong = restored(text)
    assert (len(found), wrong) == (held, [BadLine(1, reason)])


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_no_text_is_a_failure(text: str) -> None:
    """Whatever a file holds, the daemon starts."""
    restored(text)
    restored(text_of(text))
