"""The times of a service in one record.

Made once for each service by :class:`unpd.config.schema.ServiceConfig`; the worker
passes the record on by reference. Calls nothing and raises nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """How long a connection of a service may last; all in seconds, 0 means no limit.

    ``idle_timeout_s``: without a byte in either direction. ``session_timeout_s``: from
    its beginning to its end. ``user_timeout_s``: while the peer acknowledges or reads
    nothing of our output (TCP_USER_TIMEOUT, tcp(7) and RFC 5482).
    """

    idle_timeout_s: float
    session_timeout_s: float
    user_timeout_s: float
