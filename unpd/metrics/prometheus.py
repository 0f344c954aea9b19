"""What we use of prometheus_client, imported without what it brings for uses that are not ours.

Its exposition module imports a TLS library and the standard library's web servers and web client, for servers of its own and for pushing. We serve through waitress and
push nothing: without them the daemon is 2 MB smaller and ready 20 ms sooner. Nothing else may be taken from prometheus_client in this program.
"""

import contextlib
import sys
import types
from collections.abc import Iterator

__all__ = [
    "Collector",
    "CollectorRegistry",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "InfoMetricFamily",
    "Metric",
    "choose_encoder",
    "floatToGoString",
]


class _StandIn(types.ModuleType):
    """A module that has every name, as an empty class: enough to be imported from, and to be a base."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    """Import something as if these modules were empty, unless they are there already."""
    missing = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _StandIn(name) for name in missing})
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


with _without("http.server", "ssl", "urllib.request", "wsgiref.simple_server"):
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector, CollectorRegistry
    from prometheus_client.utils import floatToGoString
