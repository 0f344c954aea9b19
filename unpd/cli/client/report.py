"""The words and the JSON of a measurement.

Called by ``ping`` and ``measuring``; calls ``figures``. Pure. The lines are
those of ping(8), where it has them. unpd(8) lists the fields of the JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unpd.cli.client import figures
from unpd.cli.client.failures import ClientFailure, not_a_server
from unpd.cli.client.tally import Counts, Verdict
from unpd.cli.client.targets import Target
from unpd.cli.output import printable
from unpd.names import ClientExit

SCHEMA = 1

MEASURED_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "schema": "the number of this list",
        "target": "the server, as the command names it",
        "address": "its address, as a number or a path",
        "transport": "one of tcp, udp, unix and unixgram",
        "size_bytes": "the size of a request",
        "elapsed_s": "how long the measurement took",
        "retransmits": "segments that the kernel sent again; null but over TCP",
        "interval_s": "the time between two requests",
        "sent": "requests that were sent",
        "received": "requests that were answered",
        "lost": "requests that were not answered",
        "late": "requests whose answer came after the timeout; they count as received",
        "duplicates": "answers after the first",
        "strange": "datagrams that are no answers",
        "troubled": "requests that met an error, such as one of ICMP",
        "round_trip_ms": "the object of min, avg, max, mdev and p99; null if no answer came",
    }
)
"""The fields of the object that a measurement prints, and their meanings."""

BULK_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "sent_bytes": "bytes that the kernel took",
        "received_bytes": "bytes that came back",
        "sent_bytes_per_s": "the rate while the client was sending",
        "received_bytes_per_s": "the rate until the last byte came",
        "sent_datagrams": "datagrams that were sent; null over a stream",
        "received_datagrams": "datagrams that came back; null over a stream",
    }
)
"""The fields that ``--bulk`` has in place of those from interval_s on."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was measured: the server, its address, the size of a request."""

    target: Target
    address: str
    size: int

    @property
    def fields(self) -> dict[str, object]:
        """Their part of the JSON."""
        return {
            "schema": SCHEMA,
            "target": self.target.text,
            "address": self.address,
            "transport": self.target.transport,
            "size_bytes": self.size,
        }

    def heading(self, rest: str) -> str:
        """Return the first line of a measurement."""
        name = printable(self.target.text)
        address = printable(self.address)
        known = "" if address in name else f" ({address})"
        return f"echo at {name}{known}: {self.size} bytes{rest}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a measurement."""

    counts: Counts
    spread: figures.Spread | None
    interval_ns: int
    elapsed_ns: int
    retransmits: int | None


@dataclass(frozen=True, slots=True)
class Transferred:
    """The result of ``--bulk``. The datagrams are None over a stream."""

    sent_bytes: int
    received_bytes: int
    sending_ns: int
    elapsed_ns: int
    sent_datagrams: int | None
    received_datagrams: int | None
    retransmits: int | None


def answer_line(size: int, number: int, round_trip_ns: int | None, verdict: Verdict) -> str:
    """Return the live line of one answer."""
    time_text = "" if round_trip_ns is None else f" time={milliseconds(round_trip_ns)} ms"
    mark = f" ({verdict.value})" if verdict.value else ""
    return f"{size} bytes: seq={number}{time_text}{mark}"


def milliseconds(time_ns: int) -> str:
    """Return a time in milliseconds with the digits of ping(8): three significant ones,
    and never more than three after the point.
    """
    time_ms = time_ns / 1e6
    digits = 3 if time_ms < 1 else 2 if time_ms < 10 else 1 if time_ms < 100 else 0
    return f"{time_ms:.{digits}f}"


def summary(subject: Subject, measured: Measured) -> str:
    """Return the lines at the end of a measurement."""
    counts = measured.counts
    parts = [
        f"{counts.sent} sent",
        f"{counts.received} received",
        f"{counts.lost} lost ({figures.loss_percent(counts.sent, counts.received):.3g}%)",
        *(
            f"{count} {word}"
            for count, word in (
                (counts.late, "late"),
                (counts.duplicates, "duplicate"),
                (counts.strange, "strange"),
                (counts.troubled, "with errors"),
            )
            if count
        ),
        f"time {measured.elapsed_ns // 1_000_000} ms",
    ]
    lines = ["", f"--- echo at {printable(subject.target.text)}: statistics ---", ", ".join(parts)]
    if (spread := measured.spread) is not None:
        times = (spread.min_ns, spread.avg_ns, spread.max_ns, spread.mdev_ns, spread.p99_ns)
        lines.append(
            "round trip min/avg/max/mdev/p99 ="
            f" {'/'.join(f'{time_ns / 1e6:.3f}' for time_ns in times)} ms"
        )
    return _ended([*lines, *_retransmitted(measured.retransmits)])


def summary_json(subject: Subject, measured: Measured) -> str:
    """Return the same as one JSON object in one line."""
    counts, spread = measured.counts, measured.spread
    return _json(
        {
            **subject.fields,
            "elapsed_s": measured.elapsed_ns / 1e9,
            "retransmits": measured.retransmits,
            "interval_s": measured.interval_ns / 1e9,
            "sent": counts.sent,
            "received": counts.received,
            "lost": counts.lost,
            "late": counts.late,
            "duplicates": counts.duplicates,
            "strange": counts.strange,
            "troubled": counts.troubled,
            "round_trip_ms": None
            if spread is None
            else {
                "min": spread.min_ns / 1e6,
                "avg": spread.avg_ns / 1e6,
                "max": spread.max_ns / 1e6,
                "mdev": spread.mdev_ns / 1e6,
                "p99": spread.p99_ns / 1e6,
            },
        }
    )


def throughput(subject: Subject, moved: Transferred) -> str:
    """Return the lines at the end of ``--bulk``."""
    lines = [
        f"sent {_moved(moved.sent_bytes, moved.sending_ns)}",
        f"received {_moved(moved.received_bytes, moved.elapsed_ns)}",
    ]
    if moved.sent_datagrams is not None and moved.received_datagrams is not None:
        percent = figures.loss_percent(moved.sent_datagrams, moved.received_datagrams)
        lines.append(
            f"{moved.sent_datagrams} datagrams sent, {moved.received_datagrams} received,"
            f" {moved.sent_datagrams - moved.received_datagrams} lost ({percent:.3g}%)"
        )
    heading = f"--- echo at {printable(subject.target.text)}: throughput ---"
    return _ended([heading, *lines, *_retransmitted(moved.retransmits)])


def throughput_json(subject: Subject, moved: Transferred) -> str:
    """Return the same as one JSON object in one line."""
    return _json(
        {
            **subject.fields,
            "elapsed_s": moved.elapsed_ns / 1e9,
            "retransmits": moved.retransmits,
            "sent_bytes": moved.sent_bytes,
            "received_bytes": moved.received_bytes,
            "sent_bytes_per_s": figures.per_second(moved.sent_bytes, moved.sending_ns),
            "received_bytes_per_s": figures.per_second(moved.received_bytes, moved.elapsed_ns),
            "sent_datagrams": moved.sent_datagrams,
            "received_datagrams": moved.received_datagrams,
        }
    )


def nothing_came(counts: Counts, timeout_s: float | None) -> ClientFailure:
    """Return the failure of a measurement without an answer."""
    if counts.strange:
        return not_a_server(
            "echo", f"{counts.strange} datagrams came, but no answer to {counts.sent} requests"
        )
    within = "" if timeout_s is None else f" within {timeout_s:g} s"
    return ClientFailure(
        ClientExit.TIMED_OUT, "timed out", f"no answer to {counts.sent} requests{within}"
    )


def _moved(amount: int, elapsed_ns: int) -> str:
    rate = figures.per_second(amount, elapsed_ns) / 1e6
    return f"{amount} bytes in {elapsed_ns / 1e9:.2f} s: {rate:.1f} MB/s"


def _retransmitted(segments: int | None) -> list[str]:
    return [] if segments is None else [f"{segments} segments retransmitted"]


def _ended(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _json(fields: dict[str, object]) -> str:
    """Return one line of ASCII without a control character."""
    return json.dumps(fields).replace("\x7f", "\\u007f") + "\n"
