"""The words and the JSON of a measurement."""

import json

from unpd.cli.client import report
from unpd.cli.client.figures import Spread
from unpd.cli.client.tally import Counts, Verdict
from unpd.cli.client.targets import Target

SUBJECT = report.Subject(Target("name", 7, datagrams=True), "192.0.2.1", 56)
COUNTS = Counts(sent=5, received=4, late=1, duplicates=2, strange=3, troubled=1)
SPREAD = Spread(100_000, 2_000_000, 30_000_000, 1_500_000, 29_000_000)
MOVED = report.Transferred(
    sent_bytes=4_000_000,
    received_bytes=2_000_000,
    sending_ns=2_000_000_000,
    elapsed_ns=2_500_000_000,
    sent_datagrams=4,
    received_datagrams=2,
    retransmits=None,
)


def measured(**changes: object) -> report.Measured:
    """Return a result with these changes."""
    fields: dict[str, object] = {
        "counts": COUNTS,
        "spread": SPREAD,
        "interval_ns": 200_000_000,
        "elapsed_ns": 1_234_567_890,
        "retransmits": None,
        **changes,
    }
    return report.Measured(**fields)  # type: ignore[arg-type]


def test_the_heading_has_the_address_of_a_name() -> None:
    """An address that the user named is not repeated."""
    assert SUBJECT.heading("") == "echo at name port 7 over UDP (192.0.2.1): 56 bytes"
    numeric = report.Subject(Target("192.0.2.1", 7), "192.0.2.1", 56)
    assert numeric.heading(", every 1 s") == "echo at 192.0.2.1 port 7: 56 bytes, every 1 s"


def test_a_live_line_is_that_of_ping() -> None:
    """Number, time with three significant digits, and what is odd about the answer."""
    assert report.answer_line(56, 1, 123_456, Verdict.IN_TIME) == "56 bytes: seq=1 time=0.123 ms"
    assert (
        report.answer_line(56, 2, 1_234_567_890, Verdict.LATE)
        == "56 bytes: seq=2 time=1235 ms (late)"
    )
    assert report.answer_line(56, 2, None, Verdict.DUPLICATE) == "56 bytes: seq=2 (duplicate)"
    assert [report.milliseconds(time_ns) for time_ns in (1_234_567, 12_345_678)] == ["1.23", "12.3"]


def test_the_summary_has_every_count() -> None:
    """What did not happen is left out, but for sent, received and lost."""
    assert report.summary(SUBJECT, measured()) == (
        "\n--- echo at name port 7 over UDP: statistics ---\n"
        "5 sent, 4 received, 1 lost (20%), 1 late, 2 duplicate, 3 strange, 1 with errors,"
        " time 1234 ms\n"
        "round trip min/avg/max/mdev/p99 = 0.100/2.000/30.000/1.500/29.000 ms\n"
    )
    nothing = Counts(sent=2, received=0, late=0, duplicates=0, strange=0, troubled=0)
    assert report.summary(SUBJECT, measured(counts=nothing, spread=None, retransmits=3)) == (
        "\n--- echo at name port 7 over UDP: statistics ---\n"
        "2 sent, 0 received, 2 lost (100%), time 1234 ms\n"
        "3 segments retransmitted\n"
    )


def test_the_json_has_the_fields_of_the_table() -> None:
    """Both objects have exactly the fields that are listed, in one line."""
    common = list(report.MEASURED_FIELDS)[:7]
    for text, fields in (
        (report.summary_json(SUBJECT, measured()), list(report.MEASURED_FIELDS)),
        (report.summary_json(SUBJECT, measured(spread=None)), list(report.MEASURED_FIELDS)),
        (report.throughput_json(SUBJECT, MOVED), [*common, *report.BULK_FIELDS]),
    ):
        assert text.count("\n") == 1
        assert text.endswith("}\n")
        assert list(json.loads(text)) == fields
    shown = json.loads(report.summary_json(SUBJECT, measured()))
    assert (shown["schema"], shown["lost"], shown["transport"]) == (1, 1, "udp")
    assert shown["round_trip_ms"] == {"min": 0.1, "avg": 2.0, "max": 30.0, "mdev": 1.5, "p99": 29.0}


def test_the_throughput_is_that_of_each_way() -> None:
    """Sent bytes count while the client was sending, received ones to the last."""
    assert report.throughput(SUBJECT, MOVED) == (
        "--- echo at name port 7 over UDP: throughput ---\n"
        "sent 4000000 bytes in 2.00 s: 2.0 MB/s\n"
        "received 2000000 bytes in 2.50 s: 0.8 MB/s\n"
        "4 datagrams sent, 2 received, 2 lost (50%)\n"
    )


def test_a_host_cannot_control_the_terminal() -> None:
    """Control characters of the user's words are escaped in every line and in JSON."""
    evil = report.Subject(Target("x\x1b[2J\x7f", 7), "192.0.2.1", 56)
    for text in (
        evil.heading(""),
        report.summary(evil, measured()),
        report.summary_json(evil, measured()),
        report.throughput(evil, MOVED),
        report.throughput_json(evil, MOVED),
    ):
        assert "\x1b" not in text
        assert "\x7f" not in text
