"""The pages of the exporter, asked as a WSGI application without a socket."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.clock import ManualClock
from tests.support.exporter import make_labels
from unpd.board import memory as scoreboard
from unpd.board.memory import MASTER_PHASES, Entry, Scoreboard
from unpd.libraries import choose_encoder
from unpd.metrics import http
from unpd.metrics.http import CACHED_S, MetricsApp
from unpd.names import ChildKind, ChildPhase, MasterPhase


@dataclass
class Pages:
    """An application on its board, with a clock that stands still."""

    board: Scoreboard
    loopback: bool = True
    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.app = MetricsApp(
            self.board, make_labels(os.getpid()), self.loopback, lambda: self.clock.now
        )

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[str, dict[str, str], bytes]:
        """Status line, headers and body."""
        told: list[Any] = []

        def start_response(
            status: str, fields: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], object]:
            told.extend((status, dict(fields)))
            return told.append

        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }
        body = b"".join(self.app(environ, start_response))
        return told[0], told[1], body

    def enter(self, phase: MasterPhase) -> None:
        """The master is in ``phase``."""
        self.board.words[scoreboard.PHASE_AT] = MASTER_PHASES.index(phase)

    def worker(
        self, row: int, phase: ChildPhase, pool: int = 0, kind: ChildKind = ChildKind.WORKER
    ) -> None:
        """A child in the directory."""
        self.board.enter(
            Entry(
                row=row,
                birth=row + 1,
                pid=1000 + row,
                kind=kind,
                pool=pool,
                phase=phase,
                generation=1,
            )
        )


@pytest.fixture
def pages() -> Iterator[Pages]:
    """The pages over an empty board."""
    fd = scoreboard.create()
    yield Pages(Scoreboard(fd))
    os.close(fd)


def test_healthz_is_ok_whatever_the_workers_do(pages: Pages) -> None:
    """The exporter lives: that is all that /healthz says."""
    assert pages.ask("/healthz") == (
        "200 OK",
        {"Content-Type": "text/plain; charset=utf-8", "Content-Length": "3"},
        b"ok\n",
    )


def test_head_has_the_length_and_no_body(pages: Pages) -> None:
    """HEAD is answered as GET without the body."""
    assert pages.ask("/healthz", "HEAD") == (
        "200 OK",
        {"Content-Type": "text/plain; charset=utf-8", "Content-Length": "3"},
        b"",
    )


@pytest.mark.parametrize("path", ["/", "", "/metrics/", "/METRICS", "/favicon.ico"])
def test_other_paths_say_what_there_is(pages: Pages, path: str) -> None:
    """An unknown path is 404 with a hint."""
    status, _, body = pages.ask(path)
    assert status == "404 Not Found"
    assert b"/metrics, /healthz, /readyz" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused_with_allow(pages: Pages, method: str) -> None:
    """A method that is neither GET nor HEAD is 405 and names those two."""
    status, headers, _ = pages.ask("/metrics", method)
    assert status == "405 Method Not Allowed"
    assert headers["Allow"] == "GET, HEAD"


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
def test_the_text_format_is_the_default(pages: Pages, accept: str) -> None:
    """Without a sensible wish for OpenMetrics the classic text format comes."""
    status, headers, body = pages.ask("/metrics", accept=accept)
    assert status == "200 OK"
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nunpd_generation 0.0\n" in body


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "application/openmetrics-text;version=9.9.9;escaping=dots",
    ],
)
def test_openmetrics_comes_when_asked_for(pages: Pages, accept: str) -> None:
    """OpenMetrics is served as version 1.0.0, whatever version or escaping the client
    made up.
    """
    _, headers, body = pages.ask("/metrics", accept=accept)
    assert headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    )
    assert body.endswith(b"# EOF\n")
    assert b"unpd_generation 0.0\n" in body


def test_a_scrape_is_rendered_once_in_100_ms(pages: Pages) -> None:
    """Within the cache's time the same bytes come again; after it the board is read
    anew.
    """
    first = pages.ask("/metrics")[2]
    pages.board.words[scoreboard.GENERATION_AT] = 7
    pages.clock.advance(CACHED_S * 0.9)
    assert pages.ask("/metrics")[2] is first
    pages.clock.advance(CACHED_S * 0.2)
    assert b"\nunpd_generation 7.0\n" in pages.ask("/metrics")[2]


def test_two_exporters_show_no_count_going_down(pages: Pages) -> None:
    """At a reload the old one and the new one answer on the same address: what one of
    them has shown, the other's cached page does not take back.
    """
    other = Pages(pages.board, clock=pages.clock)
    pages.ask("/metrics")
    pages.board.words[scoreboard.GENERATION_AT] = 7
    assert b"\nunpd_generation 7.0\n" in other.ask("/metrics")[2]
    assert b"\nunpd_generation 7.0\n" in pages.ask("/metrics")[2]
    first = pages.ask("/metrics")[2]
    assert pages.ask("/metrics")[2] is first, "with nobody else asked, the cache is used again"


def test_a_page_that_was_overtaken_while_it_was_rendered_is_not_shown_again(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another exporter that shows newer counts in the middle of our rendering makes our
    page an old one.
    """
    other = Pages(pages.board)
    choose = choose_encoder

    def overtaken(accept: str) -> tuple[Callable[[Any], bytes], str]:
        encode, content_type = choose(accept)

        def encode_slowly(registry: Any) -> bytes:
            page = encode(registry)
            monkeypatch.setattr(http, "choose_encoder", choose)
            pages.board.words[scoreboard.GENERATION_AT] = 7
            assert b"\nunpd_generation 7.0\n" in other.ask("/metrics")[2]
            return page

        return encode_slowly, content_type

    monkeypatch.setattr(http, "_canonical_accept", lambda _: "text/plain")
    monkeypatch.setattr(http, "choose_encoder", overtaken)
    pages.ask("/metrics")
    assert b"\nunpd_generation 7.0\n" in pages.ask("/metrics")[2]


def test_the_cache_does_not_mix_formats(pages: Pages) -> None:
    """Each format has its own rendering."""
    assert not pages.ask("/metrics")[2].endswith(b"# EOF\n")
    assert pages.ask("/metrics", accept="application/openmetrics-text")[2].endswith(b"# EOF\n")
    assert not pages.ask("/metrics")[2].endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:9867",
        "127.0.0.1",
        "127.0.0.1:9867",
        "[::1]",
        "[::1]:9867",
        "[fe80::1%eth0]:9867",
        "10.0.0.1",
    ],
)
def test_numbers_and_localhost_pass_on_loopback(pages: Pages, host: str) -> None:
    """A Host that no name server had a say in is served."""
    assert pages.ask("/healthz", host=host)[0] == "200 OK"


def test_a_missing_host_passes(pages: Pages) -> None:
    """HTTP/1.0 has no Host header."""
    assert pages.ask("/healthz")[0] == "200 OK"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9867",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "::1",
        "[evil]",
        "[::1]evil",
        ":80",
        "127.0.0.1, evil",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/else"])
def test_names_are_misdirected_on_loopback(pages: Pages, path: str, host: str) -> None:
    """A name in Host means that a browser was led here (DNS rebinding): 421, and
    nothing is shown.
    """
    status, _, body = pages.ask(path, host=host)
    assert status == "421 Misdirected Request"
    assert body.count(b".") == 1
    assert b"unpd_" not in body


def test_names_pass_elsewhere(pages: Pages) -> None:
    """On an address that is no loopback one, a scraper may well use a name."""
    assert Pages(pages.board, loopback=False).ask("/healthz", host="unpd.example")[0] == "200 OK"


@pytest.mark.parametrize("phase", [MasterPhase.STARTING, MasterPhase.STOPPING])
def test_not_ready_while_the_master_starts_or_stops(pages: Pages, phase: MasterPhase) -> None:
    """Ready workers do not help while the master is starting or stopping; the phase is
    the reason.
    """
    pages.worker(0, ChildPhase.READY)
    pages.enter(phase)
    assert pages.ask("/readyz")[0::2] == ("503 Service Unavailable", f"{phase.value}\n".encode())


@pytest.mark.parametrize(
    "phase", [MasterPhase.RUNNING, MasterPhase.LOADING, MasterPhase.CUTTING, MasterPhase.PROVING]
)
def test_ready_when_each_service_has_a_ready_worker(pages: Pages, phase: MasterPhase) -> None:
    """One ready worker in the pool of each configured service is enough, also in the
    middle of a reload.
    """
    pages.enter(phase)
    pages.worker(0, ChildPhase.STARTING)
    pages.worker(1, ChildPhase.READY)
    assert pages.ask("/readyz")[0::2] == ("200 OK", b"ready\n")


def test_not_ready_without_a_ready_worker_names_the_services(pages: Pages) -> None:
    """Workers in other states, of other pools and of other kinds do not count; the
    reason names each service that waits.
    """
    pages.enter(MasterPhase.RUNNING)
    pages.worker(0, ChildPhase.STARTING)
    pages.worker(1, ChildPhase.DRAINING)
    pages.worker(2, ChildPhase.KILLED)
    pages.worker(3, ChildPhase.READY, pool=1)
    pages.worker(4, ChildPhase.READY, kind=ChildKind.EXPORTER)
    assert pages.ask("/readyz")[0::2] == (
        "503 Service Unavailable",
        b"no ready worker for service daytime, echo\n",
    )


def test_not_ready_on_a_damaged_board(pages: Pages) -> None:
    """A phase that is none is never taken for readiness."""
    pages.board.words[scoreboard.PHASE_AT] = 2**63
    assert pages.ask("/readyz")[0] == "503 Service Unavailable"
