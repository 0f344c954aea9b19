"""What the status page and the answer to ``status`` both say of the past, as JSON
values: the figures of all services together, their last ten minutes, the refusals of a
service by reason, how the last child of a slot ended, and the last events. The fields
are those of :mod:`unpd.control.history_fields` and ``status_fields``, which tests
compare.

Called by :mod:`unpd.metrics.page.snapshot` and :mod:`unpd.master.status`. Pure; raises
nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from unpd.board import layout
from unpd.board.history import Series
from unpd.board.memory import sane
from unpd.logs import moment
from unpd.metrics.page import wording
from unpd.names import RefusalReason

_RATES: Mapping[str, str] = MappingProxyType(
    {
        "accepted_per_s": "accepted",
        "datagrams_per_s": "datagrams",
        "received_bytes_per_s": "received",
        "sent_bytes_per_s": "sent",
        "refused_per_s": "refused",
    }
)
"""The rates, and the figures of the history of which they are made."""


def totals(series: Series, *, active: int, accepted: int, refused: int) -> dict[str, Any]:
    """The figures now, with the counts of the moment."""
    return {
        "active": active,
        "active_max_10min": max(active, series.highest("open")),
        "queued": series.latest("queued"),
        "queued_max_10min": series.highest("queued"),
        "accepted": accepted,
        "refused": refused,
        **rates(series),
        "rtt_s": _rounded(series.mean_s("rtt"), 6),
        "lag_s": _rounded(series.mean_s("lag"), 6),
    }


def rates(series: Series) -> dict[str, float | None]:
    """The rates now, in units a second."""
    return {name: _rounded(series.rate(figure), 1) for name, figure in _RATES.items()}


def history(series: Series, boot_ns: int) -> dict[str, Any]:
    """The samples, the oldest first, in lists of the same length. The times are of the
    clock since boot, that of now (``boot_ns``) too.
    """
    return {
        "now_s": round(boot_ns / layout.NS, 2),
        "at_s": [round(each / layout.NS, 2) for each in series.at_ns],
        "active": list(series.columns["open"]),
        "queued": list(series.columns["queued"]),
        **{
            name: [_rounded(each, 1) for each in series.rates(figure)]
            for name, figure in _RATES.items()
        },
        "rtt_s": [_rounded(each, 6) for each in series.means_s("rtt")],
        "lag_s": [_rounded(each, 6) for each in series.means_s("lag")],
    }


def refused_by_reason(counts: Iterable[tuple[RefusalReason, int]]) -> dict[str, int]:
    """The refusals of a service, without the reasons for which nobody was refused."""
    return {str(reason): sane(number) for reason, number in counts if number}


def last_end(end: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How the last child of a slot ended, from the record of the master; None if there
    is none.
    """
    if end is None:
        return None
    return {"ended": end["ended"], "pid": end["pid"], "at": moment(end["at"])}


def events(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Some events of the master, the newest first. ``records``: the oldest first."""
    return [_event(each) for each in reversed(records)]


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(event["fields"])
    return {
        "number": event["number"],
        "time": moment(event["at"]),
        "level": event["level"],
        "event": event["event"],
        "text": wording.event_text(event["event"], fields),
        "fields": fields,
    }


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
