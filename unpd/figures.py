"""Figures as people read them, where a text or a page has room for units. Columns of
``unpd top`` are narrow, and have forms of their own (unpd.cli.top.figures).

Called by the texts of the command line and by the status page. Pure. Raises nothing.
"""

import itertools
import math

_SHOWN = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span_text(seconds: float) -> str:
    """A span for people, in at most two units, such as 10 h 35 min; it is not shorter
    than the span.
    """
    for (unit, size_s), (smaller, part_s) in itertools.pairwise(_SHOWN):
        many, few = divmod(math.ceil(seconds / part_s), size_s // part_s)
        if many:
            return f"{many} {unit}" + (f" {few} {smaller}" if few else "")
    return f"{math.ceil(10 * seconds) / 10:g} s"
