"""Denies whoever connects to a sensor, on all services, for a while.

Called by :mod:`unpd.master.children.reports` with what a child reports. A child may be
hostile: the master looks for itself whether the service is a sensor, and which sources
no sensor may deny. Works on the deny list of the runtime. Raises nothing.

Known gap: a hostile worker can name addresses that never came, and so have them denied.
"""

from unpd.access.denials import Denial, DenialError
from unpd.access.network import Network
from unpd.access.peer import Peer
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.services.sensor import SensorOptions


def deny(runtime: Runtime, service: str, address: str) -> None:
    """Deny the source to which an address belongs, as the sensor ``service`` counts
    sources. A report about anything else is ignored: the configuration may have changed
    since.
    """
    config = runtime.deployment.config.services.get(service)
    if config is None or not isinstance(config.options, SensorOptions):
        return
    try:
        one = Network.parse(address)
    except ValueError:
        return
    network = config.access.sensed(Peer(one.family, one.first))
    if network is None or config.access.sensor_observes:
        return
    at = now()
    until = at + config.options.deny_time_s
    refused = ""
    try:
        runtime.deny_list.deny(Denial(network=network, since=at, until=until, service=service))
    except DenialError as error:
        refused = str(error)
    runtime.sensor_lines.take(service, network, refused)
