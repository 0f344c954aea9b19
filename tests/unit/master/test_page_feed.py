"""What the master sends its exporters for the status page: bounded, each event once,
and no address of a client.
"""

import pytest

from unpd.channel import MAX_LINE_BYTES
from unpd.json_lines import encode
from unpd.log_events.row import Field
from unpd.log_events.table import EVENTS
from unpd.master.feeding import MAX_FAULTS
from unpd.master.page_feed import KEPT_EVENTS, MAX_FIELD_CHARACTERS, SHOWN, PageFeed
from unpd.master.recent_events import RecentEvent
from unpd.metrics.page.news import News

LONGEST = "\u2028é" * MAX_FIELD_CHARACTERS
"""A text that is as long as can be in JSON."""


@pytest.fixture
def feed() -> PageFeed:
    """A new feed."""
    return PageFeed()


def happened(feed: PageFeed, name: str, **fields: Field) -> None:
    """An event comes."""
    feed.take([RecentEvent(feed.seen + 1, 1.5, "info", name, fields)])


def reaped(feed: PageFeed, *pids: int) -> None:
    """Children are reaped."""
    for pid in pids:
        happened(feed, "child.reaped", kind="worker", slot="default/0", pid=pid)


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


def test_the_longest_message_fits_into_a_line(feed: PageFeed) -> None:
    """Events, state and faults of the greatest length make a message that the channel
    takes; the events that have no room come with the next ones.
    """
    fields = {f"f{number}": LONGEST for number in range(20)}
    for _ in range(KEPT_EVENTS):
        happened(feed, "reload.refused", **fields)
    text = LONGEST[:MAX_FIELD_CHARACTERS]
    feed.state = {
        "degraded": [{"reason": "x" * 30, "text": text}] * MAX_FAULTS,
        "last_reload": {"reason": text},
    }
    taken = 0
    while (message := feed.message(7)) is not None:
        assert len(encode(message)) < MAX_LINE_BYTES
        assert message["events"]
        taken += len(message["events"])
    assert taken == KEPT_EVENTS


def test_no_text_brings_control_characters(feed: PageFeed) -> None:
    """A part of a text may come from a child that was taken over."""
    happened(feed, "reload.refused", reason="a\n\x1b[2Jb\u2028c")
    (event,) = feed.events
    assert event["fields"] == {"reason": "a  [2Jb c"}


def test_no_event_with_a_client_is_taken(feed: PageFeed) -> None:
    """Each event that the page shows is in the table, and none has a field that may
    hold an address of a client, or who asked for what.
    """
    assert EVENTS.keys() >= SHOWN
    for event in SHOWN - {"master.stopping"}:
        private = {"peer", "network", "by", "by_uid", "by_pid", "detail", "others"}
        assert not private & set(EVENTS[event].fields), event
    happened(feed, "connection.refused", peer="192.0.2.1")
    happened(feed, "denial.added", network="192.0.2.0/24")
    assert not feed.events


def test_the_exporter_takes_events_once() -> None:
    """What an exporter took over at its fork may come again with its first message."""
    feed = PageFeed()
    reaped(feed, 1, 2)
    news = News(feed.events)
    reaped(feed, 3)
    message = feed.message(7)
    assert message is not None
    news.take(message["events"], {"faults": 0})
    assert [event["number"] for event in news.events] == [1, 2, 3]
    assert news.state == {"faults": 0}
