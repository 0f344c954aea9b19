"""Carries out ``unpd explain``: what a worker would decide now about a client.

Called by :mod:`unpd.master.orders`. Reads what workers read: the rules of the
configuration in use, the counts of all children, the live denials, the pressure.
Changes nothing. Errors: VerbError, which is answered.

Known gap: "uid:NAME" asks the user database. One on the network may make the master
wait.
"""

import time
from collections.abc import Mapping
from typing import Any

from unpd.access.decide import LiveDenial, Moment
from unpd.access.explain import explain
from unpd.access.network import WIDTHS, Network
from unpd.access.peer import UNIX, Peer, parse_peer
from unpd.access.rules import Entry
from unpd.board.sources import SourceCounts
from unpd.config.access_lists import THIS_HOST
from unpd.config.addresses import takes_datagrams
from unpd.config.wording import quoted_list
from unpd.control.explained import fields_of
from unpd.control.verbs import VerbError
from unpd.errors import quoted
from unpd.loop import now
from unpd.master.runtime import Runtime
from unpd.worker.admission import Counted, DatagramCounts, Shown


class _Counts(Counted):
    """The counts as the master has them: it knows each denial whole."""

    def __init__(self, runtime: Runtime, service: str) -> None:
        shown = Shown(
            sources=runtime.sources,
            counts=SourceCounts(runtime.sources, lambda: runtime.board.rows_given),
            denied=runtime.deny_list.denied,
            master=runtime.board.words,
        )
        terms = runtime.deployment.config.services[service].main_access
        super().__init__(terms, runtime.columns.services.column(service), shown)
        self._deny_list = runtime.deny_list

    def denial(self, peer: Peer) -> LiveDenial | None:
        """The live denial of a peer: the widest, as a worker has it."""
        if peer.family == UNIX:
            return None
        found = self._deny_list.covering(
            Network.around(peer.family, peer.number, WIDTHS[peer.family])
        )
        if found is None:
            return None
        return LiveDenial(Entry(str(found.network)), found.until)


class _DatagramCounts(_Counts, DatagramCounts):
    """The same for a service that has datagrams alone."""


def explained(runtime: Runtime, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the answer."""
    services, name = runtime.deployment.config.services, arguments["service"]
    if name not in services:
        raise VerbError(f"there is no service {quoted(name)}: name one of {quoted_list(services)}")
    try:
        peer = parse_peer(arguments["peer"], THIS_HOST)
    except ValueError as error:
        raise VerbError(str(error)) from None
    at = Moment(now(), time.time())
    only_datagrams = all(map(takes_datagrams, services[name].listen))
    counts = (_DatagramCounts if only_datagrams else _Counts)(runtime, name)
    counts.look_at(peer, at.now)
    runtime.deny_list.look(at.now)
    explanation = explain(services[name].main_access, counts, peer, at)
    return {**fields_of(name, peer, explanation, at.now), "about": services[name].main_uses}
