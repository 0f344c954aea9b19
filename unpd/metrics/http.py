"""One HTTP connection of the exporter: one request, one answer, and its end.

Owns: what was received and what is still to be sent. :mod:`unpd.metrics.exporter` calls
it when its socket can be read or written, and closes the socket. It calls h11, which
parses the request and writes the answer, and the function that finds the page.

The life of a connection is RECEIVING, SENDING, LINGERING, OVER, in that order; each
step may lead to OVER. A refused request gets its 4xx like any other answer. Lingering
means: the answer is sent, our side is shut down, and what the client still sends is
thrown away. A close without it would reset the connection, and the client could lose
the answer (RFC 9112, 9.6).

Everything a client can cause has a bound: 8 KiB of header, no body, 10 s in all, of
which 2 s for the request and 1 s for lingering. A second request is never read. h11's
regular expression for a header line needs time that grows with the square of the blanks
before its value: 0.2 s for 8 KiB. So long blanks are refused before h11 sees them, and
with them folded lines, which h11 joins to long blanks (RFC 9112, 5.2: a server may),
and bare line feeds.

Errors: an error of the socket ends the connection. Only faults of our own are raised.
"""

import enum
import re
import select
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

from unpd.libraries import h11
from unpd.metrics.messages import Page, Request, text_page

HEADER_BYTES = 8192
CONNECTION_S = 10.0
REQUEST_S = 2.0
"""How long a client may take to send its request."""
LINGER_S = 1.0
BLANKS = 63
"""The longest run of spaces and tabs in a header."""
DISCARD_BYTES = 65536

_ODD = re.compile(rb"(?P<end>\r\n\r\n)|[^\r]\n|\n[\t ]|[\t ]{%d}" % (BLANKS + 1))
"""The end of a header, or something that we refuse, whichever comes first."""
_TARGET = re.compile(rb"(?:(?i:http)://(?P<host>[^/?#]+))?(?P<path>/[^?#]*)?(?:\?[^#]*)?")
"""The origin form and the absolute form of a target (RFC 9112, 3.2)."""


class Phase(enum.Enum):
    """What a connection does now."""

    RECEIVING = enum.auto()
    SENDING = enum.auto()
    LINGERING = enum.auto()
    OVER = enum.auto()


class Refused(Exception):
    """A request that gets this status in place of a page."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.page = text_page(status, f"{reason}\n")


class HttpConnection:
    """One connection. ``sock``: non-blocking. ``find_page`` answers a whole request.
    ``opened_at``, ``deadline`` and each ``now``: seconds of the monotonic clock. After
    its deadline the caller closes the connection, whatever it does. ``moved_at``: when
    the client last took a part of the answer.
    """

    def __init__(
        self,
        sock: socket.socket,
        find_page: Callable[[Request], Page],
        opened_at: float,
        connection_s: float = CONNECTION_S,
    ) -> None:
        self.sock = sock
        self.opened_at = self.moved_at = opened_at
        self.deadline = opened_at + min(REQUEST_S, connection_s)
        self.phase = Phase.RECEIVING
        self._ends_at = opened_at + connection_s
        self._find_page = find_page
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES)
        self._received = 0
        self._tail = b""
        self._is_head = False
        self._unsent = memoryview(b"")

    @property
    def mask(self) -> int:
        """What the connection waits for: EPOLLIN or EPOLLOUT."""
        return select.EPOLLOUT if self.phase is Phase.SENDING else select.EPOLLIN

    @property
    def is_silent(self) -> bool:
        """Whether the client has sent nothing yet."""
        return self.phase is Phase.RECEIVING and not self._received

    def ready(self, now: float) -> None:
        """Read or write what the socket allows now. Raises what ``find_page`` raises;
        :meth:`fail` is to be called then.
        """
        match self.phase:
            case Phase.RECEIVING:
                self._receive(now)
            case Phase.SENDING:
                self._send(now)
            case Phase.LINGERING:
                self._discard()
            case Phase.OVER:
                pass

    def fail(self, now: float) -> None:
        """Answer with a 500 that does not say why, if no answer has begun; else give
        up.
        """
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._respond(text_page(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error.\n"), now)
        else:
            self.phase = Phase.OVER

    def _receive(self, now: float) -> None:
        piece = self._read(HEADER_BYTES + 1 - self._received)
        if piece is None:
            return
        self._received += len(piece)
        try:
            event = self._parse(piece)
            if event is None:
                return
            self._is_head = event.method == b"HEAD"
            page = self._find_page(_checked(event))
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            page = text_page(status, f"{status.description}.\n")
        except Refused as refused:
            page = refused.page
        self._respond(page, now)

    def _parse(self, piece: bytes) -> h11.Request | None:
        """The request if this piece completes it; an empty piece is the client's FIN.
        Raises RemoteProtocolError and Refused.
        """
        is_fin = not piece
        if not self._tail:
            piece = piece.lstrip(b"\r\n")  # empty lines before a request (RFC 9112, 2.2)
        if piece or is_fin:
            self._refuse_odd(piece)
            self._h11.receive_data(piece)
        event = self._h11.next_event()
        if isinstance(event, h11.Request):
            return event
        if isinstance(event, h11.ConnectionClosed):
            self.phase = Phase.OVER
        elif self._received > HEADER_BYTES:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise Refused(status, f"{status.description}.")
        return None

    def _refuse_odd(self, piece: bytes) -> None:
        window = self._tail + piece
        self._tail = window[-BLANKS:]
        odd = _ODD.search(window)
        if odd is not None and odd["end"] is None:
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                f"A header line is folded, has more than {BLANKS} blanks in a row, or ends in a"
                " bare line feed.",
            )

    def _respond(self, page: Page, now: float) -> None:
        headers = [
            # Nothing here calls setlocale(3), so the names are English.
            ("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())),
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(page.body))),
            ("Connection", "close"),
            *page.headers,
        ]
        status = page.status
        answer = self._h11.send(
            h11.Response(status_code=status.value, reason=status.phrase, headers=headers)
        )
        if not self._is_head:
            answer += self._h11.send(h11.Data(data=page.body))
        answer += self._h11.send(h11.EndOfMessage())
        self._unsent = memoryview(answer)
        self.phase = Phase.SENDING
        self.deadline = self._ends_at
        self._send(now)

    def _send(self, now: float) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
                self.moved_at = now
            self.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self.phase = Phase.OVER
            return
        self.phase = Phase.LINGERING
        self.deadline = min(self._ends_at, now + LINGER_S)

    def _discard(self) -> None:
        if self._read(DISCARD_BYTES) == b"":
            self.phase = Phase.OVER

    def _read(self, size: int) -> bytes | None:
        """What has come, b"" for a FIN, None for nothing; after an error too, and the
        connection is over then.
        """
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            self.phase = Phase.OVER
            return None


def _checked(event: h11.Request) -> Request:
    """What the pages need of a request that h11 has parsed. Refused if it is none that
    any page can answer.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in event.headers:
        headers[name] = headers[name] + b", " + value if name in headers else value
    if event.http_version not in (b"1.0", b"1.1"):
        raise Refused(HTTPStatus.BAD_REQUEST, "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    target = _TARGET.fullmatch(event.target)
    if target is None or not (target["host"] or target["path"]):
        raise Refused(HTTPStatus.BAD_REQUEST, "The target is neither a path nor an http URL.")
    host = target["host"] or headers.get(b"host", b"")
    return Request(
        method=event.method.decode("ascii"),
        path=unquote((target["path"] or b"/").decode("ascii")),
        host=host.decode("latin-1"),
        accept=headers.get(b"accept", b"").decode("latin-1"),
        has_body=b"transfer-encoding" in headers
        or headers.get(b"content-length", b"0").strip(b"0") != b"",
    )
