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
from unpd.access.denials import Denial
from unpd.access.explain import explain, halted
from unpd.access.network import WIDTHS, Network
from unpd.access.peer import UNIX, Peer, parse_peer
from unpd.access.rules import Entry
from unpd.board import layout
from unpd.board.sources import SourceCounts
from unpd.config.access_lists import THIS_HOST
from unpd.config.addresses import takes_datagrams
from unpd.config.schema import ServiceConfig
from unpd.control.explained import Circumstances, fields_of, no_service
from unpd.control.verb import VerbError
from unpd.loop import now
from unpd.master.denying import described
from unpd.master.runtime import Runtime
from unpd.names import ChildKind, ChildPhase, Halt, halt_reason
from unpd.worker.counted import Counted, DatagramCounts, Shown


class _Counts(Counted):
    """The counts as the master has them: it knows each denial whole."""

    def __init__(self, runtime: Runtime, service: str) -> None:
        shown = Shown(
            sources=runtime.sources,
            counts=SourceCounts(runtime.sources, lambda: runtime.board.rows_given),
            denied=runtime.deny_list.denied,
            halted=runtime.live.halted,
            master=runtime.board.words,
        )
        terms = runtime.deployment.config.services[service].main_access
        super().__init__(terms, runtime.columns.services.column(service), shown)
        self._deny_list = runtime.deny_list

    def denial(self, peer: Peer) -> LiveDenial | None:
        """The live denial of a peer: the widest, as a worker has it."""
        found = self.whole_denial(peer)
        return LiveDenial(Entry(str(found.network)), found.until) if found else None

    def whole_denial(self, peer: Peer) -> Denial | None:
        """The same, as the list has it."""
        if peer.family == UNIX:
            return None
        return self._deny_list.covering(
            Network.around(peer.family, peer.number, WIDTHS[peer.family])
        )


class _DatagramCounts(_Counts, DatagramCounts):
    """The same for a service that has datagrams alone."""


def explained(runtime: Runtime, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the answer."""
    services, name = runtime.deployment.config.services, arguments["service"]
    if name not in services:
        raise VerbError(no_service(name, services), usage=True)
    try:
        peer = parse_peer(arguments["peer"], THIS_HOST)
    except ValueError as error:
        raise VerbError(str(error), usage=True) from None
    at = Moment(now(), time.time())
    only_datagrams = all(map(takes_datagrams, services[name].listen))
    counts = (_DatagramCounts if only_datagrams else _Counts)(runtime, name)
    counts.turn_to(at.now)
    counts.be_about(peer)
    runtime.deny_list.look(at.now)
    explanation = explain(services[name].main_access, counts, peer, at)
    if (order := runtime.live.halts.get(name)) is not None:
        reason = halt_reason(order.halt)
        waits = order.halt is Halt.PAUSED and not only_datagrams
        explanation = halted(explanation, reason, waits=waits)
    denial = counts.whole_denial(peer)
    circumstances = Circumstances(
        about=services[name].main_uses,
        denial=described(runtime, denial) if denial else None,
        waits_for=_full(runtime, services[name], counts) or None,
    )
    return fields_of(name, peer, explanation, at.now, circumstances)


def _full(runtime: Runtime, service: ServiceConfig, counts: _Counts) -> str:
    """Say why no process would accept a client of a service now; "" if one would."""
    if all(map(takes_datagrams, service.listen)):
        return ""
    if service.model == "iterative":
        serving = counts.service_open()
        return "the model iterative serves one client at a time, and serves one" if serving else ""
    if service.model != "event":
        return ""
    limit = runtime.deployment.config.pools[service.pool].max_connections_per_worker
    opened = [
        runtime.board.words[layout.row_start(process.row) + layout.Row.OPEN]
        for process in runtime.processes.values()
        if process.child.slot.kind is ChildKind.WORKER
        and process.child.slot.pool == service.pool
        and process.child.phase is ChildPhase.READY
    ]
    if not opened or min(opened) < limit:
        return ""
    return (
        f"each worker of the pool {service.pool} has as many connections open as it may"
        f" (max_connections_per_worker = {limit})"
    )
