"""The charts of the status page: lines in SVG, drawn here, so that they need no script.

Called by :mod:`unpd.metrics.page.html` with the history of a snapshot. Pure; raises
nothing. A chart has WIDTH by HEIGHT units, which the page stretches; the numbers stand
beside it as text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 300
HEIGHT = 64
SPAN_S = 600
GRID = "M0 .5H300M0 32H300M0 63.5H300M60 1V63M120 1V63M180 1V63M240 1V63"
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
    """The line of one list of the history. The newest sample is at the right edge. A
    bucket keeps its samples while the line moves with the time.
    """
    now_s = history["now_s"]
    points: dict[int, float] = {}
    for at_s, value in zip(history["at_s"], history[name], strict=True):
        if value is not None:
            bucket = int(at_s // BUCKET_S)
            points[bucket] = max(points.get(bucket, 0.0), value)
    line: list[str] = []
    before = None
    for bucket, value in points.items():
        age_s = max(0.0, now_s - (bucket + 1) * BUCKET_S)
        x = max(0.0, WIDTH - age_s * WIDTH / SPAN_S)
        y = HEIGHT - 1 - (value / top * (HEIGHT - 2) if top else 0)
        joined = before is not None and bucket - before <= GAP_BUCKETS
        line.append(f"{'L' if joined else 'M'}{x:.1f} {y:.1f}{'' if joined else 'h0'}")
        before = bucket
    return "".join(line)
