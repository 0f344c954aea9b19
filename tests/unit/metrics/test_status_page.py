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
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporter import make_labels
from unpd.board import layout, memory
from unpd.board.active import count_all
from unpd.board.halted import HaltedWriter
from unpd.board.history import Figures, HistoryWriter
from unpd.board.layout import Master, Row, Service
from unpd.board.memory import Entry, Scoreboard
from unpd.control.answer_fields import AnswerField, mismatch, paths
from unpd.control.page_fields import PAGE
from unpd.control.status_fields import CHILDREN, STATUS
from unpd.logs import moment
from unpd.metrics.labels import ListenerLabels, Server
from unpd.metrics.messages import Page
from unpd.metrics.page import charts, snapshot, wording
from unpd.metrics.page.files import PageFiles
from unpd.metrics.page.html import document, state_words
from unpd.metrics.page.news import News
from unpd.metrics.page.snapshot import SILENT_S, Moment, Sources
from unpd.metrics.page.status_page import CACHED_S, POLICY, StatusPage
from unpd.metrics.page.tables import CHILDREN_SHOWN, EVENTS_SHOWN
from unpd.names import ChildKind, ChildPhase, Halt, MasterPhase
from unpd.wording import count_text

NOW_S = 50_000.0
WALL_S = 1_700_000_000.0
STATE = {
    "faults": 0,
    "degraded": [],
    "last_reload": None,
}
TROUBLES: dict[str, Any] = {
    "faults": 3,
    "degraded": [{"reason": "crash_loop", "text": "worker default/0 keeps dying early"}],
    "last_reload": {
        "result": "refused",
        "reason": "there is no service ecko",
        "ended_at": "2023-11-13T21:23:10Z",
        "generation": 1,
    },
    "retired": [{"generation": 2, "children": 1, "connections": 5, "drain_ends_at": None}],
    "live_changes": [
        {"change": "scale", "subject": "default", "value": "3", "configured": "2", "until": None},
    ],
    "live_changes_left_out": 1,
}


@dataclass
class Site:
    """The page over a board, at a time that stands still."""

    board: Scoreboard
    writer: HistoryWriter = field(default_factory=HistoryWriter)
    halts: HaltedWriter = field(default_factory=HaltedWriter)
    news: News = field(default_factory=lambda: News(state=dict(STATE)))
    now_s: float = NOW_S
    number: int = 0

    def __post_init__(self) -> None:
        words = self.board.words
        words[Master.PHASE] = layout.MASTER_PHASES.index(MasterPhase.RUNNING)
        words[Master.GENERATION] = 3
        words[Master.LIMITS + 1] = 100
        words[Master.START_NS] = int((NOW_S - 90) * layout.NS)
        self.beat()
        labels = make_labels(os.getpid())
        self.sources = Sources(
            self.board, labels, self.writer.history, self.news, self.halts.halted
        )
        self.page = StatusPage(self.sources, PageFiles.read(), self.moment)

    def moment(self) -> Moment:
        """The time now."""
        return Moment(self.now_s, int(self.now_s * layout.NS), WALL_S)

    def beat(self, age_s: float = 0.0) -> None:
        """Let the master's last heartbeat be of that age."""
        self.board.words[Master.BEAT_NS] = int((self.now_s - age_s) * layout.NS)

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
        self.number += 1
        record = {
            "number": self.number,
            "at": WALL_S,
            "level": "warning",
            "event": event,
            "fields": fields,
        }
        self.news.take([record], [], self.news.state)

    def ended(self, slot: str, pid: int, ended: str = "exit code 1", at: float = WALL_S) -> None:
        """The master says that a worker has ended."""
        self.number += 1
        end = {"kind": "worker", "slot": slot, "pid": pid, "ended": ended}
        self.news.take([], [{"number": self.number, "at": at, **end}], self.news.state)


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
    site.ended("default/0", 3999)
    site.news.state = {**STATE, **TROUBLES}
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
    assert (echo["active"], echo["active_max_10min"], echo["limit"]) == (4, 40, 100)
    assert (echo["queued"], echo["queued_max_10min"], echo["queued_limit"]) == (2, 9, 128)
    assert echo["accepted_per_s"] == 10
    assert [one["queue"] for one in echo["listeners"]] == [{"length": 2, "limit": 128}, None]


def test_a_field_of_status_has_its_name_and_type() -> None:
    """The page, ``unpd status`` and its JSON are one table: a field that the page has
    under a name of the status is of the same type, and the names that the page adds are
    few.
    """
    status = {one.name: one for one in STATUS}
    page = {one.name: one for one in PAGE}
    services = names(page["services"].fields) - names(status["services"].fields)
    assert services == {
        "reachable",
        "queued",
        "queued_max_10min",
        "queued_limit",
        "refused_per_s",
    }
    assert names(page["children"].fields) == names(CHILDREN)
    for name in status.keys() & page.keys():
        assert page[name].type == status[name].type, name


def test_a_halted_service_is_shown_as_such(site: Site) -> None:
    """A pause that is forgotten is an outage: the row of the service says so, and the
    change is named as one that is not saved.
    """
    site.halts.show({1: Halt.PAUSED})
    halt = {
        "change": "halt",
        "subject": "echo",
        "value": "paused",
        "configured": None,
        "until": None,
    }
    site.news.state = {**STATE, "live_changes": [halt]}
    assert [one["halted"] for one in site.values()["services"]] == [None, "paused"]
    text = site.text()
    assert 'echo <strong class="ill">paused</strong>' in text
    assert "Live change, not saved: service echo is paused." in text


def test_retired_generations_are_shown(site: Site) -> None:
    """Children of before a reload that still serve are named with their connections."""
    retired = [
        {"generation": 2, "children": 1, "connections": 5, "drain_ends_at": "2023-11-14T22:15:00Z"}
    ]
    site.news.state = {**STATE, "retired": retired}
    assert site.values()["retired"] == retired
    assert "Retired from generation 2: 1 child, 5 connections, until 22:15:00 UTC." in site.text()


def test_the_uptime_is_no_difference_of_the_wall_clock(site: Site) -> None:
    """Somebody may set that clock."""
    assert site.values()["uptime_s"] == 90


def test_what_is_only_observed_stands_beside_the_refusals(site: Site) -> None:
    """In a column that is there only if there is any."""
    head = '<th colspan="1" scope="colgroup">Would refuse</th>'
    site.worker()
    assert head not in site.text()
    cells = site.board.row(0)
    cells[layout.service_cells(1) + Service.REFUSED] = 3
    cells[layout.service_cells(1) + Service.WOULD_REFUSE] = 1234
    assert head in site.text()
    assert f"<td>3<small>{layout.REFUSAL_REASONS[0]}</small><td>1,234<td>" in site.text()


def test_the_most_frequent_reason_stands_below_the_refusals(site: Site) -> None:
    """In the word of the metric; /status.json has them all."""
    site.worker()
    refused = layout.service_cells(1) + Service.REFUSED
    for reason, number in ((2, 5), (7, 1234), (9, 6)):
        site.board.row(0)[refused + reason] = number
    names = [str(reason) for reason in layout.REFUSAL_REASONS]
    _, found = site.values()["services"]
    assert found["refused_by_reason"] == {names[2]: 5, names[7]: 1234, names[9]: 6}
    assert f"<td>1,245<small>mostly {names[7]}</small><td>" in site.text()


def test_a_queue_that_is_not_known_is_not_empty(site: Site) -> None:
    """A service without a TCP listener has no figures of a queue, nor of drops where
    its listeners are UNIX sockets.
    """
    unix = ListenerLabels("echo", "unix:///run/unpd/echo.sock", 2, is_tcp=False)
    udp = ListenerLabels("daytime", "udp://[::]:13", 3, is_tcp=False)
    site.board.words[Master.DROPS_SEEN + 3] = 9
    labels = replace(site.sources.labels, listeners=(unix, udp))
    site.sources = replace(site.sources, labels=labels)
    values = snapshot.snapshot(site.sources, site.moment())
    for service in values["services"]:
        assert {service[name] for name in service if name.startswith("queued")} == {None}
    assert [one["listeners"][0]["drops"] for one in values["services"]] == [9, None]


def test_a_service_without_a_limit_has_none(site: Site) -> None:
    """A limit of 0 in the configuration is none."""
    site.board.words[Master.LIMITS + 1] = 0
    assert [one["limit"] for one in site.values()["services"]] == [None, None]


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
    assert values["heartbeat_age_s"] == age_s
    silent = "The main process has given no sign of life for more than 5 seconds."
    assert (silent in site.text()) is not answering
    assert ("does not answer" in state_words(values)) is not answering


def test_a_child_with_its_state(site: Site) -> None:
    """A row for each child: kind, place, state, process, age, connections, heartbeat,
    and how its predecessor ended.
    """
    site.ended("default/1", 17)
    site.ended("default/0", 18, "killed by SIGKILL")
    site.worker()
    cells = site.board.row(0)[layout.service_cells(1) :]
    cells[Service.ACCEPTED], cells[Service.ENDED] = 9, 3
    site.board.show_usage(0, 2 * layout.NS, 12.34, 30_000_000)
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
        "connections": 6,
        "accepted": 9,
        "cpu_percent": 12.3,
        "cpu_s": 2.0,
        "memory_bytes": 30_000_000,
        "heartbeat_age_s": 0.5,
        "last_end": {"ended": "killed by SIGKILL", "pid": 18, "at": moment(WALL_S)},
    }


def test_the_connections_of_children_are_those_of_services(site: Site) -> None:
    """One count, which ``unpd workers`` shows too. A connection of a load balancer that
    has yet to tell its client is open in the process, and is none of a service.
    """
    site.worker()
    for column, accepted in enumerate((3, 4)):
        cells = site.board.row(0)[layout.service_cells(column) :]
        cells[Service.ACCEPTED], cells[Service.ENDED] = accepted, 1
    values = site.values()
    assert site.board.row(0)[Row.OPEN] == 7
    assert [one["connections"] for one in values["children"]] == [5]
    assert [one["active"] for one in values["services"]] == [2, 3]
    columns = dict(site.sources.labels.services)
    assert count_all(site.board, columns, {0}).by_row == {0: 5}


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


def test_a_young_child_has_not_the_heartbeat_of_another(site: Site) -> None:
    """A row keeps the heartbeat of the child before: it is no sign of life of the one
    that has just been born.
    """
    site.worker()
    site.board.row(0)[Row.BEAT_NS] = int((NOW_S - 61) * layout.NS)
    (child,) = site.values()["children"]
    assert child["heartbeat_age_s"] is None


@pytest.mark.parametrize(
    ("phase", "shown"),
    [
        (ChildPhase.DRAINING, "<td>draining<td>"),
        (ChildPhase.KILLED, '<td><strong class="ill">killed</strong><td>'),
    ],
)
def test_only_trouble_stands_out(site: Site, phase: ChildPhase, shown: str) -> None:
    """A child that drains is as it should be after a reload."""
    site.worker(0, phase)
    assert shown in site.text()


def test_a_child_of_which_the_sessions_live_on(site: Site) -> None:
    """A dispatcher that was reaped is neither killed nor in trouble, and its slot is
    not filled by it.
    """
    wanted = layout.wanted_words(0) + layout.SERVING_KINDS.index(ChildKind.WORKER)
    site.board.words[wanted] = 1
    site.worker()
    site.board.mark_reaped(0)
    assert sorted(one["phase"] for one in site.values()["children"]) == ["missing", "sessions_only"]
    assert "<td>sessions only<td>" in site.text()


def test_the_service_of_a_slot_that_serves_it_alone(site: Site) -> None:
    """It is named in the place of the pool."""
    served_by = {"echo": frozenset({Server(ChildKind.WORKER, "default", 0)})}
    labels = replace(site.sources.labels, served_by=served_by)
    site.sources = replace(site.sources, labels=labels)
    site.worker()
    text = site.text()
    assert '<th scope="row">worker echo<td>' in text


def test_of_many_children_those_in_trouble_are_shown(site: Site) -> None:
    """The page stays small with any number of children, and says what it leaves out:
    none that is in trouble, drains, or had an end lately. The JSON has all.
    """
    count = CHILDREN_SHOWN + 5
    phases = {count - 1: ChildPhase.KILLED, count - 2: ChildPhase.DRAINING}
    for row in range(count):
        site.worker(row, phases.get(row, ChildPhase.READY), index=row)
    for slot in range(CHILDREN_SHOWN):
        site.ended(f"default/{slot}", 17, at=WALL_S - 100 + slot)
    site.ended(f"default/{count - 3}", 17)
    assert len(site.values()["children"]) == count
    text = site.text()
    assert "5 more are not shown" in text
    shown = [index for index in range(count) if f">worker default/{index}<" in text]
    assert shown == [*range(3, CHILDREN_SHOWN), count - 3, count - 2, count - 1]


# --- the page -------------------------------------------------------------------------


class Outline(html.parser.HTMLParser):
    """Checks that elements are closed, and collects attributes."""

    VOID = frozenset({"meta", "link", "path"})
    OPTIONAL = ("td", "th", "tr")
    """The elements that another one may end, the innermost first."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.attributes += attrs
        self._end_before(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def _end_before(self, tag: str) -> None:
        ended = {"td": ("td", "th"), "th": ("td", "th"), "tr": self.OPTIONAL}
        while self.open[-1:] and self.open[-1] in ended.get(tag, ()):
            self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        while tag in ("tbody", "thead") and self.open[-1] in self.OPTIONAL:
            self.open.pop()
        assert self.open.pop() == tag


def fill(site: Site, services: int, children: int) -> None:
    """Ten minutes of load, and every sort of trouble."""
    for second in range(600):
        wave = 1000 + 997 * (second % 61) + second
        figures = Figures(
            wave, 50 * wave, wave, 10**6 * wave, 10**7 * wave, wave, wave, second, wave, 9, wave
        )
        at_ns = int((NOW_S - 600 + second) * layout.NS)
        site.writer.write(at_ns, figures, dict.fromkeys(range(services), figures))
    for row in range(children):
        site.worker(row, ChildPhase.DRAINING if row % 2 else ChildPhase.READY, index=row)
        site.board.show_usage(row, 10**12, 12.5, 10**9)
        site.ended(f"default/{row}", 400_000 + row, "killed by SIGKILL")
        for column in range(services):
            cells = site.board.row(row)[layout.service_cells(column) :]
            cells[Service.ACCEPTED] = cells[Service.DATAGRAMS_RECEIVED] = 1_234_567
            cells[Service.ENDED] = 1_234_000
            cells[Service.WOULD_REFUSE] = 1_234_567
            for reason in range(len(layout.REFUSAL_REASONS)):
                cells[Service.REFUSED + reason] = 1_234_567
    for column in range(services):
        site.board.words[Master.LIMITS + column] = 100_000
        for listener in range(4 * column, 4 * column + 4):
            site.board.words[Master.LISTEN_QUEUES + 2 * listener + 1] = 4096
            site.board.words[Master.DROPS_SEEN + listener] = 123_456
    for pid in range(50):
        site.event(
            "child.reaped",
            kind="worker",
            slot="default/0",
            pid=400_000 + pid,
            ended="killed by SIGKILL",
            connections_lost=100,
        )
    site.news.state = {**STATE, **TROUBLES}


def busy(site: Site) -> None:
    """The same of a daemon of usual size."""
    fill(site, 2, children=8)


def test_the_page_is_small_at_its_limits(site: Site) -> None:
    """HTML, style and script have less than 60 KB together: with all services that
    there can be, each with four listeners, hundreds of children, and every table full.
    """
    columns = range(layout.MAX_SERVICES)
    found = [f"a-service-of-some-length-{column:02}" for column in columns]
    listeners = tuple(
        ListenerLabels(name, f"tcp://192.168.100.{column}:{10_000 + turn}", column, is_tcp=True)
        for column, name in enumerate(found)
        for turn in range(4)
    )
    labels = replace(
        site.sources.labels,
        services=tuple((name, column) for column, name in enumerate(found)),
        served_by=dict.fromkeys(found, frozenset({Server(ChildKind.WORKER, "default")})),
        listeners=listeners,
        config="/etc/unpd/unpd.toml",
    )
    site.sources = replace(site.sources, labels=labels)
    site.page = StatusPage(site.sources, PageFiles.read(), site.moment)
    fill(site, len(found), children=400)
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
        "faults": 1,
        "degraded": [{"reason": evil, "text": evil}],
        "last_reload": {"result": "refused", "reason": evil, "ended_at": evil, "generation": 1},
    }
    site.sources = replace(site.sources, labels=replace(site.sources.labels, config=evil))
    site.event(evil, text=evil)
    site.event("worker.died", pool=evil, index=0, birth=1, ended=evil, respawn_in_s=1.0)
    site.ended("default/0", 7, ended=evil)
    site.worker()
    text = site.text()
    assert text.count("<script") == 1
    assert text.count("&lt;script&gt;&amp;&quot;&#x27;") >= 7


def test_troubles_are_shown(site: Site) -> None:
    """Faults, and a reload that was refused, stand above everything else; the numbers
    of both are whole.
    """
    site.news.state = {**STATE, **TROUBLES}
    text = site.text()
    assert "Degraded (crash_loop): worker default/0 keeps dying early." in text
    assert "2 more faults" in text
    assert "at 2023-11-13 21:23:10 UTC, was refused: there is no service ecko" in text
    assert "1 more live change:" in text
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
    assert text.count("10 min ago") == 7


def test_a_chart_without_a_measurement_says_so(site: Site) -> None:
    """A scale of 0 would look like one."""
    site.writer.write(int(NOW_S * layout.NS), Figures(), {})
    text = site.text()
    assert text.count("no measurement yet") == text.count("<figure>") - 2


def test_no_field_is_for_a_client(site: Site) -> None:
    """No field of the page, however deep, is for an address of a client or for who
    asked for something.
    """
    found = [path for path, _ in paths(PAGE)]
    assert "services[].listeners[].address" in found
    private = ("peer", "network", "uid", "client", "source")
    assert not [path for path in found if any(word in path for word in private)]


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


def test_a_damaged_package_stops_no_daemon(site: Site, tmp_path: Path) -> None:
    """Without its style and script the page is plain, and the daemon serves on."""
    assert PageFiles.read(tmp_path) == PageFiles(b"", b"")
    assert PageFiles.read().css
    assert PageFiles.read().js
    assert (
        StatusPage(site.sources, PageFiles(b"", b""), site.moment).routes["/page.js"]().body == b""
    )


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
    history = {"now_s": now_s, "at_s": [at for at, _ in points], "active": [v for _, v in points]}
    return charts.path(history, "active", top)


def test_a_line_ends_at_the_right_edge() -> None:
    """The newest sample is at the right, one of ten minutes ago at the left, and the
    highest value at the top.
    """
    assert line((400, 0), (404, 10), (996, 0), (1000, 5)) == (
        "M2 630h0l0 0 2-620M300 630h0l0 0 0-310"
    )


def test_a_short_peak_is_seen() -> None:
    """A point stands for the highest of its samples."""
    assert line((996, 0), (997, 10), (998, 0), now_s=998) == "M300 10h0l0 0"


def test_a_gap_breaks_the_line() -> None:
    """Samples that are far apart, or have no value, are not joined."""
    assert line((800, 1), (804, 1), (820, 1), (824, None)).count("M") == 2
    assert line((800, None)) == ""


def test_an_empty_chart_has_a_line_at_the_bottom() -> None:
    """Zeros are drawn at the bottom, whatever the scale."""
    assert line((996, 0), now_s=996, top=charts.top_of([0, None])) == "M300 630h0l0 0"


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
        (count_text(1234567), "1,234,567"),
        (wording.short_time(0.000031), "31 µs"),
        (wording.short_time(0.0015), "1.5 ms"),
        (wording.short_time(0.25), "250 ms"),
        (wording.short_time(2.5), "2.5 s"),
        (wording.short_time(None), "-"),
        (wording.span(0.41), "0.5 s"),
        (wording.span(61), "1 min 1 s"),
        (wording.span(7300), "2 h 2 min"),
        (wording.span(90000), "1 d 1 h"),
        (wording.time_of_day("2026-11-22T21:23:10Z", "2026-11-22T23:00:00Z"), "21:23:10"),
        (
            wording.time_of_day("2026-11-21T21:23:10Z", "2026-11-22T23:00:00Z"),
            "2026-11-21 21:23:10",
        ),
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
                "connections_lost": 1,
            },
            "worker default/0, pid 7: killed by SIGKILL, 1 connection lost",
        ),
        (
            "worker.died",
            {
                "pool": "default",
                "index": 1,
                "birth": 2,
                "ended": "exit code 1",
                "respawn_in_s": 0.0,
            },
            "worker default/1: exit code 1, the next one starts at once",
        ),
        ("reload.refused", {"reason": "no", "generation": 2}, "no"),
        ("pool.resized", {"pool": "default", "workers": 3}, "pool default, workers 3"),
        ("child.reaped", {"pid": 7}, "pid 7"),
        (
            "service.halted",
            {"service": "echo", "halted": "paused", "until": ""},
            "service echo is paused",
        ),
    ],
)
def test_events_in_words(event: str, fields: dict[str, Any], expected: str) -> None:
    """An event is worded, or its fields are listed."""
    assert wording.event_text(event, fields) == expected
