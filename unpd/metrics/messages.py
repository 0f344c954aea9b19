"""The request and the answer, as the pages see them: without a connection.

Made by :mod:`unpd.metrics.http` (requests) and :mod:`unpd.metrics.pages` (answers).
Calls and raises nothing.
"""

from dataclasses import dataclass
from http import HTTPStatus

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path``: decoded, without the query. ``host``: the host and port in
    the target if it has them, else the Host header. ``accept``: the Accept header. An
    absent header is "". ``has_body``: whether a body follows; nobody reads it.
    """

    method: str
    path: str
    host: str = ""
    accept: str = ""
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """An answer. A GET gets the body; a HEAD gets only the length of the body."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()


def text_page(status: HTTPStatus, text: str) -> Page:
    """A page of plain text."""
    return Page(status, text.encode())
