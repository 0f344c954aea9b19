"""The status page and /status.json: two views of one snapshot of a board, a history and
the news of the master.
"""

import html.parser
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import pytest

from tests.support.exporter import make_labels
from unpd.board import layout, memory
from unpd.board.history import Figures, HistoryWriter
from unpd.board.layout import Master, Row, Service
from unpd.board.memory import Entry, Scoreboard
from unpd.control.answer_fields import AnswerField, mismatch
from unpd.control.page_fields import PAGE
from unpd.logs import moment
from unpd.loop import now
from unpd.metrics.labels import Server
from unpd.metrics.messages import Page
from unpd.metrics.page import charts, snapshot, wording
from unpd.metrics.page.files import PageFiles
from unpd.metrics.page.html import EVENTS_SHOWN, document, state_words
from unpd.metrics.page.news import News
from unpd.metrics.page.snapshot import MAX_CHILDREN_SHOWN, SILENT_S, Moment, Sources
from unpd.metrics.page.status_page import CACHED_S, POLICY, StatusPage
from unpd.names import ChildKind, ChildPhase, MasterPhase

NOW_S = 5000.0
WALL_S = 1_700_000_000.0
STATE = {
    "config": "/etc/unpd/unpd.toml",
    "faults": 0,
    "degraded": [],
    "last_reload": None,
    "limits": {"echo": 100},
}


@dataclass
class Site:
    """The page over a board, at a time that stands still."""

    board: Scoreboard
    writer: HistoryWriter = field(default_factory=HistoryWriter)
    news: News = field(default_factory=lambda: News(state=dict(STATE)))
    now_s: float = NOW_S

    def __post_init__(self) -> None:
        words = self.board.words
        words[Master.PHASE] = layout.MASTER_PHASES.index(MasterPhase.RUNNING)
        words[Master.GENERATION] = 3
        words[Master.START_WALL_NS] = int((WALL_S - 90) * layout.NS)
        self.beat()
        self.sources = Sources(self.board, make_labels(os.getpid()), self.writer.history, self.news)
        self.page = StatusPage(self.sources, PageFiles.read(), self.moment)

    def moment(self) -> Moment:
        """The time now."""
        return Moment(self.now_s, int(self.now_s * layout.NS), WALL_S)

    def beat(self, age_s: float = 0.0) -> None:
        """Let the master's last heartbeat be of that age, by the real clock."""
        beat_s = now() - age_s
        self.board.words[Master.BEAT_NS] = int(beat_s * layout.NS)

    def values(self) -> dict[str, Any]:
        """What /status.json says."""
        found: dict[str, Any] = json.loads(self.get("/status.json").body)
        assert not mismatch(found, PAGE), mismatch(found, PAGE)
        return found

    def get(self, path: str) -> Page:
        """A page."""
        return self.page.routes[path]()

    def text(self) -> str:
        """The page as HTML."""
        return document(snapshot.snapshot(self.sources, self.moment()))

    def worker(
        self, row: int = 0, phase: ChildPhase = ChildPhase.READY, index: int = 0, pid: int = 4000
    ) -> None:
        """Put a worker into the directory, born a minute ago."""
        born_ns = int((NOW_S - 60) * layout.NS)
        kind = ChildKind.WORKER
        self.board.enter(Entry(row, row + 1, pid + row, kind, 0, phase, 3, index, born_ns))
        cells = self.board.row(row)
        cells[Row.BEAT_NS], cells[Row.OPEN] = int((NOW_S - 0.5) * layout.NS), 7

    def event(self, event: str, **fields: Any) -> None:
        """The master says that something has happened."""
        number = len(self.news.events) + 1
        record = {"number": number, "at": WALL_S, "event": event, "fields": fields}
        self.news.take([record], self.news.state)


@pytest.fixture
def site() -> Iterator[Site]:
    """A page over an empty board."""
    fd = memory.create()
    yield Site(Scoreboard(fd))
    os.close(fd)


def names(fields: tuple[AnswerField, ...]) -> set[str]:
    """The names of fields."""
    return {one.name for one in fields}


# --- the snapshot ---------------------------------------------------------------------


def test_json_has_the_fields_of_the_table(site: Site) -> None:
    """Each object of /status.json has exactly the fields that the manual lists."""
    site.worker()
    site.event("child.reaped", kind="worker", slot="default/0", pid=3999, ended="exit code 1")
    site.writer.write(int(NOW_S * layout.NS), Figures(open=1), {1: Figures(open=1)})

    def compare(values: Any, fields: tuple[AnswerField, ...]) -> None:
        for one in values if isinstance(values, list) else [values]:
            assert set(one) == names(fields)
            for child in fields:
                if child.fields and one[child.name]:
                    compare(one[child.name], child.fields)

    compare(site.values(), PAGE)


def test_now_maximum_and_limit(site: Site) -> None:
    """A service has its open and waiting connections now, the most of ten minutes, and
    the limit of both.
    """
    cells = site.board.row(0)
    site.worker()
    cells[layout.service_cells(1) + Service.ACCEPTED] = 4
    site.board.words[Master.LISTEN_QUEUES + 2] = 2
    site.board.words[Master.LISTEN_QUEUES + 3] = 128
    for second, (opened, queued) in enumerate(((3, 0), (40, 9), (4, 2))):
        figures = Figures(open=opened, queued=queued, accepted=10 * second)
        at_ns = int((NOW_S - 2 + second) * layout.NS)
        site.writer.write(at_ns, figures, {1: figures})
    _, echo = site.values()["services"]
    assert echo["name"] == "echo"
    assert (echo["open"], echo["open_highest"], echo["open_limit"]) == (4, 40, 100)
    assert (echo["queued"], echo["queued_highest"], echo["queued_limit"]) == (2, 9, 128)
    assert echo["accepted_per_s"] == 10
    assert [one["queue"] for one in echo["listeners"]] == [{"length": 2, "limit": 128}, None]


def test_a_service_without_a_limit_has_none(site: Site) -> None:
    """A limit of 0 in the configuration is none."""
    site.news.state = {**STATE, "limits": {"echo": 0}}
    assert [one["open_limit"] for one in site.values()["services"]] == [None, None]


@pytest.mark.parametrize(
    ("age_s", "answering"), [(0.0, True), (SILENT_S - 1, True), (SILENT_S + 1, False)]
)
def test_a_master_that_is_silent_is_shown_as_such(
    site: Site, age_s: float, answering: bool
) -> None:
    """A master that has not beaten for five seconds is hung or stopped: the page says
    so in its first words.
    """
    site.worker()
    site.beat(age_s)
    values = site.values()
    assert values["answering"] is answering
    assert values["heartbeat_age_s"] == pytest.approx(age_s, abs=0.5)
    silent = "The main process has given no sign of life for more than 5 seconds."
    assert (silent in site.text()) is not answering
    assert ("does not answer" in state_words(values)) is not answering


def test_a_child_with_its_state(site: Site) -> None:
    """A row for each child: kind, place, state, process, age, connections, heartbeat,
    and how its predecessor ended.
    """
    site.event("child.reaped", kind="worker", slot="default/1", pid=17, ended="exit code 1")
    site.event("child.reaped", kind="worker", slot="default/0", pid=18, ended="killed by SIGKILL")
    site.worker()
    (child,) = site.values()["children"]
    assert child == {
        "kind": "worker",
        "pool": "default",
        "index": 0,
        "service": None,
        "phase": "ready",
        "generation": 3,
        "birth": 1,
        "pid": 4000,
        "age_s": 60.0,
        "heartbeat_age_s": 0.5,
        "open": 7,
        "last_end": {"ended": "killed by SIGKILL", "pid": 18, "at": moment(WALL_S)},
    }


def test_a_slot_without_a_child_is_missing(site: Site) -> None:
    """A pool wants three workers and has two, one of which drains: it takes no slot
    from the wanted ones.
    """
    wanted = layout.wanted_words(0) + layout.SERVING_KINDS.index(ChildKind.WORKER)
    site.board.words[wanted] = 3
    site.worker(0, index=0)
    site.worker(1, ChildPhase.KILLED, index=2)
    assert [(one["index"], one["phase"], one["pid"]) for one in site.values()["children"]] == [
        (0, "ready", 4000),
        (1, "missing", None),
        (2, "killed", 4001),
    ]


def test_the_service_of_a_slot_that_serves_it_alone(site: Site) -> None:
    """It is named in the place of the pool."""
    served_by = {"echo": frozenset({Server(ChildKind.WORKER, "default", 0)})}
    labels = replace(site.sources.labels, served_by=served_by)
    site.sources = replace(site.sources, labels=labels)
    site.worker()
    text = site.text()
    assert '<th scope="row">worker echo</th>' in text


def test_many_children_are_cut(site: Site) -> None:
    """The page stays small with any number of children, and says what it leaves out."""
    for row in range(MAX_CHILDREN_SHOWN + 5):
        site.worker(row, index=row)
    values = site.values()
    assert (len(values["children"]), values["children_left_out"]) == (MAX_CHILDREN_SHOWN, 5)
    assert "5 more are not shown" in site.text()


# --- the page -------------------------------------------------------------------------


class Outline(html.parser.HTMLParser):
    """Checks that elements are closed, and collects attributes."""

    VOID = frozenset({"meta", "link", "path"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        assert self.open.pop() == tag


def busy(site: Site) -> None:
    """Ten minutes of load, and every sort of trouble."""
    for second in range(600):
        wave = 1000 + 997 * (second % 61) + second
        figures = Figures(
            wave, 50 * wave, wave, 10**6 * wave, 10**7 * wave, wave, wave, second, wave, 9, wave
        )
        site.writer.write(
            int((NOW_S - 600 + second) * layout.NS), figures, {0: figures, 1: figures}
        )
    for row in range(8):
        site.worker(row, index=row)
    for pid in range(50):
        site.event("child.reaped", kind="worker", slot="default/0", pid=pid, ended="exit code 1")


def test_the_page_is_small(site: Site) -> None:
    """HTML, style and script of a busy daemon have less than 60 KB together."""
    busy(site)
    sizes = [len(site.get(path).body) for path in ("/", "/page.css", "/page.js")]
    assert sum(sizes) < 60_000, sizes


def test_the_html_is_sound(site: Site) -> None:
    """Every element is closed, no id occurs twice, and nothing is loaded from another
    host or by a style attribute, which the policy would refuse.
    """
    busy(site)
    outline = Outline()
    outline.feed(site.text())
    assert outline.open == []
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value for name, value in outline.attributes if name in ("href", "src")}
    others = {"data:,", "status.json", "metrics", "healthz", "readyz"}
    assert links == {"page.css", "page.js"} | others
    assert not [name for name, _ in outline.attributes if name == "style" or name.startswith("on")]


def test_texts_are_escaped(site: Site) -> None:
    """No name and no reason becomes markup."""
    evil = "<script>&\"'"
    site.news.state = {
        **STATE,
        "config": evil,
        "faults": 1,
        "degraded": [{"reason": evil, "text": evil}],
        "last_reload": {"result": "refused", "reason": evil, "ended_at": evil, "generation": 1},
    }
    site.event(evil, text=evil)
    site.event("child.reaped", kind="worker", slot="default/0", pid=evil, ended=evil)
    site.worker()
    text = site.text()
    assert text.count("<script") == 1
    assert text.count("&lt;script&gt;&amp;&quot;&#x27;") >= 7


def test_troubles_are_shown(site: Site) -> None:
    """Faults, and a reload that was refused, stand above everything else; the numbers
    of both are whole.
    """
    site.news.state = {
        **STATE,
        "faults": 3,
        "degraded": [{"reason": "crash_loop", "text": "worker default/0 keeps dying early"}],
        "last_reload": {
            "result": "refused",
            "reason": "there is no service ecko",
            "ended_at": "2026-11-22T21:23:10Z",
            "generation": 1,
        },
    }
    text = site.text()
    assert "Degraded (crash_loop): worker default/0 keeps dying early." in text
    assert "2 more faults" in text
    assert "was refused: there is no service ecko" in text
    assert "Not ready: no ready worker for service daytime, echo." in text
    assert "not ready, degraded" in text


def test_the_numbers_are_there_without_a_script(site: Site) -> None:
    """The page that the server sends has the figures of all tables and a text for each
    chart.
    """
    busy(site)
    text = site.text()
    assert "<noscript>" in text
    assert re.search(r'aria-label="Open connections: now [\d,]+, highest [\d,]+"', text)
    assert text.count("<figure>") == text.count('role="img"') == 7
    assert text.count("<caption>") == text.count("<table") == 3
    assert text.count("child.reaped") == EVENTS_SHOWN


def test_it_shows_no_client(site: Site) -> None:
    """No field is for an address of a client."""
    for _, each in (("", one) for one in PAGE):
        assert "peer" not in each.name


@pytest.mark.parametrize("path", ["/", "/status.json", "/page.css", "/page.js"])
def test_the_headers_forbid_everything_else(site: Site, path: str) -> None:
    """No other host, no frame, no inline script and no cache."""
    page = site.get(path)
    assert page.status is HTTPStatus.OK
    headers = dict(page.headers)
    assert headers["Content-Security-Policy"] == POLICY
    assert POLICY.startswith("default-src 'none'")
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_many_viewers_cost_one_rendering(site: Site) -> None:
    """The page of this second is shown again."""
    first = site.get("/")
    site.board.words[Master.GENERATION] = 4
    assert site.get("/") is first
    site.now_s += CACHED_S
    assert site.get("/") != first


# --- charts and words -----------------------------------------------------------------


def line(*points: tuple[float, float | None], now_s: float = 1000.0, top: float = 10.0) -> str:
    """The line through samples at these times."""
    history = {"now_s": now_s, "at_s": [at for at, _ in points], "open": [v for _, v in points]}
    return charts.path(history, "open", top)


def test_a_line_ends_at_the_right_edge() -> None:
    """The newest sample is at the right, one of ten minutes ago at the left, and the
    highest value at the top.
    """
    assert line((400, 0), (404, 10), (996, 0), (1000, 5)) == (
        "M2.0 63.0h0L4.0 1.0M300.0 63.0h0L300.0 32.0"
    )


def test_a_short_peak_is_seen() -> None:
    """A point stands for the highest of its samples."""
    assert line((996, 0), (997, 10), (998, 0), now_s=998) == "M300.0 1.0h0"


def test_a_gap_breaks_the_line() -> None:
    """Samples that are far apart, or have no value, are not joined."""
    assert line((800, 1), (804, 1), (820, 1), (824, None)).count("M") == 2
    assert line((800, None)) == ""


def test_an_empty_chart_has_a_line_at_the_bottom() -> None:
    """Zeros are drawn at the bottom, whatever the scale."""
    assert line((996, 0), now_s=996, top=charts.top_of([0, None])) == "M300.0 63.0h0"


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0, 0), (1, 1), (1.1, 2), (3, 5), (7, 10), (10, 10), (11, 20), (0.003, 0.005), (51e6, 1e8)],
)
def test_the_scale_is_round(highest: float, top: float) -> None:
    """The top of a chart is 1, 2 or 5 times a power of ten."""
    assert charts.top_of([None, 0, highest]) == pytest.approx(top)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (wording.rate(0), "0"),
        (wording.rate(0.25), "0.2"),
        (wording.rate(9.97), "10"),
        (wording.rate(12345.6), "12,346"),
        (wording.rate(None), "-"),
        (wording.count(1234567), "1,234,567"),
        (wording.size(999), "999 B"),
        (wording.size(999.7), "1.0 kB"),
        (wording.size(123_456), "123 kB"),
        (wording.size(1_500_000_000), "1.5 GB"),
        (wording.short_time(0.000031), "31 µs"),
        (wording.short_time(0.0015), "1.5 ms"),
        (wording.short_time(0.25), "250 ms"),
        (wording.short_time(2.5), "2.5 s"),
        (wording.short_time(None), "-"),
        (wording.span(59.9), "59 s"),
        (wording.span(61), "1 min 1 s"),
        (wording.span(7300), "2 h 1 min"),
        (wording.span(90000), "1 d 1 h"),
    ],
)
def test_figures_as_people_read_them(shown: str, expected: str) -> None:
    """Units, and no more digits than help."""
    assert shown == expected


@pytest.mark.parametrize(
    ("event", "fields", "expected"),
    [
        (
            "child.reaped",
            {
                "kind": "worker",
                "slot": "default/0",
                "pid": 7,
                "ended": "killed by SIGKILL",
                "connections_lost": 3,
            },
            "worker default/0, pid 7: killed by SIGKILL, 3 connections lost",
        ),
        (
            "worker.ready",
            {"pool": "default", "index": 1, "birth": 2, "generation": 1},
            "worker default/1 is ready",
        ),
        ("reload.refused", {"reason": "no", "generation": 2}, "no"),
        ("pool.resized", {"pool": "default", "workers": 3}, "pool default, workers 3"),
        ("child.reaped", {"pid": 7}, "pid 7"),
    ],
)
def test_events_in_words(event: str, fields: dict[str, Any], expected: str) -> None:
    """An event is worded, or its fields are listed."""
    assert wording.event_text(event, fields) == expected
