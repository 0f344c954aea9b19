"""The way to the client of a connection, as the list of connections shows it.

Called by what describes itself to an operator (:mod:`unpd.worker.questions`). Owns
nothing and raises nothing.
"""

from dataclasses import asdict
from typing import Any

from unpd.kernel.connections import borrowed
from unpd.kernel.tcp_info import way_to


def way_of(fd: int) -> dict[str, Any]:
    """``rtt_s`` and ``retransmits`` of a connection over TCP
    (:class:`unpd.kernel.tcp_info.Way`); nothing of another, or for -1.
    """
    if fd < 0:
        return {}
    try:
        with borrowed(fd) as sock:
            way = way_to(sock)
    except OSError:
        return {}
    return asdict(way) if way else {}
