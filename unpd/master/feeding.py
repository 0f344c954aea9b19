"""Sends the exporters what the status page shows and only the master knows.

Called by the shell's sweep. Each exporter gets what is new as one question over its
channel (:mod:`unpd.master.children.reports`), and the next one when it has answered. So
it gets a message a second at most, a burst of events is one message, and an exporter
that hangs costs nothing. All parts are bounded, so that a message fits into a line.

Works on :class:`unpd.master.runtime.Runtime`; raises nothing.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from unpd.core.model import State
from unpd.logs import moment
from unpd.master.children import reports
from unpd.master.page_feed import bounded
from unpd.master.runtime import LastReload, Question, Runtime
from unpd.master.status import degradations
from unpd.names import ChildKind, ReloadResult

MAX_FAULTS = 12
"""How many faults the page names; the number of all is there too."""


def sweep(runtime: Runtime, state: State) -> None:
    """Send each exporter what is new. Call it about once a second."""
    feed = runtime.page_feed
    feed.take(runtime.recent_events.after(feed.seen))
    feed.state = state_of(runtime, state)
    exporters = [
        birth
        for birth, process in runtime.processes.items()
        if process.child.slot.kind is ChildKind.EXPORTER
    ]
    feed.keep(frozenset(exporters))
    for birth in exporters:
        if (message := feed.message(birth)) is not None:
            feed.asked.add(birth)
            reports.ask(runtime, birth, Question(message, partial(_answered, runtime, birth)))


def _answered(runtime: Runtime, birth: int, answer: Mapping[str, Any] | None) -> None:
    """Take the answer. None: the exporter has died, or its channel is full: it has not
    got the message.
    """
    runtime.page_feed.asked.discard(birth)
    if answer is None:
        runtime.page_feed.sent.pop(birth, None)


def state_of(runtime: Runtime, state: State) -> dict[str, Any]:
    """What the master knows beside the board and the events."""
    found = degradations(runtime, state)
    config = next(iter(runtime.config_names), None)
    return {
        "config": None if config is None else bounded(config),
        "faults": len(found),
        "degraded": [
            {"reason": str(each.fault), "text": bounded(each.text)} for each in found[:MAX_FAULTS]
        ],
        "last_reload": _reload(runtime.last_reload) if runtime.last_reload else None,
        "limits": {
            name: service.max_connections
            for name, service in runtime.deployment.config.services.items()
        },
    }


def _reload(last: LastReload) -> dict[str, Any]:
    return {
        "result": str(ReloadResult.REFUSED if last.refused else ReloadResult.SUCCESS),
        "reason": bounded(last.refused),
        "ended_at": moment(last.ended_at),
        "generation": last.generation,
    }
