"""The table of services: one row for each protocol that unpd speaks.

A new service needs a module beside this one and a row here. Called by the
configuration, which validates the options, and by the master, whose workers make the
services. Raises nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

from unpd.services.base import ServiceType
from unpd.services.daytime import Daytime, DaytimeOptions
from unpd.services.echo import Echo, EchoOptions

SERVICES: Mapping[str, ServiceType] = MappingProxyType(
    {
        row.name: row
        for row in (
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
                name="echo",
                rfc=862,
                port=7,
                stream=True,
                datagram=True,
                options=EchoOptions,
                make=Echo,
            ),
        )
    }
)
