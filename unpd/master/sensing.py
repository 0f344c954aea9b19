"""Denies whoever connects to a sensor, on all services, for a while.

Called by :mod:`unpd.master.children.reports` with what a child reports, and by the
shell in each turn. A report waits for its turn, each once: a turn carries out PER_TURN,
so that a flood holds up no answer and no request. At most MAX_WAITING wait. Those
beyond are lost and counted; their clients are reported again when they come again.

A child may be hostile: the master looks for itself whether the service is a sensor, and
which sources no sensor may deny. Works on the deny list of the runtime. Raises nothing.

Known gap: a hostile worker can name addresses that never came, and so have them denied.
"""

import itertools

from unpd.access.denials import Denial, DenialError
from unpd.access.network import Network
from unpd.access.peer import Peer
from unpd.board.layout import SANE_COUNT, Master
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.services.sensor import SensorOptions

MAX_WAITING = 4096
PER_TURN = 64
"""How many reports are carried out in a turn: they take 10 ms at most."""
_LONGEST_ADDRESS = 45
"""As many characters has an IPv6 address at most (INET6_ADDRSTRLEN)."""


def take(runtime: Runtime, service: str, address: str, lost: object) -> None:
    """Keep a report for its turn. ``lost``: how many the child could not send."""
    count = lost if type(lost) is int and 0 <= lost < SANE_COUNT else 0
    known = service in runtime.deployment.config.services and len(address) <= _LONGEST_ADDRESS
    report = (service, address)
    if known and (report in runtime.sensed or len(runtime.sensed) < MAX_WAITING):
        runtime.sensed[report] = None
    elif known:
        count += 1
    if count:
        runtime.board.count(Master.REPORTS_LOST, count)


def carry_out(runtime: Runtime, most: int = PER_TURN) -> None:
    """Carry out the reports that have waited longest."""
    for report in tuple(itertools.islice(runtime.sensed, most)):
        del runtime.sensed[report]
        deny(runtime, *report)


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
        return  # a UNIX peer has no address
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
