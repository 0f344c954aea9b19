"""The routes of the status page: the page, its style and script, and /status.json.

Owns a cache: a snapshot is shown again for CACHED_S, so that any number of viewers cost
one rendering a second. Called by :mod:`unpd.metrics.pages`, which owns all routes.
Calls :mod:`unpd.metrics.page.snapshot` and :mod:`unpd.metrics.page.html`. Raises
nothing of its own.

The page needs no other host, and the policy in its headers forbids one. No frame may
hold it.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from unpd.metrics.messages import Page
from unpd.metrics.page.files import PageFiles
from unpd.metrics.page.html import document
from unpd.metrics.page.snapshot import Moment, Sources, snapshot

CACHED_S = 0.9
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class StatusPage:
    """The pages. ``present``: the time now."""

    def __init__(
        self,
        sources: Sources,
        files: PageFiles,
        present: Callable[[], Moment] = Moment.present,
    ) -> None:
        self._sources = sources
        self._present = present
        self._rendered: dict[str, tuple[float, Page]] = {}
        self.routes: Mapping[str, Callable[[], Page]] = MappingProxyType(
            {
                "/": lambda: self._cached("html", self._html),
                "/status.json": lambda: self._cached("json", self._json),
                "/page.css": lambda: _page(files.css, "text/css; charset=utf-8"),
                "/page.js": lambda: _page(files.js, "text/javascript; charset=utf-8"),
            }
        )

    def _cached(self, name: str, render: Callable[[Moment], Page]) -> Page:
        at = self._present()
        expires_at, page = self._rendered.get(name, (0.0, None))
        if page is None or at.monotonic_s >= expires_at:
            page = render(at)
            self._rendered[name] = (at.monotonic_s + CACHED_S, page)
        return page

    def _html(self, at: Moment) -> Page:
        text = document(snapshot(self._sources, at))
        return _page(text.encode(), "text/html; charset=utf-8")

    def _json(self, at: Moment) -> Page:
        text = json.dumps(snapshot(self._sources, at), separators=(",", ":"))
        return _page(text.encode() + b"\n", "application/json")


def _page(body: bytes, content_type: str) -> Page:
    return Page(HTTPStatus.OK, body, content_type, _HEADERS)
