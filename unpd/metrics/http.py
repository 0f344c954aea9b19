"""The exporter's pages as a WSGI application: /metrics, /healthz, /readyz. Knows
nothing of sockets; :mod:`unpd.metrics.exporter` serves it.

A rendered scrape is shown again for 100 ms, so that a hundred scrapers a second cost
ten renderings. Of the request only method, path, Host and Accept are looked at; none of
them reaches a label, a log line or the cache's keys.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from wsgiref.types import StartResponse, WSGIEnvironment

from unpd.board.memory import RENDERINGS_AT, Scoreboard
from unpd.libraries import choose_encoder
from unpd.loop import now
from unpd.metrics.collector import make_registry
from unpd.metrics.labels import Labels
from unpd.metrics.reading import why_not_ready

CACHED_S = 0.1
METHODS = ("GET", "HEAD")

_TEXT = "text/plain; charset=utf-8"
_HOST = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<name>[^]:[]+))(?::[0-9]*)?")
_OPENMETRICS = "application/openmetrics-text"
_REBINDING = (
    "This address is served under its number or as localhost, not under the name in the Host"
    " header.\n"
)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


class MetricsApp:
    """The WSGI application. ``loopback``: it is reached through a loopback TCP address,
    so a Host that is a name means DNS rebinding.
    """

    def __init__(
        self, board: Scoreboard, labels: Labels, loopback: bool, clock: Callable[[], float] = now
    ) -> None:
        self._board = board
        self._labels = labels
        self._loopback = loopback
        self._clock = clock
        self._registry = make_registry(board, labels)
        self._rendered: dict[str, tuple[float, Page]] = {}
        self._rendering = 0
        self._pages: dict[str, Callable[[WSGIEnvironment], Page]] = {
            "/metrics": self._metrics,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        page = self._page(environ)
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(page.body))),
            *page.headers,
        ]
        start_response(f"{page.status.value} {page.status.phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page.body]

    def _page(self, environ: WSGIEnvironment) -> Page:
        if self._loopback and not _host_is_safe(environ.get("HTTP_HOST", "")):
            return _text(HTTPStatus.MISDIRECTED_REQUEST, _REBINDING)
        page = self._pages.get(environ["PATH_INFO"])
        if page is None:
            return _text(
                HTTPStatus.NOT_FOUND, f"There is nothing here; try {', '.join(self._pages)}.\n"
            )
        if environ["REQUEST_METHOD"] not in METHODS:
            return Page(
                HTTPStatus.METHOD_NOT_ALLOWED,
                b"Only GET and HEAD are answered here.\n",
                headers=(("Allow", ", ".join(METHODS)),),
            )
        return page(environ)

    def _metrics(self, environ: WSGIEnvironment) -> Page:
        accept = _canonical_accept(environ.get("HTTP_ACCEPT", ""))
        if self._board.words[RENDERINGS_AT] != self._rendering:
            # the exporter of another generation has shown newer counts since: none may
            # go down
            self._rendered.clear()
        expires_at, page = self._rendered.get(accept, (0.0, None))
        if page is None or self._clock() >= expires_at:
            encode, content_type = choose_encoder(accept)
            before = self._board.words[RENDERINGS_AT]
            page = Page(HTTPStatus.OK, encode(self._registry), content_type)
            self._rendered[accept] = (self._clock() + CACHED_S, page)
            self._board.count(RENDERINGS_AT)
            self._rendering = (
                before + 1
            )  # what the other exporter counted meanwhile makes this page older than its own
        return page

    def _healthz(self, environ: WSGIEnvironment) -> Page:
        return _text(HTTPStatus.OK, "ok\n")

    def _readyz(self, environ: WSGIEnvironment) -> Page:
        reason = why_not_ready(self._board, self._labels)
        return (
            _text(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
            if reason
            else _text(HTTPStatus.OK, "ready\n")
        )


def _text(status: HTTPStatus, text: str) -> Page:
    return Page(status, text.encode())


def _canonical_accept(accept: str) -> str:
    """One of the two Accept values that we render for: a version or an escaping out of
    the request would be echoed, and would be one more key of the cache.
    """
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # prometheus_client compares a version that is no number with one
        return "text/plain"
    return (
        f"{_OPENMETRICS}; version=1.0.0" if content_type.startswith(_OPENMETRICS) else "text/plain"
    )


def _host_is_safe(host: str) -> bool:
    """Whether a Host header cannot come from DNS rebinding: none (HTTP/1.0),
    ``localhost``, or an address in numbers, each with or without a port.
    """
    if not host:
        return True
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    if host.lower().partition(":")[0] == "localhost":
        return True
    try:
        ip_address(parts["v6"] or parts["name"])
    except ValueError:
        return False
    return True
