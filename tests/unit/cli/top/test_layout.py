"""The lines of the screen and of the plain text."""

import re
from dataclasses import replace
from typing import Any

import pytest

from tests.support.statuses import answered, child, event, lately, service, status
from unpd.cli.top.answers import Answers
from unpd.cli.top.columns import COLUMNS, make_tables
from unpd.cli.top.layout import Line, Size, bounded, page, plain, text_of
from unpd.cli.top.view import HELP_PAGES, KEYS, View, followed, pressed
from unpd.names import LiveChange

SIZE = Size(100, 30)
BUSY = answered(
    status(services=[service("echo")], children=[child(birth) for birth in range(40)]),
    status(
        services=[service("echo", accepted=20, active=3, received_bytes=1)],
        children=[child(birth) for birth in range(40)],
    ),
)
TABLES = make_tables(BUSY, {}, "")
CHARTED = answered(
    status(
        services=[service("echo")],
        children=[child(birth) for birth in range(40)],
        **{**lately(range(600), active=[5] * 600), "events": [event(2), event(1)]},
    )
)
"""With a history, and with events."""


def drawn(
    *keys: str, answers: Answers | None = BUSY, trouble: str = "", size: Size = SIZE
) -> list[Line]:
    """The screen after these keys."""
    view = View()

    def tables() -> Any:
        return make_tables(answers, view.orders, view.wanted) if answers else ()

    view = followed(view, tables())
    for key in keys:
        view = pressed(view, key, tables())
        view = followed(view, tables())
    return page(view, answers, tables(), trouble, size)


def texts(*keys: str, **how: Any) -> list[str]:
    """The same without styles."""
    return [text_of(line) for line in drawn(*keys, **how)]


def test_the_screen_begins_with_the_daemon() -> None:
    """Then come sums, the facts of the status page, services, children, and at the
    bottom the keys.
    """
    lines = texts()
    assert lines[0] == "unpd 1.2.3: ready, generation 3, up 12s, pid 7"
    assert lines[1].startswith("connections: 3 open, 10 accepted/s, 0 refused/s")
    assert lines[2] == "heartbeat 0.4 s ago, zombies 0, denied networks 0, log lines lost 0"
    assert lines[4].startswith("SERVICE  OPEN")
    assert lines[5].startswith("echo        3")
    assert lines[7].startswith("KIND    SLOT")
    assert lines[-1].startswith("? help  q leave")
    assert len(lines) == SIZE.height


def test_the_sums_say_what_is_only_observed() -> None:
    """If anything is."""
    assert not any("would refuse" in line for line in texts())
    before, after = (
        status(services=[service("echo", would_refuse=count), service("time", would_refuse=0)])
        for count in (0, 20)
    )
    assert texts(answers=answered(before, after))[1].startswith(
        "connections: 0 open, 0 accepted/s, 0 refused/s, 10 would refuse/s, 0 datagrams/s"
    )


@pytest.mark.parametrize("width", [1, 10, 40, 300])
@pytest.mark.parametrize("height", [1, 3, 10, 100])
@pytest.mark.parametrize("keys", [(), ("end",), ("?",), ("enter",), ("/", "w")])
@pytest.mark.parametrize("answers", [BUSY, CHARTED])
def test_it_fits_every_terminal(
    width: int, height: int, keys: tuple[str, ...], answers: Answers
) -> None:
    """No line is too long, and not one is too many."""
    lines = texts(*keys, answers=answers, size=Size(width, height))
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_the_charts_stand_above_the_tables() -> None:
    """Also on a terminal of the usual size. A lower one has the tables alone, and so
    have the details, which need the room.
    """
    lines = texts(answers=CHARTED, size=Size(80, 23))
    assert lines[3] == ""
    assert lines[4].split() == ["LAST", "TEN", "MINUTES", "NOW", "MAX", "10", "min", "ago", "now"]
    assert lines[5] == f"{'Open connections':<27}          5          5  {'▇' * 29}"
    assert lines[13] == f"{'Loop lag of workers':<27}       0 us       0 us  {'▁' * 29}"
    assert lines[14] == ""
    assert lines[15].startswith("SERVICE")
    low = texts(answers=CHARTED, size=Size(80, 22))
    assert low[4].startswith("SERVICE")
    for without in (low, texts("enter", answers=CHARTED), texts(answers=BUSY)):
        assert not any("LAST TEN MINUTES" in line for line in without)


def test_a_key_hides_the_charts() -> None:
    """And shows them again."""
    shown = texts(answers=CHARTED)
    assert texts("c", answers=CHARTED)[4].startswith("SERVICE")
    assert texts("c", "c", answers=CHARTED) == shown != texts("c", answers=CHARTED)


def test_events_have_a_table() -> None:
    """The last one, the newest event first; their sentences end where the screen does.
    The details of one have its fields.
    """
    lines = texts("c", "tab", "tab", answers=CHARTED, size=Size(64, 24))
    assert [line.rstrip() for line in lines[-4:-1]] == [
        "TIME (UTC)      LEVEL    EVENT        DETAILS",
        "11-22 21:23:02  warning  worker.died  worker default/0: exit cod",
        "11-22 21:23:01  warning  worker.died  worker default/0: exit cod",
    ]
    details = texts("tab", "tab", "enter", answers=CHARTED)
    assert any(
        re.match("text: worker default/0: exit code 2 +A sentence", line) for line in details
    )
    assert '  {"code": 2}' in details


@pytest.mark.parametrize("steps", [0, 5, 20, 40])
def test_the_cursor_is_always_in_sight(steps: int) -> None:
    """Exactly one row is that of the cursor, and the head of its table is above it."""
    lines = drawn(*["down"] * steps)
    (at,) = (
        index for index, line in enumerate(lines) if any(span.style == "cursor" for span in line)
    )
    shown = text_of(lines[at])
    assert shown.split()[1] == ("3" if steps == 0 else f"default/{steps - 1}")
    head = "SERVICE" if steps == 0 else "KIND"
    assert any(text_of(line).startswith(head) for line in lines[:at])


def test_the_sorted_column_is_told_in_words() -> None:
    """An arrow of two letters stands beside its name: v for the largest first."""
    assert any(line.startswith("SERVICE ^  OPEN") for line in texts("s"))
    assert any("OPEN v" in line for line in texts("s", "s"))
    assert any("OPEN ^" in line for line in texts("s", "s", "r"))


def test_the_details_explain_each_field() -> None:
    """With the words of the manual; a list has a line for each item."""
    lines = texts("enter")
    assert any(line.startswith("active: 3") and "connections are open" in line for line in lines)
    assert '  {"address": "tcp://[::]:7", "queue": {"length": 0, "limit": 4096}}' in lines


def test_long_details_go_on_in_the_next_line() -> None:
    """Nothing of them is cut off, and the meaning stands below."""
    lines = texts("enter", size=Size(40, 100))
    words = " ".join(" ".join(lines).split())
    assert '{"address": "tcp://[::]:7", "queue": {"length": 0, "limit": 4096}}' in words
    assert "How many connections are open" in words
    assert any(line.startswith("    ") for line in lines)


def test_details_that_are_longer_than_the_screen_scroll() -> None:
    """The last line says how many lines are below; the end is the end."""
    size = Size(40, 14)
    every = texts("enter", size=Size(40, 100))
    body = [line for line in every[every.index("") + 1 : -1] if line]
    first = texts("enter", size=size)
    assert re.match(r"[0-9]+ more below: page down", first[-1])
    pages = [texts("enter", *["page_down"] * steps, size=size) for steps in range(9)]
    assert set(body) <= {line for shown in pages for line in shown}
    last = texts("enter", *["page_down"] * 50, size=size)
    assert body[-1] in last
    assert "more below" not in last[-1]
    assert texts("enter", *["page_down"] * 50, *["page_up"] * 50, size=size) == first


def test_scrolling_ends_where_the_details_end() -> None:
    """So that one key leads back from there."""
    view = replace(followed(View(), TABLES), details=True, scroll=500)
    size = Size(40, 14)
    end = bounded(view, BUSY, TABLES, "", size)
    assert 0 < end.scroll < 100
    assert page(end, BUSY, TABLES, "", size) == page(view, BUSY, TABLES, "", size)
    assert page(pressed(end, "page_up", TABLES), BUSY, TABLES, "", size) != page(
        end, BUSY, TABLES, "", size
    )


def test_only_rows_in_sight_are_laid_out() -> None:
    """However many there are."""
    laid_out: list[str] = []

    class Counted(str):
        """A text that notes each time that it is brought to the width of a column."""

        __slots__ = ()

        def ljust(self, *how: Any) -> str:
            laid_out.append(self)
            return super().ljust(*how)

        def rjust(self, *how: Any) -> str:
            laid_out.append(self)
            return super().rjust(*how)

    many = answered(status(children=[child(birth) for birth in range(500)]))
    (_, children, _) = make_tables(many, {}, "")
    rows = tuple(
        replace(row, cells=tuple(replace(cell, text=Counted(cell.text)) for cell in row.cells))
        for row in children.rows
    )
    page(View(), many, (replace(children, rows=rows),), "", SIZE)
    assert 0 < len(laid_out) <= SIZE.height * len(children.columns)


def test_the_help_names_keys_and_columns() -> None:
    """All of them, each page on a small terminal."""
    pages = [texts(*["?"] * number, size=Size(80, 24)) for number in range(1, HELP_PAGES + 1)]
    for row in KEYS:
        assert any(line.startswith(f"  {row.shown}") for line in pages[0])
    for page_of, columns in zip(pages[1:], COLUMNS.values(), strict=True):
        for column in columns:
            assert f"  {column.name:<10} {column.meaning}" in page_of
    assert pages[0][-1] == "?: more  any other key: back"


def test_the_bottom_shows_filter_and_pause() -> None:
    """While a filter is typed, and afterwards."""
    assert texts("/", "w", "o")[-1].startswith("filter: wo_")
    assert texts("/", "w", "o", "enter", "p")[-1].startswith("filter: wo (1 hidden)  paused  ?")


def test_trouble_stands_above_the_last_answer() -> None:
    """What was known stays in sight."""
    lines = texts(trouble="no daemon listens on /run/x")
    assert lines[0] == "no daemon listens on /run/x; trying again"
    assert lines[1].startswith("unpd 1.2.3: ready")
    assert texts(answers=None)[0] == "asking the daemon"
    assert texts(answers=None, trouble="no daemon")[0] == "no daemon; trying again"


def test_a_degraded_daemon_says_why() -> None:
    """The first faults, and how many more there are; a reload that failed, too."""
    faults = [{"reason": "crash_loop", "text": f"worker {number} dies"} for number in range(6)]
    reload = {"result": "refused", "reason": "bad\nworse", "ended_at": "T", "generation": 3}
    now = status(degraded=faults, last_reload=reload, phase="proving", uptime_s=90000)
    lines = texts(answers=answered(now))
    assert lines[:3] == [
        "unpd 1.2.3: ready, degraded, reloading (proving), generation 3, up 1d01h, pid 7",
        "last reload: refused at T: bad",
        "degraded: worker 0 dies",
    ]
    assert "degraded: and 2 more" in lines


def test_a_long_sentence_goes_on_in_the_next_line() -> None:
    """The end of it says what to do. The header takes at most half of the screen."""
    fault = {"reason": "crash_loop", "text": "word " * 40 + "end"}
    lines = texts(answers=answered(status(degraded=[fault])), size=Size(60, 24))
    assert any(line.endswith("word end") for line in lines[2:6])
    many = status(degraded=[fault] * 4, services=[service("echo")])
    low = texts(answers=answered(many), size=Size(60, 8))
    assert low[4:6] == ["", "SERVICE  OPEN  NEW/s   QUEUE  REFUSED  REF/s  DGRAM/s"]


def test_live_changes_are_named() -> None:
    """With the words of the status: what each does, its value, and its end. The header
    names the first, and how many more there are.
    """
    rows = (
        (LiveChange.HALT, "echo", "paused", None, "T"),
        (LiveChange.LOG_LEVEL, None, "debug", "info", None),
        (LiveChange.SCALE, "fast", "7", "4", None),
    )
    names = ("change", "subject", "value", "configured", "until")
    changes = [dict(zip(names, row, strict=True)) for row in rows]
    lines = texts(answers=answered(status(live_changes=changes)))
    assert lines[1:4] == [
        "live change, not saved: service echo is paused until T",
        "live change, not saved: the level of the log is debug; the configuration wants info",
        "live change, not saved: pool fast has 7 workers; the configuration wants 4",
    ]
    many = texts(answers=answered(status(live_changes=changes * 2)))
    assert many[5] == "live change, not saved: and 2 more"


def test_retired_generations_are_named() -> None:
    """With the words of the status: what is left of them, and until when."""
    retired = {"generation": 2, "children": 2, "connections": 41, "drain_ends_at": "T"}
    assert "retired from generation 2: 2 children, 41 connections, until T" in texts(
        answers=answered(status(retired=[retired]))
    )


def test_a_child_that_ended_is_named_where_80_columns_end() -> None:
    """How it ended begins on a terminal of the usual width, which cuts off the rest. A
    wider one has it all, and the columns after it.
    """
    end = {"ended": "killed by SIGKILL", "pid": 4711, "at": "2026-11-22T21:23:10Z"}
    working = {"connections": 0, "cpu_percent": 1.0, "memory_bytes": 30_400_000}
    rows = [child(1, **working, last_end=end), child(2, **working)]
    known = answered(status(children=rows))
    usual = texts(answers=known, size=Size(80, 24))
    assert usual[6].split()[-3:] == ["MEM", "LAST", "END"]
    assert "30.4 MB  killed by SIGKILL, p" in usual[7]
    wide = texts(answers=known, size=Size(120, 24))
    assert "30.4 MB  killed by SIGKILL, pid 4711, 11-22 21:23:10    1      1" in wide[7]
    assert wide[6].split()[-3:] == ["END", "GEN", "BIRTH"]


def test_plain_text_has_every_row() -> None:
    """And no control character."""
    text = plain(BUSY, "", 100)
    assert "\n\nSERVICE  OPEN" in text
    assert text.count("worker") == 40
    assert text.replace("\n", "").isprintable()
    assert plain(BUSY, "default/7", 100).count("worker") == 1


def test_plain_text_has_the_charts_as_numbers() -> None:
    """No glyph stands for them, whatever the terminal can show, and no event is cut."""
    text = plain(CHARTED, "", 60)
    assert text.isascii()
    assert re.search("\n\nLAST TEN MINUTES +NOW +MAX\nOpen connections +5 +5\n", text)
    assert "\n11-22 21:23:02  warning  worker.died  worker default/0: exit code 2\n" in text


def test_plain_text_cuts_a_table_that_lacks_columns() -> None:
    """A long column that is the last one there is ends where the terminal does."""
    end = {"ended": "killed by SIGKILL, core dumped", "pid": 17, "at": "2026-11-22T21:23:10Z"}
    refused = service("echo", refused=9, refused_by_reason={"deny": 2, "max_connections": 7})
    answers = answered(status(services=[refused], children=[child(1, last_end=end)]))
    whole = plain(answers, "", 300).splitlines()
    lines = plain(answers, "", 60).splitlines()
    (reason,) = (line for line in lines if line.startswith("echo "))
    (ended,) = (line for line in lines if line.startswith("worker "))
    for line in (reason, ended):
        assert len(line) <= 60
        assert any(longer.startswith(line) for longer in whole)
    assert "killed by" in ended
