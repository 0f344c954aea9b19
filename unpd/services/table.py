"""The table of services: one row for each protocol that unpd speaks.

A new service needs a module beside this one and a row here. Called by the
configuration, which validates the options, and by the master, whose workers make the
services. Raises nothing.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from unpd.names import ChildKind
from unpd.services import daytime, qotd, time868
from unpd.services.base import ServiceType
from unpd.services.chargen import Chargen, ChargenOptions
from unpd.services.daytime import Daytime, DaytimeOptions
from unpd.services.discard import Discard, DiscardOptions
from unpd.services.echo import Echo, EchoOptions
from unpd.services.function import FunctionOptions, FunctionService
from unpd.services.program import Program, ProgramOptions
from unpd.services.qotd import Qotd, QotdOptions
from unpd.services.redirect import Redirect, RedirectOptions
from unpd.services.sensor import Sensor, SensorOptions
from unpd.services.tcpmux import Tcpmux, TcpmuxOptions
from unpd.services.time868 import NOTE, Time, TimeOptions

SERVICES: Mapping[str, ServiceType] = MappingProxyType(
    {
        row.name: row
        for row in (
            ServiceType(
                name="chargen",
                rfc=864,
                port=19,
                stream=True,
                datagram=True,
                options=ChargenOptions,
                make=Chargen,
            ),
            ServiceType(
                name="daytime",
                rfc=867,
                port=13,
                stream=True,
                datagram=True,
                options=DaytimeOptions,
                make=Daytime,
            ),
            ServiceType(
                name="discard",
                rfc=863,
                port=9,
                stream=True,
                datagram=True,
                options=DiscardOptions,
                make=Discard,
            ),
            ServiceType(
                name="echo",
                rfc=862,
                port=7,
                stream=True,
                datagram=True,
                options=EchoOptions,
                make=Echo,
            ),
            ServiceType(
                name="exec",
                rfc=None,
                port=0,
                stream=True,
                datagram=True,
                options=ProgramOptions,
                make=Program,
                served_by=ChildKind.LAUNCHER,
            ),
            ServiceType(
                name="python",
                rfc=None,
                port=0,
                stream=True,
                datagram=False,
                options=FunctionOptions,
                make=FunctionService,
                served_by=ChildKind.PYTHON,
            ),
            ServiceType(
                name="qotd",
                rfc=865,
                port=17,
                stream=True,
                datagram=True,
                options=QotdOptions,
                make=Qotd,
            ),
            ServiceType(
                name="redirect",
                rfc=None,
                port=0,
                stream=True,
                datagram=False,
                options=RedirectOptions,
                make=Redirect,
            ),
            ServiceType(
                name="sensor",
                rfc=None,
                port=0,
                stream=True,
                datagram=True,
                options=SensorOptions,
                make=Sensor,
            ),
            ServiceType(
                name="tcpmux",
                rfc=1078,
                port=1,
                stream=True,
                datagram=False,
                options=TcpmuxOptions,
                make=Tcpmux,
            ),
            ServiceType(
                name="time",
                rfc=868,
                port=37,
                stream=True,
                datagram=True,
                options=TimeOptions,
                make=Time,
                note=NOTE,
            ),
        )
    }
)

ANSWER_SIZES: Mapping[str, Callable[[Any], tuple[int, ...]]] = MappingProxyType(
    {
        "daytime": daytime.answer_sizes,
        "qotd": qotd.answer_sizes,
        "time": time868.answer_sizes,
    }
)
"""How many bytes the answers to datagrams have, as a function of the options, for each
type whose answer is the same whatever the datagram holds.
"""
