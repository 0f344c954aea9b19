"""The exporter as a child: which listener it inherits, which labels its series have,
and its life.

Translates the master's configuration into the arguments of
:mod:`unpd.metrics.exporter`, which imports nothing of the master. Called by
:mod:`unpd.master.children.kinds`. Owns nothing.
"""

import ipaddress
from functools import partial

from unpd import __version__
from unpd.access.decide import Verdict
from unpd.access.peer import Peer
from unpd.access.rules import Entry
from unpd.board import layout
from unpd.board.memory import wrapped
from unpd.board.sources import SourceCounts
from unpd.config.addresses import BoundAddress, TcpAddress
from unpd.config.writing import key_shown
from unpd.core.model import Child
from unpd.logs import take_level
from unpd.loop import now
from unpd.master.children.fork import CHILD_SIGNALS, Newborn
from unpd.master.children.serving import kind_of, services_of_slots
from unpd.master.columns import target_keys
from unpd.master.runtime import Deployment, Runtime
from unpd.metrics.exporter import FINISH_S, ExporterContext, PageContext, run_exporter
from unpd.metrics.labels import Labels, ListenerLabels, Server, TargetLabels
from unpd.metrics.page.news import News
from unpd.names import METRICS, ChildKind, ChildOrder, RefusalReason
from unpd.worker.refusals import RefusalLines

FINISH_SHARE = 0.1
"""The part of ``grace_s`` that an exporter has for its last answers. The policy table
orders it to finish when the workers are gone, after 80 % of ``grace_s`` at the latest,
and kills it after 95 %.
"""


def exporter_keeps(deployment: Deployment, child: Child) -> tuple[int, ...]:
    """The HTTP listener and no other: while any duplicate of a listener is open, the
    kernel completes handshakes for it, though its owner has closed it.
    """
    del child
    return tuple(listener.sock.fileno() for listener in deployment.listeners.of(METRICS))


def live_as_exporter(runtime: Runtime, deployment: Deployment, newborn: Newborn) -> None:
    """The whole life of an exporter, called in the child."""
    listener = deployment.listeners.of(METRICS)[0]
    wanted = deployment.config.log
    newborn.log.set_level(wanted.level, connections=wanted.connections)
    lines, allow = RefusalLines(newborn.log), deployment.config.metrics.allow
    verdict = Verdict(RefusalReason.ALLOW, Entry(key_shown("allow", allow), allow.origin))

    def ready() -> None:
        newborn.report_ready()
        newborn.title("ready")

    patience_s = {
        ChildOrder.RETIRE: FINISH_S,
        ChildOrder.FINISH: min(FINISH_S, FINISH_SHARE * deployment.config.daemon.grace_s),
        ChildOrder.LEAVE: 0.0,
    }

    def stop_within() -> float | None:
        orders = [CHILD_SIGNALS.get(signum) for signum in newborn.signal_queue.take()]
        return min((patience_s[order] for order in orders if order in patience_s), default=None)

    def beat() -> None:
        newborn.cells[layout.Row.BEAT_NS] = int(now() * layout.NS)
        lines.flush(now())

    def refused(peer: Peer) -> None:
        cells = newborn.cells
        cells[layout.Row.READERS_REFUSED] = wrapped(cells[layout.Row.READERS_REFUSED] + 1)
        lines.refused(METRICS, peer, verdict, now())

    counts, feed = SourceCounts(runtime.sources, newborn.board.rows_shown), runtime.page_feed
    context = ExporterContext(
        sock=listener.sock,
        board=newborn.board,
        labels=exporter_labels(runtime, deployment),
        beat=beat,
        wakeup_fd=newborn.wakeup_fd,
        stop_within=stop_within,
        report=newborn.log.event,
        ready=ready,
        loopback=_is_loopback(listener.address),
        page=PageContext(
            history=runtime.history.history,
            files=runtime.page_files,
            news=News(feed.events, feed.ends.values(), feed.state),
            halted=runtime.live.halted,
        ),
        channel=newborn.channel,
        switch_log=newborn.switch_log,
        take_level=partial(take_level, newborn.log),
        allow=allow.rules,
        refused=refused,
        tracked=lambda: counts.tracked(now()),
    )
    run_exporter(context)
    lines.finish()


def _is_loopback(address: BoundAddress) -> bool:
    if not isinstance(address, TcpAddress):
        return False
    host, _, _ = address.host.partition("%")
    return ipaddress.ip_address(host).is_loopback


def exporter_labels(runtime: Runtime, deployment: Deployment) -> Labels:
    """Return the labels of the exporter's series, with their columns on the board."""
    columns, services = runtime.columns, deployment.config.services
    listeners = tuple(
        ListenerLabels(
            opened.wanted.service,
            opened.text,
            columns.listeners.column(key),
            isinstance(opened.address, TcpAddress),
        )
        for key, opened in deployment.listeners.opened.items()
        if opened.wanted.service != METRICS
    )
    return Labels(
        services=columns.services.shown_with(services),
        targets=tuple(
            TargetLabels(service, target, column)
            for key, column in columns.targets.shown_with(target_keys(services))
            for service, _, target in (key.partition(" "),)
        ),
        pools=columns.pools.shown_with({service.pool for service in services.values()}),
        listeners=listeners,
        served_by=servers_by_service(deployment),
        version=__version__,
        master_pid=runtime.master_pid,
        config=next(iter(runtime.config_names), None),
    )


def servers_by_service(deployment: Deployment) -> dict[str, frozenset[Server]]:
    """The children that serve each service."""
    return {
        name: frozenset(
            _server(deployment, kind_of(deployment, listener), service.pool, name)
            for listener in deployment.listeners.of(name)
        )
        for name, service in deployment.config.services.items()
    }


def _server(deployment: Deployment, kind: ChildKind, pool: str, service: str) -> Server:
    services = services_of_slots(kind, deployment, pool)
    return Server(kind, pool, services.index(service) if services else None)
