"""Carries out the verbs about live denials: deny, undeny, denied.

Called by :mod:`unpd.master.orders`. Works on the deny list of the runtime, and has
:mod:`unpd.master.kicking` end connections. The protocol has checked the texts of the
request. Errors: DenialError, which is answered.
"""

import time
from collections.abc import Mapping
from typing import Any

from unpd.access.denials import Denial
from unpd.access.network import Network
from unpd.control.server import PendingRequest
from unpd.control.spans import span_s
from unpd.logs import moment
from unpd.loop import now
from unpd.master import kicking
from unpd.master.runtime import KickRequest, Runtime
from unpd.names import EndCause
from unpd.worker.selection import Kick, Selection

PAGE = 1000
"""How many denials an answer has at most. Even with the longest reasons they fit into
it, and they hold the master up by a few milliseconds.
"""


def deny(runtime: Runtime, pending: PendingRequest) -> Mapping[str, Any] | None:
    """Deny a network. None if the answer comes when its connections have ended."""
    arguments, at = pending.request.arguments, now()
    network, span = Network.parse(arguments["network"]), arguments["for"]
    denial = Denial(
        network=network,
        since=at,
        until=None if span is None else at + span_s(span),
        reason=arguments["why"] or "",
        uid=pending.credentials.uid,
    )
    replaced = runtime.deny_list.find(network) is not None
    runtime.deny_list.deny(denial)
    shown = described(runtime, denial)
    runtime.log.event(
        "denial.added",
        network=shown["network"],
        until=shown["until"] or "",
        why=denial.reason,
        by_uid=denial.uid,
    )
    fields = {"denial": shown, "replaced": replaced}
    if not arguments["kick"]:
        return {**fields, "kicked": None, "silent": 0}
    runtime.deny_list.publish_now(at)
    kick = Kick(Selection(network=network), EndCause.DENIED)
    kicking.begin(runtime, KickRequest(pending.number, kick, fields))
    return None


def undeny(runtime: Runtime, pending: PendingRequest) -> Mapping[str, Any]:
    """Take a denial back. The answer has it as it was."""
    network = Network.parse(pending.request.arguments["network"])
    denial = runtime.deny_list.undeny(network)
    uid = pending.credentials.uid
    runtime.log.event("denial.removed", network=str(network), by_uid=uid)
    return {"denial": described(runtime, denial)}


def denied(runtime: Runtime, pending: PendingRequest) -> Mapping[str, Any]:
    """A page of the list. ``next``: after which network the next page begins, None if
    this is the last one.
    """
    after = pending.request.arguments["after"]
    runtime.deny_list.look(now())
    page = runtime.deny_list.after(None if after is None else Network.parse(after), PAGE)
    return {
        "denials": [described(runtime, denial) for denial in page],
        "next": str(page[-1].network) if len(page) == PAGE else None,
    }


def described(runtime: Runtime, denial: Denial) -> dict[str, Any]:
    """A denial in an answer, as :data:`unpd.control.client_fields.DENIAL` has it."""
    epoch_s = runtime.deny_list.epoch_s(time.time() - now())
    return {
        "network": str(denial.network),
        "since": moment(denial.since + epoch_s),
        "until": None if denial.until is None else moment(denial.until + epoch_s),
        "reason": denial.reason,
        "uid": denial.uid,
        "service": denial.service or None,
    }
