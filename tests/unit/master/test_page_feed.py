"""What the master sends its exporters for the status page: bounded, each event once,
and no address of a client.
"""

import pytest

from unpd.channel import MAX_LINE_BYTES
from unpd.json_lines import encode
from unpd.log_events.row import Field
from unpd.log_events.table import EVENTS
from unpd.master.feeding import MAX_FAULTS, MAX_LIVE_CHANGES, MAX_RETIRED
from unpd.master.page_feed import (
    ADDRESSES,
    ASKING,
    GRAVE,
    MAX_FIELDS,
    MAX_TEXT_BYTES,
    SHOWN,
    PageFeed,
    bounded,
)
from unpd.master.recent_events import RecentEvent
from unpd.metrics.page.news import KEPT_ENDS, KEPT_EVENTS, News

LONGEST = "\U0001f600" * MAX_TEXT_BYTES
"""A text whose characters have twelve bytes each in JSON."""


@pytest.fixture
def feed() -> PageFeed:
    """A new feed."""
    return PageFeed()


def happened(feed: PageFeed, name: str, **fields: Field) -> None:
    """An event comes."""
    level = EVENTS[name].level
    feed.take([RecentEvent(feed.seen + 1, 1.5, level, name, fields)])


def reaped(feed: PageFeed, *pids: int, slot: str = "default/0", reason: str = "sigkill") -> None:
    """Children are reaped."""
    for pid in pids:
        happened(
            feed,
            "child.reaped",
            kind="worker",
            slot=slot,
            pid=pid,
            reason=reason,
            ended="ended",
        )


def pids(message: dict[str, list[dict[str, dict[str, int]]]] | None) -> list[int]:
    """The children in the events of a message."""
    return [] if message is None else [event["fields"]["pid"] for event in message["events"]]


def test_each_exporter_gets_each_event_once(feed: PageFeed) -> None:
    """A message has what an exporter has not got yet; there is none without news."""
    reaped(feed, 1, 2)
    assert pids(feed.message(7)) == [1, 2]
    reaped(feed, 3)
    assert pids(feed.message(7)) == [3]
    assert feed.message(7) is None
    assert pids(feed.message(8)) == [1, 2, 3]


def test_a_changed_state_is_news(feed: PageFeed) -> None:
    """The state comes with each message, and alone if nothing has happened."""
    feed.state = {"faults": 1}
    message = feed.message(7)
    assert message is not None
    assert (message["state"], message["events"]) == ({"faults": 1}, [])
    assert feed.message(7) is None


def test_one_message_at_a_time(feed: PageFeed) -> None:
    """An exporter that has yet to answer gets nothing more; then it gets all of it."""
    reaped(feed, 1)
    assert pids(feed.message(7)) == [1]
    feed.asked.add(7)
    reaped(feed, 2, 3)
    assert feed.message(7) is None
    feed.asked.clear()
    assert pids(feed.message(7)) == [2, 3]


def test_only_the_last_events_are_kept(feed: PageFeed) -> None:
    """A crash loop does not fill the memory."""
    reaped(feed, *range(3 * KEPT_EVENTS))
    assert pids(feed.message(7)) == list(range(2 * KEPT_EVENTS, 3 * KEPT_EVENTS))


def test_an_exporter_that_is_gone_is_forgotten(feed: PageFeed) -> None:
    """Exporters come and go with reloads."""
    reaped(feed, 1)
    feed.message(7)
    feed.message(8)
    feed.asked |= {7, 8}
    feed.keep(frozenset({8}))
    assert (set(feed.sent), feed.asked) == ({8}, {8})


def test_a_reload_does_not_drive_out_what_matters(feed: PageFeed) -> None:
    """A reload of many workers, clean ends included, leaves the events of before on the
    page; how the last child of each slot ended is kept beside them.
    """
    happened(feed, "worker.died", pool="default", index=0, birth=1, ended="exit code 1")
    for birth in range(200):
        happened(feed, "child.spawned", kind="worker", slot=f"default/{birth}", birth=birth)
        happened(feed, "worker.ready", pool="default", index=birth, birth=birth)
        reaped(feed, birth, slot=f"default/{birth}", reason="clean")
    happened(feed, "reload.succeeded", generation=2)
    assert [event["event"] for event in feed.events] == ["worker.died", "reload.succeeded"]
    assert {end["slot"] for end in feed.ends.values()} == {f"default/{n}" for n in range(200)}


def test_the_last_ends_are_bounded(feed: PageFeed) -> None:
    """A daemon that has had very many slots remembers the last ones."""
    for pid in range(KEPT_ENDS + 3):
        reaped(feed, pid, slot=f"default/{pid}")
    assert [end["pid"] for end in feed.ends.values()] == list(range(3, KEPT_ENDS + 3))


@pytest.mark.parametrize("character", ["x", '"', "é", "\u2028", "\U0001f600", "\ud800", "\n"])
def test_a_text_is_bounded_by_its_bytes(character: str) -> None:
    """One character of a text may have twelve bytes in JSON. A text that was cut says
    so; one that fits is whole.
    """
    text = bounded(f"a{character * MAX_TEXT_BYTES}")
    assert isinstance(text, str)
    assert len(encode({"": text})) <= len(encode({"": ""})) + MAX_TEXT_BYTES
    assert text.endswith("...")
    assert bounded(f"{'a' * 30}é") == f"{'a' * 30}é"


def test_the_longest_message_fits_into_a_line(feed: PageFeed) -> None:
    """Events, ends, state and faults of the greatest length make messages that the
    channel takes: what has no room comes with the next one, and nothing is lost.
    """
    fields = {f"field_{number}": LONGEST for number in range(2 * MAX_FIELDS)}
    for number in range(KEPT_EVENTS):
        happened(feed, "reload.refused", **fields)
        happened(feed, "child.reaped", slot=f"{number}{LONGEST}", kind="worker", ended=LONGEST)
    text = bounded(LONGEST)
    change = {"change": "log_level", "subject": "s" * 64, "value": "v" * 64, "until": "u" * 64}
    retired = {"generation": 10**9, "children": 10**4, "connections": 10**9}
    feed.state = {
        "faults": 10**4,
        "degraded": [{"reason": "x" * 30, "text": text}] * MAX_FAULTS,
        "last_reload": {"reason": text, "result": "refused", "ended_at": "x" * 20},
        "live_changes": [change] * MAX_LIVE_CHANGES,
        "retired": [retired] * MAX_RETIRED,
    }
    news = News()
    ends = 0
    while (message := feed.message(7)) is not None:
        assert len(encode(message)) <= MAX_LINE_BYTES
        assert message["events"] or message["ends"]
        news.take(message["events"], message["ends"], message["state"])
        ends = len(news.ends)
    assert list(news.events) == list(feed.events)
    assert len(feed.events) == KEPT_EVENTS
    assert ends == len(feed.ends)


def test_no_text_brings_control_characters(feed: PageFeed) -> None:
    """A part of a text may come from a child that was taken over."""
    happened(feed, "reload.refused", reason="a\n\x1b[2Jb\u2028c")
    (event,) = feed.events
    assert event["fields"] == {"reason": "a;  [2Jb c"}


def test_lines_of_a_text_are_parted(feed: PageFeed) -> None:
    """A refusal may have several lines, each of which is a sentence."""
    happened(feed, "reload.refused", reason="services.echo: no\n  services.time: no\n")
    (event,) = feed.events
    assert event["fields"] == {"reason": "services.echo: no; services.time: no"}


def test_no_event_with_a_client_is_taken(feed: PageFeed) -> None:
    """No event with a field for an address of a client is shown, whatever its level,
    and none says who asked for something.
    """
    assert EVENTS.keys() >= SHOWN
    shown: dict[str, dict[str, Field]] = {}
    for row in EVENTS.values():
        happened(feed, row.name, **{name: f"<{name}>" for name in row.fields})
        shown |= {event["event"]: event["fields"] for event in feed.events}
        feed.events.clear()
    private = {row.name for row in EVENTS.values() if ADDRESSES & set(row.fields)}
    assert len(private) > 10
    assert not private & shown.keys()
    assert not [name for name, fields in shown.items() if ASKING & fields.keys()]
    happened(feed, "service.halted", service="echo", halted="paused", until="", by_uid=0)
    happened(feed, "master.stopping", quick=False, by="uid 0, pid 7")
    assert [event["fields"] for event in feed.events] == [
        {"service": "echo", "halted": "paused", "until": ""},
        {"quick": False},
    ]


def test_every_grave_event_is_shown(feed: PageFeed) -> None:
    """Nobody has to name a new warning here for the page to show it."""
    for row in EVENTS.values():
        grave = row.level in GRAVE and not ADDRESSES & set(row.fields)
        feed.events.clear()
        happened(feed, row.name, **dict.fromkeys(row.fields, ""))
        shown = grave or row.name in SHOWN or row.name == "child.reaped"
        assert bool(feed.events) == shown, row.name


def test_the_exporter_takes_events_once() -> None:
    """What an exporter took over at its fork may come again with its first message."""
    feed = PageFeed()
    reaped(feed, 1, 2)
    news = News(feed.events, feed.ends.values())
    reaped(feed, 3)
    message = feed.message(7)
    assert message is not None
    news.take(message["events"], message["ends"], {"faults": 0})
    assert [event["number"] for event in news.events] == [1, 2, 3]
    assert [end["pid"] for end in news.ends.values()] == [3]
    assert news.state == {"faults": 0}
