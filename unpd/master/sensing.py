"""Denies whoever connects to a sensor, on all services, for a while.

Called by :mod:`unpd.master.children.reports` with what a child reports. A child may be
hostile: the master looks for itself whether the service is a sensor, and which sources
no sensor may deny. Works on the deny list of the runtime. Raises nothing.

Known gap: a hostile worker can name addresses that never came, and so have them denied.
"""

from unpd.access.denials import Denial, DenialError
from unpd.access.network import Network
from unpd.access.peer import Peer, source_bits
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.services.sensor import SensorOptions


def deny(runtime: Runtime, service: str, address: str) -> None:
    """Deny the source to which an address belongs, as the sensor ``service`` counts
    sources; the address alone, if the source has others that no sensor denies. A report
    about anything else is ignored: the configuration may have changed since.
    """
    config = runtime.deployment.config.services.get(service)
    if config is None or not isinstance(config.options, SensorOptions):
        return
    try:
        one = Network.parse(address)
    except ValueError:
        return  # a UNIX peer has no address
    peer = Peer(one.family, one.first)
    if config.access.never_deny.find(peer):
        return
    bits = source_bits(peer, config.source_prefix_v4, config.source_prefix_v6)
    network, at = Network.around(one.family, one.first, bits), now()
    if config.access.never_deny.overlaps(network):
        network = one
    until = at + config.options.deny_time_s
    try:
        runtime.deny_list.deny(Denial(network=network, since=at, until=until, service=service))
    except DenialError as error:
        _log(runtime, service, network, str(error))
    else:
        _log(runtime, service, network)


def _log(runtime: Runtime, service: str, network: Network, refused: str = "") -> None:
    suppressed = runtime.sensor_lines.take(now())
    if suppressed is not None:
        runtime.log.event(
            "denial.sensed",
            service=service,
            network=str(network),
            refused=refused,
            suppressed=suppressed,
        )
