"""The questions of the master to a worker, and the answers.

{"question": "connections", "after": -1, "limit": 200, "service": "", "network": "",
"older_s": 0} asks for the connections of a selection (unpd/worker/selection.py) whose
numbers are above ``after``, in ascending order, at most ``limit`` of them. The answer
is {"connections": [{"service": ..., "peer": ..., "local": ..., "age_s": ...,
"received": ..., "sent": ..., "state": ...}, ...], "next": N}: ``next`` is the
``after`` of the next question, null if there are no more. A connection over TCP has
"rtt_s" and "retransmits", one of a redirect has a "target", and a session process its
"pid". A question that is not understood is answered by {"error": "one sentence"}.

{"question": "rows", "bound": 256} says how many rows of the scoreboard to read at most
from now on. The answer is {}.

{"question": "own", "ports": [7, 13], "paths": ["2f72"]} says on which ports and paths
(in hexadecimal digits) unpd listens from now on. The answer is {}.

{"question": "kick", "service": "", "network": "192.0.2.0/24", "older_s": 0, "cause":
"denied", "dry_run": false} ends the connections of a selection for this cause. The
answer is {"kicked": 3}: how many there are.

{"question": "try", "service": "mysqlchk"} brings one end of a socket pair, for a
launcher (:mod:`unpd.dispatcher.trials`). The answer is {} or an error.

{"question": "log"} brings the descriptor of a new log file. The answer is {"log":
"switched"} or an error.

{"question": "level", "level": "debug"} sets the level of the log whatever the
configuration wants, null gives it back. The answer is {} or an error.

Between answers a child reports who has connected to a sensor
(:mod:`unpd.master.children.reports`). Such reports wait for room, each once, at most
MAX_REPORTS of them; an answer goes before them. Those that find no place are lost. The
next report counts them, and their clients are reported when they come again.

An answer is short (one line of the channel), and it holds up one turn by a millisecond
or two. Owns the worker's end of the channel. The worker makes it; the engine calls
``ready``. A master that breaks the protocol or does not read ends the channel with a
line in the log; the worker serves on.
"""

import json
import select
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from unpd.board.memory import Scoreboard
from unpd.channel import MAX_LINE_BYTES, ChannelEnd, ChannelError, ChannelFullError
from unpd.logs import Log, take_level
from unpd.loop import now
from unpd.worker.event.datagram import OwnAddresses
from unpd.worker.event.poller import Target
from unpd.worker.selection import Kick, Selection

MAX_LIMIT = 200
MAX_ANSWER_BYTES = MAX_LINE_BYTES - 1024
"""How many bytes of connections an answer holds at most: the path of a UNIX socket can
have 600 bytes in JSON, so the limit alone does not bound it.
"""
MAX_REPORTS = 4096
"""How many different reports wait for room at most."""
MAX_SCANNED = 5000
"""How many connections one answer looks at: of a selection, perhaps none belongs."""
HIGHEST = (1 << 31) - 1


class Described(Protocol):
    """A session or an arrival, as far as it is described to the master."""

    @property
    def number(self) -> int:
        """Its number: the descriptor of its connection, or its entry in the table of
        sessions. No other of the process has it.
        """

    def belongs(self, selection: Selection, now: float) -> bool:
        """Whether it belongs to a selection. ``now``: monotonic seconds."""

    def describe(self, now: float) -> dict[str, Any]:
        """Its service, peer, local address, age in seconds, bytes and state."""


Connections = Callable[[int], Iterable[Described]]
"""The open connections whose numbers are above another one, in ascending order."""


def answer(question: Mapping[str, Any], open_above: Connections, now: float) -> dict[str, Any]:
    """Return the answer to ``question``. ``now``: monotonic seconds."""
    if question.get("question") != "connections":
        known = '"connections", "rows", "own", "kick", "level" and "log"'
        return {"error": f"the only questions are {known}"}
    after, limit = question.get("after", -1), question.get("limit", MAX_LIMIT)
    if not _is_within(after, -1, HIGHEST):
        return {"error": "after must be a number of a connection, or -1"}
    if not _is_within(limit, 1, MAX_LIMIT):
        return {"error": f"limit must be a whole number from 1 to {MAX_LIMIT}"}
    try:
        selection = Selection.of_message(question)
    except ValueError as error:
        return {"error": str(error)}
    return connections(open_above(after), selection, limit, now)


def _is_within(value: object, lowest: int, highest: int) -> bool:
    return type(value) is int and lowest <= value <= highest


def connections(
    open_above: Iterable[Described], selection: Selection, limit: int, now: float
) -> dict[str, Any]:
    """The first ``limit`` connections of a selection, as the answer to a question."""
    found: list[dict[str, Any]] = []
    last, size = -1, 0
    for scanned, connection in enumerate(open_above):
        if len(found) == limit or scanned == MAX_SCANNED:
            return {"connections": found, "next": last}
        if connection.belongs(selection, now):
            described = connection.describe(now)
            size += len(json.dumps(described)) + 2
            if size > MAX_ANSWER_BYTES:
                return {"connections": found, "next": last}
            found.append(described)
        last = connection.number
    return {"connections": found, "next": None}


class Watching(Protocol):
    """The engine, as far as the channel needs it."""

    def watch(self, fd: int, target: Target, mask: int = select.EPOLLIN) -> None:
        """Call ``target.ready`` when ``fd`` shows one of ``mask``."""

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``."""

    def connections(self, after: int = -1) -> Iterable[Described]:
        """Yield the sessions and the arrivals above ``after``."""

    def kick(self, kick: Kick) -> int:
        """End the connections of a selection; return how many."""


class Questions:
    """The channel as a target of the engine. A question is read once the answer before
    it is sent, so at most one line of questions is held.
    """

    def __init__(
        self,
        channel: ChannelEnd,
        engine: Watching,
        log: Log,
        switch_log: Callable[[], dict[str, Any]],
        board: Scoreboard,
    ) -> None:
        self._channel = channel
        self._engine = engine
        self._log = log
        self._switch_log = switch_log
        self._board = board
        self._learn: Callable[[OwnAddresses], None] = lambda _: None
        self._try_out: Callable[[str, int], dict[str, Any]] | None = None
        self._level_changed: Callable[[], None] = lambda: None
        self._mask = select.EPOLLIN
        self._reports: dict[tuple[tuple[str, str], ...], None] = {}
        self._lost = 0
        self._answering = False  # an answer waits for room

    def watch(
        self,
        learn: Callable[[OwnAddresses], None] | None = None,
        try_out: Callable[[str, int], dict[str, Any]] | None = None,
        level_changed: Callable[[], None] | None = None,
    ) -> None:
        """Begin to answer. ``learn`` takes the addresses on which unpd listens; without
        it, the process answers no datagrams, and the addresses do not concern it.
        ``try_out`` starts the program of a service, in a launcher. ``level_changed`` is
        called after the level of the log has changed.
        """
        self._learn = learn or self._learn
        self._try_out = try_out
        self._level_changed = level_changed or self._level_changed
        self._engine.watch(self._channel.fileno(), self)

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        match question:
            case {"question": "log"}:
                return self._switch_log()
            case {"question": "rows", "bound": int(bound)}:
                self._board.rows_bound = bound
                return {}
            case {"question": "own", "ports": list(ports), "paths": list(paths)}:
                self._learn(OwnAddresses.of_message(ports, paths))
                return {}
            case {"question": "try", "service": str(service)} if self._try_out:
                fd = self._channel.take_descriptor()
                return self._try_out(service, fd) if fd is not None else {"error": "nothing came"}
            case {"question": "kick"}:
                return self._kick(question)
            case {"question": "level", "level": level}:
                answered = take_level(self._log, level)
                self._level_changed()
                return answered
        return answer(question, self._engine.connections, now())

    def _kick(self, question: Mapping[str, Any]) -> dict[str, Any]:
        try:
            kick = Kick.of_message(question)
        except ValueError as error:
            return {"error": str(error)}
        return {"kicked": self._engine.kick(kick)}

    def ready(self, mask: int) -> None:
        """Read questions and answer them; or go on sending what is pending."""
        channel = self._channel
        try:
            if channel.pending:
                channel.flush()
            self._answering = self._answering and channel.pending
            if mask & ~select.EPOLLOUT and not self._answering:
                for question in channel.receive():
                    channel.send(self._answer(question))
                    self._answering = channel.pending
            self._send_reports()
        except (ChannelError, ChannelFullError) as error:
            self._log.event("channel.broken", reason=str(error))
            channel.ended = True
        self._watch_again()

    def report(self, message: Mapping[str, str]) -> None:
        """Send a report between the answers. It is lost if the master does not read,
        and no other if the same waits already.
        """
        if self._channel.ended:
            return
        report = tuple(message.items())
        if report not in self._reports and len(self._reports) >= MAX_REPORTS:
            self._lost += 1
            return
        self._reports[report] = None
        self._send_reports()
        self._watch_again()

    def _send_reports(self) -> None:
        """Send reports until one waits for room: an answer must not wait for many."""
        while self._reports and not self._channel.pending and not self._channel.ended:
            report = next(iter(self._reports))
            del self._reports[report]
            lost, self._lost = self._lost, 0
            self._channel.send({**dict(report), "lost": lost} if lost else dict(report))

    def _watch_again(self) -> None:
        """Watch for questions, and for room while something waits; but for no question
        while an answer waits.
        """
        channel = self._channel
        if channel.ended:
            self._engine.forget(channel.fileno())
            channel.close()
            return
        mask = select.EPOLLIN * (not self._answering)
        if channel.pending or self._reports:
            mask |= select.EPOLLOUT
        if mask != self._mask:
            self._mask = mask
            self._engine.forget(channel.fileno())
            self._engine.watch(channel.fileno(), self, mask)
