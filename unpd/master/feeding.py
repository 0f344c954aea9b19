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
from unpd.log_events.row import Field
from unpd.master.children import reports
from unpd.master.page_feed import bounded
from unpd.master.retired import retired
from unpd.master.runtime import Question, Runtime
from unpd.master.status import degradations, live_changes, reload_shown
from unpd.names import ChildKind

MAX_FAULTS = 12
"""How many faults the page names; the number of all is there too."""
MAX_LIVE_CHANGES = 16
"""The same of live changes."""
MAX_RETIRED = 16
"""How many generations with retired children the page shows: the last ones."""


def sweep(runtime: Runtime, state: State) -> None:
    """Send each exporter what is new. Call it about once a second."""
    feed = runtime.renewed_feed()
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
    found, changes = degradations(runtime, state), live_changes(runtime, state)
    reload = reload_shown(runtime)
    return {
        "faults": len(found),
        "degraded": [
            {"reason": str(each.fault), "text": bounded(each.text)} for each in found[:MAX_FAULTS]
        ],
        "last_reload": _bounded(reload) if reload else None,
        "live_changes": [_bounded(each) for each in changes[:MAX_LIVE_CHANGES]],
        "live_changes_left_out": max(0, len(changes) - MAX_LIVE_CHANGES),
        "retired": retired(runtime, state)[-MAX_RETIRED:],
    }


def _bounded(fields: Mapping[str, Field]) -> dict[str, Field]:
    return {name: bounded(value) for name, value in fields.items()}
