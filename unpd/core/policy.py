"""What the core does differently for each kind of child: one table, :data:`POLICIES`.

Owns the table. The rest of the core reads it and names no kind, except that an operator
can change the number of workers (:meth:`unpd.core.model.Wanted.resized`). A new kind of
child is a row here and a row in :data:`unpd.master.children.kinds.KINDS`. Calls and
raises nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from unpd.core.model import Child, Limits, Slot
from unpd.names import ChildKind

CUT_GRACE_S = 3.0
"""How long a child may take to end its connections: the 2 s of a lingering close, and
one second more.
"""


@dataclass(frozen=True, slots=True)
class Policy:
    """How the core treats one kind.

    ``serves``: a child of this kind serves the clients of its pool. One has to be ready
    there, or one for each slot (:mod:`unpd.core.readiness`); one that reports failure
    while the daemon starts ends the start.
    ``drain_s``: how long a retired child may keep its connections, in seconds; 0: as
    long as they last. ``finish_before_kill``: after that time the child is ordered to
    end its connections and gets CUT_GRACE_S more; otherwise it is killed at once.
    ``stop_share``: the part of ``grace_s`` that the kind has at a stop. The kind with
    the smallest part finishes first; the next kind begins when that has no child left.
    """

    serves: bool
    drain_s: Callable[[Limits], float]
    finish_before_kill: bool
    stop_share: float


_SERVING = Policy(
    serves=True,
    drain_s=lambda limits: limits.reload_grace_s,
    finish_before_kill=True,
    stop_share=0.8,
)

# A reload leaves running programs alone.
_PROGRAMS = replace(_SERVING, drain_s=lambda _: 0.0)

POLICIES: Mapping[ChildKind, Policy] = MappingProxyType(
    {
        ChildKind.WORKER: _SERVING,
        ChildKind.ITERATIVE: _SERVING,
        # A dispatcher drains for as long as the sessions that it forked.
        ChildKind.DISPATCHER: _SERVING,
        ChildKind.LAUNCHER: _PROGRAMS,
        ChildKind.PYTHON: _PROGRAMS,
        # An exporter's connections are short. It outlives the workers, so that a scrape
        # sees them drain.
        ChildKind.EXPORTER: Policy(
            serves=False,
            drain_s=lambda _: CUT_GRACE_S,
            finish_before_kill=False,
            stop_share=0.95,
        ),
    }
)
"""One row for each kind."""

LAST_SHARE = max(policy.stop_share for policy in POLICIES.values())
"""The part of ``grace_s`` after which no kind of child has any time left."""


def drain_end(slot: Slot, limits: Limits, now: float) -> float:
    """When the connections of a child in ``slot`` have to end that retires now; inf:
    they may last.
    """
    drain_s = POLICIES[slot.kind].drain_s(limits)
    return now + drain_s if drain_s else math.inf


def policy_of(child: Child) -> Policy:
    """The policy of the child's kind."""
    return POLICIES[child.slot.kind]
