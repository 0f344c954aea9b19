"""The exporter: the loop that serves the pages on a listener that the master opened.

Owns: the listener and the connections. Runs in the exporter's process; the fork, the
privileges and the signals are its caller's. Calls :mod:`unpd.metrics.http` for each
connection and :mod:`unpd.metrics.pages` for each request. It has one thread and one
wait, of at most a second: the heartbeat speaks for the rendering too.

At most 64 connections are open. When one more comes, the oldest without an answer under
way is closed, as soon as it is UNREAD_S old: clients that send nothing cannot hold up a
scrape. If all 64 are being answered, the oldest that has taken no byte for STALLED_S is
closed: nor can clients that read nothing. While there is no such one, the others wait
in the accept queue.

Errors: one connection's fault ends that connection and is reported, at most once a
second. A broken listener raises RuntimeError: an exporter without it is of no use, and
the master makes another.
"""

import errno
import functools
import math
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from unpd.access.network import Network
from unpd.access.peer import UNIX, Peer
from unpd.access.rules import Rules
from unpd.board.halted import Halted
from unpd.board.history import History
from unpd.board.memory import Scoreboard
from unpd.channel import ChannelEnd, ChannelError, ChannelFullError
from unpd.kernel.credentials import peer_credentials, peer_groups
from unpd.kernel.signals import empty_wakeup_pipe
from unpd.line_limit import LineLimit
from unpd.log_events.row import Field
from unpd.loop import Loop, now
from unpd.metrics.http import CONNECTION_S, HttpConnection, Phase
from unpd.metrics.labels import Labels
from unpd.metrics.page.files import PageFiles
from unpd.metrics.page.news import News
from unpd.metrics.page.snapshot import Sources
from unpd.metrics.pages import Pages

CONNECTIONS = 64
BATCH = 16
"""Connections accepted in one turn. It is well below CONNECTIONS, so that a connection
that sends its request at once is read before newer ones can evict it.
"""
UNREAD_S = 0.02
"""How long a connection has for its request before it may have to give way. Without
that time one that was just accepted would be closed before its request was read.
"""
STALLED_S = 0.1
"""A client that has taken nothing of its answer for so long gives way when there is no
room. It must be short: 300 such clients are replaced 64 at a time.
"""
TURN_S = 1.0
FINISH_S = 1.0
"""How long an exporter that is retired may take to end."""
FRESH_S = 0.25
"""At the end, a connection that is younger than this may still send its request: at a
reload a scrape must not fail because the old exporter had accepted it.
"""
PAUSE_S = 0.5
"""How long the listener rests after a failure of accept(2), for instance EMFILE, which
leaves the connection in the queue: without a pause the loop would spin.
"""
LONGEST_MESSAGE = 300

_BROKEN = frozenset((errno.EBADF, errno.EINVAL, errno.ENOTSOCK))


class Report(Protocol):
    """The method ``event`` of :class:`unpd.logs.Log`."""

    def __call__(self, event: str, **fields: Field) -> None:
        """Log one event."""


@dataclass(frozen=True, slots=True)
class PageContext:
    """What the status page needs beside the board: the samples of the last ten minutes,
    its files, what the master says, of which "news" brings more, and the services that
    an operator has halted.
    """

    history: History
    files: PageFiles
    news: News
    halted: Halted


@dataclass(frozen=True, slots=True)
class ExporterContext:
    """What the exporter needs.

    ``sock``: listening, TCP or UNIX; the exporter closes it at the end. ``loopback``:
    it is bound to a loopback TCP address. ``wakeup_fd``: the non-blocking read end of
    the pipe given to signal.set_wakeup_fd; the loop empties it. The loop calls ``beat``
    and asks ``stop_within`` before each turn: at least once a second, and at once after
    a signal. ``stop_within`` says how many seconds the end may take, None to go on.
    ``report`` logs a warning. ``ready`` is called when requests can be answered.
    ``connection_s``: how long a connection may last, looked at once a turn.
    ``stalled_s``: after how long a client that takes nothing may have to give way.
    ``channel``: the questions of the master, of which the exporter knows four. "log":
    ``switch_log`` carries it out and returns the answer. "rows": how many rows of the
    board to read at most from now on. "level": ``take_level`` takes that of the log.
    "news": what is new for the status page, whose
    needs are ``page``. ``tracked``: how many sources of connections are counted now.
    ``allow``: who may read the metrics; an empty one lets everybody; ``refused`` is
    called with every other client.
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
    page: PageContext
    connection_s: float = CONNECTION_S
    stalled_s: float = STALLED_S
    channel: ChannelEnd | None = None
    switch_log: Callable[[], dict[str, Any]] = dict
    take_level: Callable[[object], dict[str, Any]] = lambda _: {}
    tracked: Callable[[], int] = int
    allow: Rules = field(default_factory=Rules)
    refused: Callable[[Peer], None] = lambda _: None


def run_exporter(context: ExporterContext) -> None:
    """Serve until ``stop_within`` says to stop; then close the listener, finish in that
    time what is being answered, and return.
    """
    exporter = _Exporter(context)
    context.ready()
    while (finish_s := context.stop_within()) is None:
        context.beat()
        exporter.turn(TURN_S)
    exporter.finish(finish_s)


class _Exporter:
    """The listener, the connections by descriptor, the oldest first, and the loop over
    them.
    """

    def __init__(self, context: ExporterContext) -> None:
        self._listener = context.sock
        self._listener.setblocking(False)
        self._listen_at = 0.0
        self._board = context.board
        self._connection_s = context.connection_s
        self._stalled_s = context.stalled_s
        self._report = context.report
        self._complaints = _Complaints(context.report)
        self._allow = context.allow
        self._refused = context.refused
        page = self._page = context.page
        sources = Sources(context.board, context.labels, page.history, page.news, page.halted)
        self._pages = Pages(sources, page.files, context.loopback, tracked=context.tracked)
        self._connections: dict[int, HttpConnection] = {}
        self._loop = Loop()
        self._loop.watch(
            context.wakeup_fd, select.EPOLLIN, lambda _: empty_wakeup_pipe(context.wakeup_fd)
        )
        self._switch_log = context.switch_log
        self._take_level = context.take_level
        if (channel := context.channel) is not None:
            self._loop.watch(channel.fileno(), select.EPOLLIN, lambda _: self._answer(channel))

    def turn(self, timeout_s: float) -> None:
        """Wait until something happens, at most ``timeout_s``; serve it; close the
        connections whose time is over.
        """
        self._watch_listener()
        # While there is no room, a connection may become dispensable meanwhile.
        self._loop.turn(timeout_s if self._has_room() else min(timeout_s, UNREAD_S))
        for connection in list(self._connections.values()):
            if now() >= connection.deadline:
                self._close(connection)

    def finish(self, finish_s: float) -> None:
        """Close the listener, give the requests under way ``finish_s`` and of that
        FRESH_S to those that may come, close everything.
        """
        deadline = now() + finish_s
        self._listen_at = math.inf
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        while self._close_silent() and (left_s := deadline - now()) > 0:
            self.turn(min(left_s, FRESH_S))
        for connection in list(self._connections.values()):
            self._close(connection)

    def _answer(self, channel: ChannelEnd) -> None:
        """Answer the questions of the master. An answer is short and has room."""
        try:
            for question in channel.receive():
                channel.send(self._answer_to(question))
        except (ChannelError, ChannelFullError) as error:
            self._report("channel.broken", reason=str(error))
            channel.ended = True
        if channel.ended:
            self._loop.forget(channel.fileno())

    def _answer_to(self, question: dict[str, Any]) -> dict[str, Any]:
        match question:
            case {"question": "log"}:
                return self._switch_log()
            case {"question": "rows", "bound": int(bound)}:
                self._board.rows_bound = bound
                return {}
            case {"question": "level", "level": level}:
                return self._take_level(level)
            case {"question": "news"}:
                news = self._page.news
                news.take(question["events"], question["ends"], question["state"])
                return {}
        return {"error": "not a worker"}

    def _close_silent(self) -> bool:
        """Close the connections that had their time to send a request and sent nothing;
        return whether any other is left.
        """
        for connection in list(self._connections.values()):
            if connection.is_silent and now() >= connection.opened_at + FRESH_S:
                self._close(connection)
        return bool(self._connections)

    def _watch_listener(self) -> None:
        if now() >= self._listen_at and self._has_room():
            self._loop.watch(self._listener.fileno(), select.EPOLLIN, self._accept)
        elif self._listener.fileno() >= 0:
            self._loop.forget(self._listener.fileno())

    def _has_room(self) -> bool:
        return len(self._connections) < CONNECTIONS or self._dispensable() is not None

    def _dispensable(self) -> HttpConnection | None:
        """The oldest connection that has no answer under way; if all have, the oldest
        whose client does not read.
        """
        at = now()
        stalled = None
        for each in self._connections.values():
            match each.phase:
                case Phase.SENDING if stalled is None and at - each.moved_at >= self._stalled_s:
                    stalled = each
                case Phase.RECEIVING if at - each.opened_at >= UNREAD_S:
                    return each
                case Phase.LINGERING:
                    return each
        return stalled

    def _accept(self, _mask: int) -> None:
        # Another exporter, which shares the listener, may have cleared the flag.
        self._listener.setblocking(False)
        for _ in range(BATCH):
            if not self._has_room():
                return
            try:
                sock, name = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in _BROKEN:
                    raise RuntimeError("the listener of the metrics is broken") from error
                self._listen_at = now() + PAUSE_S
                self._complaints.add(f"accept: {error}")
                return
            if self._allows(sock, name):
                self._open(sock)
            else:
                sock.close()

    def _allows(self, sock: socket.socket, name: Any) -> bool:
        """Whether a client may read the metrics. ``name``: its address, as the module
        socket shows it.
        """
        if not self._allow or self._allow.find(peer := _peer_of(sock, name)):
            return True
        self._refused(peer)
        return False

    def _open(self, sock: socket.socket) -> None:
        if len(self._connections) >= CONNECTIONS and (evicted := self._dispensable()):
            if evicted.phase is Phase.RECEIVING:
                self._complaints.add(
                    f"{CONNECTIONS} connections are open: closed the oldest without a request"
                )
            self._close(evicted)
        sock.setblocking(False)
        connection = HttpConnection(sock, self._pages.answer, now(), self._connection_s)
        self._connections[sock.fileno()] = connection
        self._watch(connection)

    def _watch(self, connection: HttpConnection) -> None:
        call = functools.partial(self._serve, connection)
        self._loop.watch(connection.sock.fileno(), connection.mask, call)

    def _serve(self, connection: HttpConnection, _mask: int) -> None:
        mask = connection.mask
        try:
            connection.ready(now())
        except Exception as error:  # noqa: BLE001 - the top of a connection
            self._complaints.add("cannot answer a request", error)
            connection.fail(now())
        if connection.phase is Phase.OVER:
            self._close(connection)
        elif connection.mask != mask:
            self._watch(connection)

    def _close(self, connection: HttpConnection) -> None:
        fd = connection.sock.fileno()
        self._loop.forget(fd)
        del self._connections[fd]
        connection.sock.close()


def _peer_of(sock: socket.socket, name: Any) -> Peer:
    if sock.family != socket.AF_UNIX:
        network = Network.parse(name[0].partition("%")[0])
        return Peer(network.family, network.first)
    try:
        credentials = peer_credentials(sock)
        return Peer(UNIX, uid=credentials.uid, gids=(credentials.gid, *peer_groups(sock)))
    except OSError:
        return Peer(UNIX)  # of no known user


class _Complaints:
    """What goes wrong, as log lines: limited, because a client can cause as many as it
    likes. Each line says how many were left out before it.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._limit = LineLimit()

    def add(self, message: str, error: Exception | None = None) -> None:
        """Report, or count what is left out."""
        suppressed = self._limit.take(now())
        if suppressed is not None:
            self._report(
                "exporter.http",
                message=message[:LONGEST_MESSAGE],
                **_describe(error),
                suppressed=suppressed,
            )


def _describe(error: Exception | None) -> dict[str, Field]:
    """An exception as fields of one line: its text and where it was raised."""
    if error is None or error.__traceback__ is None:
        return {}
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return {
        "error": repr(error)[:LONGEST_MESSAGE],
        "at": f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}",
    }
