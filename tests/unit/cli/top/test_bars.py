"""The charts of the last ten minutes, drawn with characters."""

import itertools

import pytest

from tests.support.statuses import lately, status
from unpd.cli.top.bars import BARS, FEWEST, MOST, bars, lines
from unpd.metrics.page.charts import CHARTS, SPAN_S

NUMBERS = 49
"""The width of the names and numbers."""
Samples = list[tuple[float, float]]


@pytest.mark.parametrize(
    ("samples", "drawn"),
    [
        ([], "          "),
        ([(1199, 0)], "         ▁"),
        ([(1199, 0.001)], "         ▇"),
        ([(at, 0) for at in range(600, 1200)], "▁▁▁▁▁▁▁▁▁▁"),
        ([(at, 7) for at in range(600, 1200)], "▇▇▇▇▇▇▇▇▇▇"),
        ([(600 + 60 * part, part) for part in range(7)] + [(1199, 0)], "▁▂▃▄▅▆▇  ▁"),
        ([(at, 1) for at in range(900, 1200)], "     ▇▇▇▇▇"),
        ([(at, 1) for at in range(600, 1200) if not 780 <= at < 900], "▇▇▇  ▇▇▇▇▇"),
        ([(at, 9 if at == 1000 else 0) for at in range(600, 1200)], "▁▁▁▁▁▁▇▁▁▁"),
        ([(1100, 1), (1199, 10**9)], "        ▂▇"),
    ],
    ids=["empty", "a zero", "one sample", "flat zero", "flat", "steps", "young", "gap"]
    + ["short peak", "tiny"],
)
def test_bars(samples: Samples, drawn: str) -> None:
    """The newest sample is at the right. A bar is the highest sample of its part of the
    time, as a share of the highest of all; a zero has the lowest bar, and only a zero.
    A part without a sample is empty.
    """
    assert bars(samples, 1199.0, 10) == drawn


def test_a_bar_stays_while_the_time_goes_on() -> None:
    """Until its part of the time is over: then all bars go to the left by one."""
    samples: Samples = [(1000, 5), (1100, 3), (1140, 1)]
    drawn = [bars([*samples, (now, 1)], now, 10) for now in range(1140, 1260)]
    assert [len([*same]) for _, same in itertools.groupby(drawn)] == [60, 60]
    assert drawn[-1][:-1] == drawn[0][1:]


def test_each_line_of_the_page_has_one_here() -> None:
    """With the words of the page, its value now, its highest, and as many bars as the
    terminal has room for; the head says where the time begins.
    """
    shown = status(**lately(range(600, 1200), active=[*range(600)]))
    head, *rows = lines(shown, 100, glyphs=True)
    assert head.split() == ["LAST", "TEN", "MINUTES", "NOW", "MAX", "10", "min", "ago", "now"]
    titles = [chart.title for chart in CHARTS for _ in chart.lines]
    assert [row.startswith(title) for row, title in zip(rows, titles, strict=True)] == [True] * 9
    assert {len(line) for line in (head, *rows)} == {100}
    assert rows[0].split()[:4] == ["Open", "connections", "599", "599"]
    drawn = rows[0][NUMBERS + 2 :]
    assert drawn == "".join(sorted(drawn))
    assert set(drawn) == set(BARS[1:])


@pytest.mark.parametrize(
    ("width", "count"),
    [(NUMBERS - 1, None), (NUMBERS, 0), (NUMBERS + 1 + FEWEST, 0), (NUMBERS + 2 + FEWEST, FEWEST)]
    + [(1000, MOST)],
)
def test_a_narrow_terminal_has_less(width: int, count: int | None) -> None:
    """First the bars go, then the charts."""
    drawn = lines(status(**lately(range(600, 1200))), width, glyphs=True)
    assert [row.count(BARS[0]) for row in drawn[1:]] == ([] if count is None else [count] * 9)


def test_no_character_that_the_terminal_lacks() -> None:
    """Without glyphs the numbers remain, in ASCII."""
    shown = status(**lately(range(600, 1200), lag_s=[0.0002] * 600))
    drawn = lines(shown, 200, glyphs=False)
    assert drawn[-1] == f"{'Loop lag of workers':<27}  {'200 us':>9}  {'200 us':>9}"
    assert "".join(drawn).isascii()


def test_nothing_is_drawn_of_no_history() -> None:
    """A history without a sample has rows, whose numbers are not known."""
    assert lines(status(), 100, glyphs=True) == []
    rows = lines(status(**lately()), 100, glyphs=True)[1:]
    assert [row.split()[-2:] for row in rows] == [["-", "-"]] * 9


def test_a_daemon_that_sends_odd_samples_is_drawn() -> None:
    """What is no number, and what has no time, is passed over."""
    odd = lately([*range(int(SPAN_S)), "x", None, True, -1.0])  # type: ignore[list-item]
    odd["history"]["active"] = [None, "9", [], float("inf"), float("nan"), -5, True, 4]
    odd["totals"]["active"] = 2
    (row, *_) = lines(status(**odd), 100, glyphs=True)[1:]
    assert row.split()[2:] == ["2", "4", "▇"]
