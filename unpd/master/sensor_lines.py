"""The log lines about sensors: few, whatever floods, and true in their sums, as those
about refusals are (:mod:`unpd.worker.refusals`).

The first connection of a network gives a line at once; those that follow are summed up
once a second. Beyond MAX_NETWORKS in a second, the others share one line for each
sensor. A line stands for as many connections as its field ``count`` says.

Owned by the runtime. Called by :mod:`unpd.master.sensing` for each connection, and by
the shell once a second and before the end. Writes to the log, and raises nothing.
"""

from unpd.access.network import Network
from unpd.logs import Log

MAX_NETWORKS = 32
OTHERS = "others"
"""The network of a line about those for which the table has no room."""


class SensorLines:
    """The lines about sensors. A table of how many connections no line stands for yet,
    by sensor, network and the reason against the denial.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._networks: dict[tuple[str, str, str], int] = {}
        self._others: dict[tuple[str, str, str], int] = {}

    def take(self, service: str, network: Network, refused: str = "") -> None:
        """Take a connection to a sensor. ``refused``: why its network is not denied."""
        key = (service, str(network), refused)
        if key in self._networks:
            self._networks[key] += 1
        elif len(self._networks) < MAX_NETWORKS:
            self._networks[key] = 0
            self._write(key, 1)
        else:
            others = (service, OTHERS, refused)
            self._others[others] = self._others.get(others, 0) + 1

    def flush(self) -> None:
        """Write the sums. Forget the networks that have none."""
        summed = {key: count for key, count in self._networks.items() if count}
        for key, count in (*summed.items(), *self._others.items()):
            self._write(key, count)
        self._networks = dict.fromkeys(summed, 0)
        self._others.clear()

    def _write(self, key: tuple[str, str, str], count: int) -> None:
        service, network, refused = key
        self._log.event(
            "denial.sensed", service=service, network=network, refused=refused, count=count
        )
