"""An explanation of a decision as the fields of an answer.

Called by the master and, for rules alone, by the command line.
:data:`unpd.control.client_fields.EXPLAINED` describes the fields.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unpd.access.explain import ADMITTED, WAITS, Explanation, Look
from unpd.access.peer import Peer
from unpd.config.wording import quoted_list
from unpd.errors import quoted
from unpd.names import METRICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What an answer says besides the explanation. ``about``: the uses of the service
    that it is about, in words. ``rules_of``: the file whose rules
    alone were asked. ``denial``: the live denial that holds for the peer, as the verb
    denied shows it. ``waits_for``: why the peer would wait though no limit keeps it.
    """

    about: str
    rules_of: str | None = None
    denial: Mapping[str, Any] | None = None
    waits_for: str | None = None


def fields_of(
    service: str, peer: Peer, explanation: Explanation, now: float, known: Circumstances
) -> dict[str, Any]:
    """The fields. ``now``: monotonic seconds."""
    waits = explanation.outcome == ADMITTED and known.waits_for is not None
    return {
        "service": service,
        "peer": peer.text,
        "outcome": WAITS if waits else explanation.outcome,
        "about": known.about,
        "rules_of": known.rules_of,
        "waits_for": known.waits_for if waits else None,
        "proxy": explanation.proxy.text if explanation.proxy else None,
        "denial": known.denial,
        "checks": [_check(look, now) for look in explanation.looks],
    }


def no_service(name: str, services: Iterable[str], whose: str = "the daemon") -> str:
    """A sentence for the name of no service. ``whose``: what has the ``services``."""
    if name == METRICS:
        return (
            "metrics is no service: allow in [metrics] alone says who may read the metrics, and"
            " live denials do not hold there"
        )
    return f"{whose} has no service {quoted(name)}; it has {quoted_list(services)}"


def _check(look: Look, now: float) -> dict[str, Any]:
    verdict = look.verdict
    rule = verdict.rule if verdict else None
    frees_at = verdict.frees_at if verdict else None
    return {
        "reason": str(look.reason),
        "resource": str(look.resource) if look.resource else None,
        "known": look.known,
        "refuses": verdict is not None,
        "observed": look.observed,
        "waits": look.waits and verdict is not None,
        "value": _rounded(look.value),
        "limit": look.limit,
        "rule": rule.text if rule else None,
        "file": (rule.origin.file or None) if rule else None,
        "line": (rule.origin.line or None) if rule else None,
        "frees_in_s": None if frees_at is None else max(0.0, round(frees_at - now, 3)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
