"""The charts of the last ten minutes: which there are, and their lines in SVG, drawn
here, so that they need no script.

Called by :mod:`unpd.metrics.page.html` with the history of a snapshot, and by the
command line, which draws the same charts with characters. Pure; raises nothing. A chart
of the page has WIDTH by HEIGHT units, which the page stretches; the numbers stand
beside it as text.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unpd.metrics.page.wording import short_time
from unpd.wording import rate_text, size_text

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


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart. ``lines``: lists of the history, and what each is called; without a
    name it is the only one. ``shown``: how a value is written.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    shown: Callable[[Any], str]


CHARTS = (
    Chart("Open connections", (("active", ""),), rate_text),
    Chart(
        "New per second",
        (("accepted_per_s", "connections"), ("datagrams_per_s", "datagrams")),
        rate_text,
    ),
    Chart(
        "Bytes per second", (("received_bytes_per_s", "in"), ("sent_bytes_per_s", "out")), size_text
    ),
    Chart("Waiting in accept queues", (("queued", ""),), rate_text),
    Chart("Refused per second", (("refused_per_s", ""),), rate_text),
    Chart("Round-trip time", (("rtt_s", ""),), short_time),
    Chart("Loop lag of workers", (("lag_s", ""),), short_time),
)
"""All charts, in their order."""


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
    samples = zip(history["at_s"], history[name], strict=True)
    for bucket, value in points(samples, BUCKET_S).items():
        age_s = max(0.0, history["now_s"] - (bucket + 1) * BUCKET_S)
        tenths = max(0, round(10 * (WIDTH - age_s * WIDTH / SPAN_S)))
        y = round(HEIGHT - EDGE - (value / top * (HEIGHT - 2 * EDGE) if top else 0))
        if before is not None and bucket - before[0] <= GAP_BUCKETS:
            line.append(f"{(tenths - before[1]) / 10:g}{_signed(y - before[2])}")
        else:
            line.append(f"M{tenths / 10:g} {y}h0l0 0")
        before = bucket, tenths, y
    return " ".join(line).replace(" M", "M")


def points(samples: Iterable[tuple[float, float | None]], bucket_s: float) -> dict[int, float]:
    """The highest value of each bucket of that many seconds. A bucket keeps its samples
    while the line moves with the time. ``samples``: times and values.
    """
    found: dict[int, float] = {}
    for at_s, value in samples:
        if value is not None:
            bucket = int(at_s // bucket_s)
            found[bucket] = max(found.get(bucket, 0.0), value)
    return found


def _signed(number: int) -> str:
    """The number behind another one: a minus is enough to part them."""
    return f"{number}" if number < 0 else f" {number}"
