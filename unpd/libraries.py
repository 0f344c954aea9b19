"""The third-party libraries, each imported here once, without the parts that unpd does
not use.

Owns: which names of pydantic, prometheus_client and h11 the program uses, and which
modules of the standard library stay out while those are imported. Every other module of
unpd imports these names from here; an import contract keeps it so. h11 brings nothing
to leave out. Its names (Request, Data) say nothing alone, so it is one name here. Small
libraries (setproctitle, python-daemon) are imported where they are used.

Why: every process of the daemon holds what its libraries imported, and the start waits
for it. pydantic imports OpenSSL's hashes for ``SecretStr`` and package metadata, zip
files and mail to find plug-ins; prometheus_client imports TLS, web servers and a web
client for servers of its own. Without these the daemon's four processes are 6 MB
smaller together (PSS), and ready 20 ms sooner.

A stand-in takes the place of each of those modules. It can be imported from and used as
a base class, and it raises :class:`LeftOutError` as soon as something calls it: a
library that begins to need the real module fails at once instead of computing with
nothing. pyproject.toml therefore bounds the libraries above, and a test imports them
with the real modules and compares.

Plug-ins of pydantic are off (its own switch, ``PYDANTIC_DISABLE_PLUGINS``): no package
runs as root only because it says that it is one.
"""

import contextlib
import os
import sys
import types
from collections.abc import Iterator

import h11

__all__ = [
    "AfterValidator",
    "BaseModel",
    "BeforeValidator",
    "Collector",
    "CollectorRegistry",
    "ConfigDict",
    "CounterMetricFamily",
    "ErrorDetails",
    "Field",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "InfoMetricFamily",
    "Metric",
    "PrivateAttr",
    "SerializeAsAny",
    "ValidationError",
    "ValidationInfo",
    "choose_encoder",
    "create_model",
    "field_validator",
    "floatToGoString",
    "h11",
    "model_validator",
]


class LeftOutError(RuntimeError):
    """A library called something of a module that unpd leaves out."""


class StandIn(types.ModuleType):
    """A module that has every public name. Each is a class that can be a base and
    cannot be made.
    """

    def __getattr__(self, name: str) -> type:
        """The class of that name. LeftOutError when it is called; AttributeError for
        ``__path__`` and the like, by which the import system asks what kind of module
        this is.
        """
        if name.startswith("__"):
            raise AttributeError(name)
        full_name = f"{self.__name__}.{name}"

        def refuse(*_: object, **__: object) -> object:
            raise LeftOutError(f"{full_name} is left out of unpd (unpd.libraries), but was called")

        return type(name, (), {"__new__": refuse})


@contextlib.contextmanager
def left_out(*names: str) -> Iterator[None]:
    """Import something with stand-ins for the modules of these names; modules that are
    already imported stay what they are.
    """
    stand_ins = {name: StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


# pydantic looks at the switch whenever a model is made, so it stays for the process's
# life.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

with left_out("importlib.metadata", "secrets"):
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        PrivateAttr,
        SerializeAsAny,
        ValidationError,
        ValidationInfo,
        create_model,
        field_validator,
        model_validator,
    )
    from pydantic_core import ErrorDetails

    # pydantic imports the rest of itself when the first model is made.
    create_model("FirstOfAll")

with left_out(
    "gzip",
    "http.server",
    "snappy",
    "socketserver",
    "ssl",
    "urllib.error",
    "urllib.request",
    "wsgiref.simple_server",
):
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector, CollectorRegistry
    from prometheus_client.utils import floatToGoString
