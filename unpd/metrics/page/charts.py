"""The charts of the status page: lines in SVG, drawn here, so that they need no script.

Called by :mod:`unpd.metrics.page.html` with the history of a snapshot. Pure; raises
nothing. A chart has WIDTH by HEIGHT units, which the page stretches; the numbers stand
beside it as text.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 300
HEIGHT = 640
EDGE = 10
"""The lines at the top and at the bottom keep so far from the edges, to be seen."""
SPAN_S = 600
GRID = "M0 5H300M0 320H300M0 635H300M60 10V630M120 10V630M180 10V630M240 10V630"
"""The lines behind a chart: the top of its scale, half of it, 0, and every two minutes.
"""
BUCKET_S = 4
"""The samples of so many seconds are one point, the highest of them: a short peak must
be seen.
"""
GAP_BUCKETS = 2
"""Points that are further apart are not joined."""


def top_of(*columns: Sequence[float | None]) -> float:
    """The top of the scale for these lines: 1, 2 or 5 times a power of ten, and no less
    than the highest value.
    """
    highest = max((value for column in columns for value in column if value), default=0.0)
    if highest <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= highest)


def path(history: Mapping[str, Any], name: str, top: float) -> str:
    """The line of one list of the history. The newest sample is at the right edge.

    Most points are written as the way from the one before, which has half the bytes.
    """
    line: list[str] = []
    before: tuple[int, int, int] | None = None
    for bucket, value in _points(history["at_s"], history[name]):
        age_s = max(0.0, history["now_s"] - (bucket + 1) * BUCKET_S)
        tenths = max(0, round(10 * (WIDTH - age_s * WIDTH / SPAN_S)))
        y = round(HEIGHT - EDGE - (value / top * (HEIGHT - 2 * EDGE) if top else 0))
        if before is not None and bucket - before[0] <= GAP_BUCKETS:
            line.append(f"{(tenths - before[1]) / 10:g}{_signed(y - before[2])}")
        else:
            line.append(f"M{tenths / 10:g} {y}h0l0 0")
        before = bucket, tenths, y
    return " ".join(line).replace(" M", "M")


def _points(times: Sequence[float], values: Sequence[float | None]) -> Iterator[tuple[int, float]]:
    """The highest value of each bucket. A bucket keeps its samples while the line moves
    with the time.
    """
    points: dict[int, float] = {}
    for at_s, value in zip(times, values, strict=True):
        if value is not None:
            bucket = int(at_s // BUCKET_S)
            points[bucket] = max(points.get(bucket, 0.0), value)
    yield from points.items()


def _signed(number: int) -> str:
    """The number behind another one: a minus is enough to part them."""
    return f"{number}" if number < 0 else f" {number}"
