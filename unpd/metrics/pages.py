"""The pages of the exporter: a table of routes, and a function for each. Those of the
status page are :mod:`unpd.metrics.page`'s.

Owns: the routes, and a cache of rendered /metrics pages. It shows a page again within
100 ms, so that a hundred scrapes a second cost ten renderings.
:mod:`unpd.metrics.http` calls it with one request at a time. It reads the scoreboard,
and writes one word of it, ``Master.RENDERINGS``.

It uses the method, path, Host and Accept of a request. None of them reaches a label, a
log line or a key of the cache.
"""

import functools
import re
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address

from unpd.board import layout
from unpd.board.memory import wrapped
from unpd.libraries import choose_encoder
from unpd.loop import now
from unpd.metrics.messages import Page, Request, text_page
from unpd.metrics.page.files import PageFiles
from unpd.metrics.page.snapshot import Sources
from unpd.metrics.page.status_page import StatusPage
from unpd.metrics.reading import Reading, why_not_ready
from unpd.metrics.rendering import Renderer

CACHED_S = 0.1
"""How long a rendered page may be shown again."""

_OPENMETRICS = "application/openmetrics-text"
_HOST = re.compile(r"(?:\[(?P<v6>[^]]+)\]|(?P<name>[^]:[]+))(?::[0-9]*)?")
_LOCAL_NAMES = ("localhost", "localhost.localdomain")
_REBINDING = (
    "This address is served under its number or as localhost, not under the name in the Host"
    " header.\n"
)


class Pages:
    """All pages of one exporter. ``files``: those of the status page. ``loopback``:
    clients reach it through a loopback TCP address, so a name in Host means DNS
    rebinding. ``tracked``: how many sources of connections are counted now.
    """

    def __init__(
        self,
        sources: Sources,
        files: PageFiles,
        loopback: bool,
        clock: Callable[[], float] = now,
        tracked: Callable[[], int] = int,
    ) -> None:
        self._board = sources.board
        self._labels = sources.labels
        self._loopback = loopback
        self._clock = clock
        self._tracked = tracked
        self._renderers: dict[str, tuple[Renderer, str]] = {}
        self._rendered: dict[str, tuple[float, Page]] = {}
        self._rendering = 0  # the count of renderings as of our newest page
        self._routes: dict[tuple[str, str], Callable[[Request], Page]] = {
            ("GET", "/metrics"): self._metrics,
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
        }
        for path, page in StatusPage(sources, files).routes.items():
            self._routes["GET", path] = functools.partial(_without_request, page)

    def answer(self, request: Request) -> Page:
        """The page for a request: the page of its route, or an error page that says why
        the request has no route. A route for GET answers HEAD too.
        """
        if self._loopback and not _host_is_safe(request.host):
            return text_page(HTTPStatus.MISDIRECTED_REQUEST, _REBINDING)
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path))
        if route is None:
            return self._no_route(request.path)
        if request.has_body:
            return text_page(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "No request here has a body.\n")
        return route(request)

    def _no_route(self, path: str) -> Page:
        methods = [method for method, known in self._routes if known == path]
        if not methods:
            paths = ", ".join(dict.fromkeys(known for _, known in self._routes))
            return text_page(HTTPStatus.NOT_FOUND, f"There is nothing here; try {paths}.\n")
        if "GET" in methods:
            methods.append("HEAD")
        body = f"Only {' and '.join(methods)} are answered here.\n"
        allow = (("Allow", ", ".join(methods)),)
        return Page(HTTPStatus.METHOD_NOT_ALLOWED, body.encode(), headers=allow)

    def _metrics(self, request: Request) -> Page:
        accept = _canonical_accept(request.accept)
        if self._board.words[layout.Master.RENDERINGS] != self._rendering:
            # The exporter of another generation has rendered a page meanwhile. It may
            # show newer counts than our pages, and no counter may go down.
            self._rendered.clear()
        expires_at, page = self._rendered.get(accept, (0.0, None))
        if page is None or self._clock() >= expires_at:
            renderer, content_type = self._renderer(accept)
            before = self._board.words[layout.Master.RENDERINGS]
            reading = Reading.take(self._board, self._labels, self._tracked())
            page = Page(HTTPStatus.OK, renderer.render(reading), content_type)
            self._rendered[accept] = (self._clock() + CACHED_S, page)
            self._board.count(layout.Master.RENDERINGS)
            # Do not read the word again: if the other exporter counted a rendering
            # during ours, its page is newer, and the next request must notice that.
            self._rendering = wrapped(before + 1)
        return page

    def _renderer(self, accept: str) -> tuple[Renderer, str]:
        """The renderer of a format, which is kept, and its content type."""
        if accept not in self._renderers:
            encode, content_type = choose_encoder(accept)
            self._renderers[accept] = Renderer(encode), content_type
        return self._renderers[accept]

    def _healthz(self, _: Request) -> Page:
        return text_page(HTTPStatus.OK, "ok\n")

    def _readyz(self, _: Request) -> Page:
        if reason := why_not_ready(self._board, self._labels):
            return text_page(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
        return text_page(HTTPStatus.OK, "ready\n")


def _without_request(page: Callable[[], Page], _: Request) -> Page:
    return page()


def _canonical_accept(accept: str) -> str:
    """One of the two Accept values for which we render. prometheus_client would repeat
    the version or the escaping that a request names, and each of these would become one
    more key of the cache.
    """
    try:
        _, content_type = choose_encoder(accept)
    except TypeError:  # a comparison fails if the version in the request is no number
        return "text/plain"
    return (
        f"{_OPENMETRICS}; version=1.0.0" if content_type.startswith(_OPENMETRICS) else "text/plain"
    )


def _host_is_safe(host: str) -> bool:
    """Whether DNS rebinding cannot have made this Host: it is absent (HTTP/1.0), a name
    of this machine's own, or an address in numbers, each with or without a port.
    """
    if not host:
        return True
    parts = _HOST.fullmatch(host)
    if parts is None:
        return False
    if parts["name"] and parts["name"].lower().removesuffix(".") in _LOCAL_NAMES:
        return True
    try:
        ip_address(parts["v6"] or parts["name"])
    except ValueError:
        return False
    return True
