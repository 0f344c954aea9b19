"""The charts of ``unpd top``: a line for each quantity of the last ten minutes, with
its value now, its highest, and bars.

Called by the layout. Calls unpd.cli.history_text for the quantities. Pure. Raises
nothing.
"""

import math
from collections.abc import Sequence

from unpd.cli.history_text import HEAD, quantities
from unpd.cli.tables import Values
from unpd.metrics.page.charts import SPAN_S, points

BARS = "▁▂▃▄▅▆▇"
"""Zero, then sixths of the highest value. Full blocks would touch the line above."""
FEWEST, MOST = 20, 120
"""How many bars a line has: fewer would show no course, and more no more samples."""
NARROW = 9
"""The width of a number that seldom has more: so the bars stay where they are."""
GAP = "  "


def lines(status: Values, width: int, *, glyphs: bool) -> list[str]:
    """The head and a line for each quantity; none where the history was not asked for,
    or where the terminal is too narrow. ``glyphs``: whether it can show bars.
    """
    found = quantities(status)
    rows = [HEAD, *((each.name, each.now, each.highest) for each in found)]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    now, highest = (max(other, NARROW) for other in others)
    texts = [
        GAP.join((row[0].ljust(first), row[1].rjust(now), row[2].rjust(highest))) for row in rows
    ]
    count = min(width - len(texts[0]) - len(GAP), MOST)
    if not found or len(texts[0]) > width:
        return []
    if count < FEWEST or not glyphs:
        return texts
    newest_s = max((at_s for each in found for at_s, _ in each.samples), default=0.0)
    drawn = [f"{'10 min ago':<{count - 3}}now"]
    drawn += [bars(each.samples, newest_s, count) for each in found]
    return [f"{text}{GAP}{bar}" for text, bar in zip(texts, drawn, strict=True)]


def bars(samples: Sequence[tuple[float, float]], newest_s: float, count: int) -> str:
    """A bar for each part of the ten minutes until ``newest_s``: the highest sample in
    it, as a share of the highest of all. A part without a sample is empty.
    """
    part_s = SPAN_S / count
    highest = points(samples, part_s)
    top = max(highest.values(), default=0.0)
    last = int(newest_s // part_s)
    return "".join(_bar(highest.get(at), top) for at in range(last - count + 1, last + 1))


def _bar(value: float | None, top: float) -> str:
    if value is None:
        return " "
    return BARS[math.ceil(value / top * (len(BARS) - 1)) if value else 0]
