"""An explanation of a decision as the fields of an answer.

Called by the master and, for rules alone, by the command line.
:data:`unpd.control.status_fields.EXPLAINED` describes the fields.
"""

from typing import Any

from unpd.access.explain import Explanation, Look
from unpd.access.peer import Peer


def fields_of(service: str, peer: Peer, explanation: Explanation, now: float) -> dict[str, Any]:
    """The fields. ``now``: monotonic seconds."""
    return {
        "service": service,
        "peer": peer.text,
        "outcome": explanation.outcome,
        "proxy": explanation.proxy.text if explanation.proxy else None,
        "checks": [_check(look, now) for look in explanation.looks],
    }


def _check(look: Look, now: float) -> dict[str, Any]:
    verdict = look.verdict
    rule = verdict.rule if verdict else None
    frees_at = verdict.frees_at if verdict else None
    return {
        "reason": str(look.reason),
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
