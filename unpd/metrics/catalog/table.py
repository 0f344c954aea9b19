"""The one table of metrics: name, type, labels, help, and where a reading holds the
values.

Owns the whole table. The collector walks it; the manual page and the tests read it,
because the names are public interface. Every label value of a fixed set is shown from
the start, with 0, so that rate() sees the first event. No label ever holds anything
that a peer sent. A new metric is a row in one of the modules beside this one. Raises
nothing.
"""

from unpd.metrics.catalog import children, daemon, programs, redirects, services
from unpd.metrics.catalog.row import Metric

METRICS: tuple[Metric, ...] = (
    *services.ROWS,
    *programs.ROWS,
    *redirects.ROWS,
    *children.ROWS,
    *daemon.ROWS,
)
