"""The pages of the exporter, asked without a connection."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import pytest

from tests.support.clock import ManualClock
from tests.support.exporter import make_labels, make_page
from unpd.board import layout, memory
from unpd.board.memory import Entry, Scoreboard
from unpd.libraries import choose_encoder
from unpd.metrics import pages
from unpd.metrics.labels import Labels, Server
from unpd.metrics.messages import Page, Request
from unpd.metrics.page.snapshot import Sources
from unpd.metrics.pages import CACHED_S, Pages
from unpd.names import ChildKind, ChildPhase, MasterPhase


@dataclass
class Site:
    """The pages over a board, with a clock that stands still."""

    board: Scoreboard
    loopback: bool = True
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.show(make_labels(os.getpid()))

    def show(self, labels: Labels) -> None:
        """Make the pages anew, with these labels."""
        page = make_page()
        sources = Sources(self.board, labels, page.history, page.news, page.halted)
        self.pages = Pages(sources, page.files, self.loopback, lambda: self.clock.now)

    def ask(self, path: str, method: str = "GET", host: str = "", accept: str = "") -> Page:
        """The answer to one request."""
        return self.pages.answer(Request(method, path, host, accept))

    def enter(self, phase: MasterPhase) -> None:
        """Let the master be in ``phase``."""
        self.board.words[layout.Master.PHASE] = layout.MASTER_PHASES.index(phase)

    def worker(
        self,
        row: int,
        phase: ChildPhase,
        pool: int = 0,
        kind: ChildKind = ChildKind.WORKER,
        index: int = 0,
    ) -> None:
        """Put a child into the directory."""
        self.board.enter(
            Entry(
                row=row,
                birth=row + 1,
                pid=1000 + row,
                kind=kind,
                pool=pool,
                phase=phase,
                generation=1,
                index=index,
            )
        )


@pytest.fixture
def site() -> Iterator[Site]:
    """The pages over an empty board."""
    fd = memory.create()
    yield Site(Scoreboard(fd))
    os.close(fd)


# --- routes ---------------------------------------------------------------------------


def test_healthz_is_ok_whatever_the_workers_do(site: Site) -> None:
    """/healthz says that the exporter lives, and nothing else."""
    assert site.ask("/healthz") == Page(HTTPStatus.OK, b"ok\n", "text/plain; charset=utf-8")


def test_head_gets_the_page_of_get(site: Site) -> None:
    """HEAD finds the page of GET; the connection leaves the body out."""
    assert site.ask("/healthz", "HEAD") == site.ask("/healthz")


@pytest.mark.parametrize("path", ["//", "", "/metrics/", "/METRICS", "/favicon.ico"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_names_the_known_ones(site: Site, path: str, method: str) -> None:
    """An unknown path is 404 with a hint, whatever the method."""
    page = site.ask(path, method)
    assert page.status == 404
    assert b"/metrics, /healthz, /readyz" in page.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "get"])
def test_an_unknown_method_names_the_known_ones(site: Site, method: str) -> None:
    """A method that is neither GET nor HEAD is 405 and names those two."""
    page = site.ask("/metrics", method)
    assert page.status == 405
    assert page.headers == (("Allow", "GET, HEAD"),)
    assert page.body == b"Only GET and HEAD are answered here.\n"


# --- /metrics -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "application/openmetrics-text; version=0.0.1",
        "application/openmetrics-text; version=x",
        "text/plain;version=1.x",
        "text/html",
    ],
)
def test_the_text_format_is_the_default(site: Site, accept: str) -> None:
    """A client that does not ask for OpenMetrics in a valid way gets the classic text
    format.
    """
    page = site.ask("/metrics", accept=accept)
    assert page.status == 200
    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nunpd_generation 0.0\n" in page.body


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "application/openmetrics-text;version=9.9.9;escaping=dots",
    ],
)
def test_openmetrics_comes_when_asked_for(site: Site, accept: str) -> None:
    """OpenMetrics is served as version 1.0.0, whatever version or escaping the client
    made up.
    """
    page = site.ask("/metrics", accept=accept)
    assert page.content_type.startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert page.body.endswith(b"# EOF\n")
    assert b"unpd_generation 0.0\n" in page.body


def test_a_scrape_is_rendered_once_in_100_ms(site: Site) -> None:
    """Within the cache's time the same bytes come again; after it the board is read
    anew.
    """
    first = site.ask("/metrics").body
    site.board.words[layout.Master.GENERATION] = 7
    site.clock.advance(CACHED_S * 0.9)
    assert site.ask("/metrics").body is first
    site.clock.advance(CACHED_S * 0.2)
    assert b"\nunpd_generation 7.0\n" in site.ask("/metrics").body


def test_two_exporters_show_no_count_going_down(site: Site) -> None:
    """At a reload the old exporter and the new one answer on the same address: a cached
    page of one never takes back a count that the other has shown.
    """
    other = Site(site.board, clock=site.clock)
    site.ask("/metrics")
    site.board.words[layout.Master.GENERATION] = 7
    assert b"\nunpd_generation 7.0\n" in other.ask("/metrics").body
    assert b"\nunpd_generation 7.0\n" in site.ask("/metrics").body
    first = site.ask("/metrics").body
    assert site.ask("/metrics").body is first, "with no other asked, the cache is used again"


def test_a_page_that_was_overtaken_while_it_was_rendered_is_not_shown_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another exporter shows newer counts in the middle of our rendering, our page
    is an old one.
    """
    other = Site(site.board)
    choose = choose_encoder

    def overtaken(accept: str) -> tuple[Callable[[Any], bytes], str]:
        encode, content_type = choose(accept)

        def encode_slowly(registry: Any) -> bytes:
            lines = encode(registry)
            monkeypatch.setattr(pages, "choose_encoder", choose)
            site.board.words[layout.Master.GENERATION] = 7
            assert b"\nunpd_generation 7.0\n" in other.ask("/metrics").body
            return lines

        return encode_slowly, content_type

    monkeypatch.setattr(pages, "_canonical_accept", lambda _: "text/plain")
    monkeypatch.setattr(pages, "choose_encoder", overtaken)
    site.ask("/metrics")
    assert b"\nunpd_generation 7.0\n" in site.ask("/metrics").body


def test_the_cache_does_not_mix_formats(site: Site) -> None:
    """Each format has its own rendering."""
    assert not site.ask("/metrics").body.endswith(b"# EOF\n")
    assert site.ask("/metrics", accept="application/openmetrics-text").body.endswith(b"# EOF\n")
    assert not site.ask("/metrics").body.endswith(b"# EOF\n")


# --- Host -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:9867",
        "localhost.",
        "localhost.:9867",
        "localhost.localdomain",
        "Localhost.Localdomain.:9867",
        "127.0.0.1",
        "127.0.0.1:9867",
        "[::1]",
        "[::1]:9867",
        "[fe80::1%eth0]:9867",
        "10.0.0.1",
    ],
)
def test_numbers_and_localhost_pass_on_loopback(site: Site, host: str) -> None:
    """A Host that no name server had a say in is served, and so is a request without
    one (HTTP/1.0).
    """
    assert site.ask("/healthz", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9867",
        "localhost.evil.example",
        "evil.localhost.localdomain",
        "localdomain",
        "localhost..",
        ".localhost",
        "[localhost]",
        "user@localhost",
        "127.0.0.1.evil.example",
        "127.0.0.1.",
        "::1",
        "[evil]",
        "[::1]evil",
        ":80",
        "127.0.0.1, evil",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/else"])
def test_names_are_misdirected_on_loopback(site: Site, path: str, host: str) -> None:
    """A name in Host means that a web page led a browser here (DNS rebinding): 421, and
    no figure.
    """
    page = site.ask(path, host=host)
    assert page.status == 421
    assert page.body.count(b".") == 1
    assert b"unpd_" not in page.body


def test_names_pass_elsewhere(site: Site) -> None:
    """On an address that is no loopback one, a scraper may well use a name."""
    assert Site(site.board, loopback=False).ask("/healthz", host="unpd.example").status == 200


# --- /readyz --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [MasterPhase.STARTING, MasterPhase.STOPPING])
def test_not_ready_while_the_master_starts_or_stops(site: Site, phase: MasterPhase) -> None:
    """Ready workers do not help while the master is starting or stopping; the phase is
    the reason.
    """
    site.worker(0, ChildPhase.READY)
    site.enter(phase)
    page = site.ask("/readyz")
    assert (page.status, page.body) == (503, f"{phase.value}\n".encode())


def test_not_ready_while_the_daemon_is_lame(site: Site) -> None:
    """Its workers serve on, so that only this answer sends clients elsewhere."""
    site.worker(0, ChildPhase.READY)
    site.enter(MasterPhase.LAME)
    page = site.ask("/readyz")
    assert (page.status, page.body) == (503, b"the daemon will stop soon\n")
    assert site.ask("/healthz").status == 200


@pytest.mark.parametrize(
    "phase", [MasterPhase.RUNNING, MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING]
)
def test_ready_when_each_service_has_a_ready_worker(site: Site, phase: MasterPhase) -> None:
    """One ready worker in the pool of each configured service is enough, also in the
    middle of a reload.
    """
    site.enter(phase)
    site.worker(0, ChildPhase.STARTING)
    site.worker(1, ChildPhase.READY)
    page = site.ask("/readyz")
    assert (page.status, page.body) == (200, b"ready\n")


def test_not_ready_without_a_ready_worker_names_the_services(site: Site) -> None:
    """Workers in other phases, of other pools and of other kinds do not count; the
    reason names each service that waits.
    """
    site.enter(MasterPhase.RUNNING)
    site.worker(0, ChildPhase.STARTING)
    site.worker(1, ChildPhase.DRAINING)
    site.worker(2, ChildPhase.KILLED)
    site.worker(3, ChildPhase.READY, pool=1)
    site.worker(4, ChildPhase.READY, kind=ChildKind.EXPORTER)
    page = site.ask("/readyz")
    assert (page.status, page.body) == (503, b"no ready worker for service daytime, echo\n")


def test_not_ready_without_the_worker_of_an_iterative_service(site: Site) -> None:
    """The worker in another slot of the pool serves another service."""
    labels = make_labels(os.getpid())
    slots = {
        "daytime": frozenset({Server(ChildKind.ITERATIVE, "default", 0)}),
        "echo": frozenset({Server(ChildKind.ITERATIVE, "default", 1)}),
    }
    site.show(replace(labels, served_by=slots))
    site.enter(MasterPhase.RUNNING)
    site.worker(0, ChildPhase.READY, kind=ChildKind.ITERATIVE, index=1)
    page = site.ask("/readyz")
    assert (page.status, page.body) == (503, b"no ready worker for service daytime\n")
    site.worker(1, ChildPhase.READY, kind=ChildKind.ITERATIVE, index=0)
    assert site.ask("/readyz").status == 200


def test_not_ready_while_clients_reach_no_listener(site: Site) -> None:
    """The word of the master about a service that is configured counts."""
    site.enter(MasterPhase.RUNNING)
    site.worker(0, ChildPhase.READY)
    site.board.words[layout.Master.UNREACHABLE + 1] = 1
    page = site.ask("/readyz")
    assert (page.status, page.body) == (503, b"clients reach no listener of service echo\n")
    site.board.words[layout.Master.UNREACHABLE + 1] = 0
    site.board.words[layout.Master.UNREACHABLE + 2] = 1
    assert site.ask("/readyz").status == 200


def test_not_ready_on_a_damaged_board(site: Site) -> None:
    """A number that is no phase is never taken for readiness."""
    site.board.words[layout.Master.PHASE] = 2**63
    assert site.ask("/readyz").status == 503
