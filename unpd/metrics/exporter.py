"""The exporter: waitress serving :class:`unpd.metrics.http.MetricsApp` on a listener
that the master opened. Privileges, signals and the fork are its caller's.

Waitress parses and writes; the loop is ours and has no thread. A turn is one poll(2) of
at most a second, then the requests that it completed are answered, so that the
heartbeat speaks for the rendering too.

What a client can cause has a bound. One request a connection, then it is closed: no
pipeline to queue, no answer to pile up. A connection lives 10 s, whatever it does: a
slow sender, a slow reader and an idle one are the same case. 64 connections, the rest
waits in the accept queue. 8 KiB of request header, no body. Request lines and header
bytes are looked at before waitress looks: its regular expressions need seconds for 8
KiB of malice (4.7 s for a request line ``GET a://111...`` with a space at its end, 0.2
s for a header of spaces with a NUL, 0.6 s for one of spaces and a letter; waitress
3.0.2). So long blanks are refused, and folded lines, which waitress joins (RFC 9112,
5.2: a server may).

Known gap: closing on a client that is still sending resets the connection; such a
client may see the reset and not the 4xx.
"""

import contextlib

# waitress looks a host up, and the user that we become may not be able to read it, nor
# may it be there still
import encodings.idna  # noqa: F401
import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import BaseWSGIServer, TcpWSGIServer, UnixWSGIServer
from waitress.utilities import RequestEntityTooLarge

from unpd.board.memory import Scoreboard
from unpd.kernel.signals import drain
from unpd.logs import Field
from unpd.loop import now
from unpd.metrics.http import MetricsApp
from unpd.metrics.labels import Labels

HEADER_BYTES = 8192
CONNECTIONS = 64
CONNECTION_S = 10.0
REQUEST_S = 2.0
"""A connection whose request is not complete by then makes room: sixty-four silent ones
must not hold up a scrape.
"""
TURN_S = 1.0
FINISH_S = 1.0
"""How long an exporter that is retired may take to end."""
FRESH_S = 0.25
"""At the end, a connection that is younger than this may still send its request: at a
reload a scrape must not fail because the old exporter had taken it.
"""
PAUSE_S = 0.5
LOG_PAUSE_S = 1.0
LONGEST_MESSAGE = 300

_REQUEST_LINE = re.compile(rb"[A-Z-]+ /[!-~]* HTTP/1\.[01]")
_CONTROL = re.compile(rb"[^\t\r\n\x20-\x7e\x80-\xff]")
_BLANK = re.compile(rb"\r\n[\t ]|[\t ]{64}")


class Report(Protocol):
    """A level's method of :class:`unpd.logs.Log`."""

    def __call__(self, event: str, **fields: Field) -> None:
        """Log one event."""


@dataclass(frozen=True, slots=True)
class ExporterContext:
    """What the exporter needs.

    ``sock``: listening, TCP or UNIX; it is closed at the end. ``loopback``: it is bound
    to a loopback TCP address. ``wakeup_fd``: the non-blocking read end of the pipe
    given to signal.set_wakeup_fd; the loop empties it. ``beat`` is called and
    ``stop_within`` is asked before each turn: at least once a second, and at once after
    a signal; it says how many seconds an end may take, None to go on. ``report``: where
    waitress' warnings go. ``ready`` is called when requests can be answered.
    ``connection_s``: how long a connection may last, looked at once a turn.
    """

    sock: socket.socket
    board: Scoreboard
    labels: Labels
    beat: Callable[[], None]
    wakeup_fd: int
    stop_within: Callable[[], float | None]
    report: Report
    ready: Callable[[], None]
    loopback: bool
    connection_s: float = CONNECTION_S


def run_exporter(context: ExporterContext) -> None:
    """Serve until told to stop; then close the listener, finish in that time what is
    being answered, and return.
    """
    with _waitress_log(context.report):
        server = _Server(context)
        context.ready()
        while (finish_s := context.stop_within()) is None:
            context.beat()
            server.turn(TURN_S)
        server.finish(finish_s)


class _Server:
    """Waitress' parts, and the loop over them."""

    def __init__(self, context: ExporterContext) -> None:
        self._polled: dict[int, Any] = {}
        self._tasks = _Tasks()
        self._listener = _listen(context, self._polled, self._tasks)
        self._connection_s = context.connection_s
        _Wakeup(context.wakeup_fd, self._polled)

    def turn(self, timeout_s: float) -> None:
        """Wait for what happens, at most ``timeout_s``; answer what is complete; end
        what has had its time.
        """
        wasyncore.poll2(timeout_s, self._polled)
        self._tasks.answer_all()
        for channel in self._listener.channels():
            if now() >= channel.opened_at + (
                self._connection_s if channel.answering else min(self._connection_s, REQUEST_S)
            ):
                # Not will_close: that waits until the socket can be written, which a
                # reader that stopped reading never lets happen.
                channel.handle_close()

    def finish(self, finish_s: float) -> None:
        """Close the listener, give the requests under way ``finish_s`` and of that
        FRESH_S to those that may come, close everything.
        """
        deadline = now() + finish_s
        wasyncore.dispatcher.close(
            self._listener
        )  # the server's own close() would close the pipe that answers still write to
        while self._close_idle() and (left_s := deadline - now()) > 0:
            self.turn(min(left_s, FRESH_S))
        wasyncore.close_all(self._polled)

    def _close_idle(self) -> bool:
        """Close the connections that had their time to send a request and sent nothing;
        return whether any other is left.
        """
        for channel in self._listener.channels():
            if not channel.busy and now() >= channel.opened_at + FRESH_S:
                channel.handle_close()
        return bool(self._listener.channels())


def _listen(context: ExporterContext, polled: dict[int, Any], tasks: "_Tasks") -> "_Listener":
    sock = context.sock
    limits = Adjustments(
        sockets=[sock],
        connection_limit=CONNECTIONS + 3,  # waitress counts the listener, its own pipe and ours
        max_request_header_size=HEADER_BYTES,
        max_request_body_size=1,
        ident="",
        expose_tracebacks=False,
        log_socket_errors=False,
        clear_untrusted_proxy_headers=False,
    )
    make = _UnixListener if sock.family == socket.AF_UNIX else _TcpListener
    return make(
        MetricsApp(context.board, context.labels, context.loopback),
        map=polled,
        _sock=sock,
        # # of waitress' dispatcher only add_task is used here
        dispatcher=tasks,  # type: ignore[arg-type]
        adj=limits,
        sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
        bind_socket=False,
    )


class _Request(HTTPRequestParser):
    """One request without a body; what a client sends after it on the same connection
    is dropped.
    """

    headers: dict[str, str]
    path = ""  # waitress names it in its log lines even where there was none to parse

    def received(self, data: bytes) -> int:
        consumed = super().received(data)
        if self.headers_finished and not self.completed:
            self.error = RequestEntityTooLarge("no request here has a body")
            self.completed = True
        if not self.completed:
            return consumed
        self.expect_continue = False
        self.headers["CONNECTION"] = "close"
        return len(data)

    def parse_header(self, header_plus: bytes) -> None:
        if not _REQUEST_LINE.fullmatch(header_plus.partition(b"\r\n")[0].rstrip()):
            raise ParsingError("the request line is not of the form: GET /path HTTP/1.1")
        if _CONTROL.search(header_plus):
            raise ParsingError("control character in a header")
        if _BLANK.search(header_plus):
            raise ParsingError(
                "a header goes on in the next line, or has more than 63 blanks in a row"
            )
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a Content-Length of thousands of digits
            raise ParsingError("a header has no sensible value") from error


class _Channel(HTTPChannel):
    """One connection; ``opened_at`` on the monotonic clock (waitress' own stamps are of
    the wall clock).
    """

    parser_class = _Request

    def __init__(self, *args: Any, **kw: Any) -> None:
        self.opened_at = now()
        super().__init__(*args, **kw)

    @property
    def busy(self) -> bool:
        """Whether a request is under way: partly received, or not wholly answered."""
        return bool(self.request) or self.answering

    @property
    def answering(self) -> bool:
        """Whether a request is complete and its answer not wholly sent."""
        return bool(self.requests or self.total_outbufs_len or self.close_when_flushed)


class _Listener(BaseWSGIServer):
    channel_class = _Channel
    paused_until = 0.0

    def channels(self) -> list[_Channel]:
        """The open connections, as a list of their own."""
        # # a dict, whatever its stub says
        return list(self.active_channels.values())  # type: ignore[attr-defined]

    def readable(self) -> bool:
        return super().readable() and now() >= self.paused_until

    def accept_connections(self) -> None:
        """The master has called listen(2). Called again on a listener that was ended,
        it would make one that refuses whom it accepts.
        """
        self.accepting = True

    def accept(self) -> Any:
        try:
            return super().accept()
        except OSError as error:
            # EMFILE and its kin leave the connection in the queue: without a pause the
            # loop would spin on it.
            self.paused_until = now() + PAUSE_S
            self.logger.warning("accept: %s", error)
            raise

    def handle_close(self) -> None:
        """An exporter without its listener is of no use: end, so that the master makes
        another.
        """
        raise RuntimeError("the listener of the metrics is broken")


class _TcpListener(_Listener, TcpWSGIServer):
    pass


class _UnixListener(_Listener, UnixWSGIServer):
    pass


class _Tasks:
    """Waitress' task dispatcher without threads: the loop answers what the poll
    completed.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Channel] = deque()

    def add_task(self, channel: _Channel) -> None:
        """The first request of ``channel`` is complete."""
        self._waiting.append(channel)

    def answer_all(self) -> None:
        """Answer everything that is complete. Waitress itself turns an exception of the
        application into a bare 500 and logs it.
        """
        while self._waiting:
            channel = self._waiting.popleft()
            try:
                channel.service()
            except Exception:  # the top of a connection: one client's trouble is not another's
                channel.logger.exception("cannot answer")
                channel.handle_close()


class _Wakeup(wasyncore.dispatcher):
    """The wake-up pipe as one more thing to poll."""

    def __init__(self, fd: int, polled: dict[int, Any]) -> None:
        super().__init__(map=polled)
        self._fileno = fd
        self.add_channel()

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        drain(self._fileno)


@contextlib.contextmanager
def _waitress_log(report: Report) -> Iterator[None]:
    """Send what waitress logs to ``report`` alone."""
    logger = logging.getLogger("waitress")
    forward = _Forward(report)
    before = logger.propagate
    logger.addHandler(forward)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(forward)
        logger.propagate = before


class _Forward(logging.Handler):
    """At most one line each LOG_PAUSE_S: a client can make waitress log as often as it
    likes.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report
        self._next_at = 0.0
        self._suppressed = 0

    def emit(self, record: logging.LogRecord) -> None:
        if now() < self._next_at:
            self._suppressed += 1
            return
        self._next_at = now() + LOG_PAUSE_S
        error = record.exc_info[1] if record.exc_info else None
        self._report(
            "exporter.http",
            message=record.getMessage()[:LONGEST_MESSAGE],
            **_told(error),
            suppressed=self._suppressed,
        )
        self._suppressed = 0


def _told(error: BaseException | None) -> dict[str, Field]:
    """An exception as fields of one line: what it says and where it was raised."""
    if error is None or error.__traceback__ is None:
        return {}
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return {
        "error": repr(error)[:LONGEST_MESSAGE],
        "at": f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}",
    }
