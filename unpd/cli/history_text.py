"""The last ten minutes of a daemon as text: a row for each line of the charts of the
status page, in its words, and the last events.

Called by unpd.cli.status_text and ``unpd top`` with a status that has every field of
:data:`unpd.control.status_fields.STATUS`. Calls :mod:`unpd.metrics.page.charts` for the
table of charts. Pure. Raises nothing, whatever the lists of the history hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unpd.cli.tables import Columns, Values, aligned, table
from unpd.control.answer_fields import LARGEST
from unpd.metrics.page.charts import CHARTS, Chart

HEAD = ("LAST TEN MINUTES", "NOW", "MAX")
_EVENTS: Columns = MappingProxyType(
    {
        "TIME": lambda one: one["time"],
        "LEVEL": lambda one: one["level"],
        "EVENT": lambda one: one["event"],
        "DETAILS": lambda one: one["text"],
    }
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One line of a chart. ``now``, ``highest``: as people read them. ``samples``:
    times on the clock since boot, in seconds, and the values that are known.
    """

    name: str
    now: str
    highest: str
    samples: Sequence[tuple[float, float]]


def quantities(status: Values) -> list[Quantity]:
    """Every line of the charts; none if the history was not asked for."""
    if status["totals"] is None or status["history"] is None:
        return []
    return [_quantity(chart, *line, status) for chart in CHARTS for line in chart.lines]


def _quantity(chart: Chart, field: str, label: str, status: Values) -> Quantity:
    history, now = status["history"], status["totals"][field]
    samples = [
        (at_s, value)
        for at_s, value in zip(history["at_s"], history[field], strict=False)
        if _is_known(at_s) and _is_known(value)
    ]
    known = [value for _, value in samples] + ([] if now is None else [now])
    return Quantity(
        name=f"{chart.title}, {label}" if label else chart.title,
        now=_shown(chart, now),
        highest=_shown(chart, max(known, default=None)),
        samples=samples,
    )


def _is_known(value: Any) -> bool:
    """Whether this is a number that a daemon counts or measures."""
    return type(value) in (int, float) and 0 <= value < LARGEST


def _shown(chart: Chart, value: float | None) -> str:
    """A value in ASCII, for every terminal."""
    return chart.shown(value).replace("µ", "u")


def charts(status: Values) -> list[str]:
    """A head, and a line with the numbers of each quantity, if there are any."""
    rows = [(each.name, each.now, each.highest) for each in quantities(status)]
    return aligned([HEAD, *rows]).split("\n") if rows else []


def as_text(status: Values) -> str:
    """These lines, and the table of the events, as far as there are any."""
    parts = ["\n".join(charts(status))]
    parts += [table(_EVENTS, status["events"])] if status["events"] else []
    return "\n\n".join(filter(None, parts))
