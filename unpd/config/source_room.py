"""Checks whether the shared memory of sources has room for the connections that a pool
allows, where a service counts them by source.

A worker has a lane of fixed size (:mod:`unpd.board.sources`), made at the start of the
daemon, so the key cannot make it larger. In a lane with too many sources, some share
their counts, and max_per_source refuses sources that have fewer connections.

Called by unpd.config.checks. Calls the schema. Raises nothing: a warning goes to the
findings.
"""

from unpd.board import layout
from unpd.config.findings import Findings
from unpd.config.schema import Config

MOST_SOURCES = layout.LANE_BUCKETS * layout.BUCKET_SOURCES // 2
"""With so many sources in a lane, one bucket in 50 overflows, so that the sources there
share a count; with twice as many, two in five.
"""


def check_source_room(config: Config, findings: Findings) -> None:
    """Warn of a limit of connections at which sources share their counts."""
    for name, pool in config.pools.items():
        counting = [
            service.name
            for service in config.services.values()
            if service.pool == name
            and service.model == "event"
            and service.max_per_source
            and not 0 < service.max_connections <= MOST_SOURCES
        ]
        if counting and pool.max_connections_per_worker > MOST_SOURCES:
            findings.warning(
                ("pools", name, "max_connections_per_worker"),
                f"if more than {MOST_SOURCES} sources have connections to one worker,"
                f" max_per_source of services.{counting[0]} may refuse sources that have fewer than"
                f" it allows: set at most {MOST_SOURCES}, and more workers",
            )
